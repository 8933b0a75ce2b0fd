#!/bin/sh
# Resolve the .in files anew: one joint resolution for dev, and each role as a part of it, so that
# every machine runs the same versions. uv does not read pip's configuration; UV_FIND_LINKS does.
set -eu
cd "$(dirname "$0")"
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"../$1" -m venv "$tool"
"$tool/bin/pip" install --quiet uv

compile() {
    "$tool/bin/uv" pip compile --quiet --python-version 3.11 --no-emit-find-links \
        --no-emit-index-url --annotation-style line --custom-compile-command "make lock" "$@"
}

compile --upgrade dev.in -o dev.txt
# A CPU build carries a local version that other machines' indexes do not know.
sed -i 's/+cpu//' dev.txt
for role in base prod pc; do
    compile -c dev.txt "$role.in" -o "$role.txt"
    sed -i 's/+cpu//' "$role.txt"
done
