#!/bin/sh
# Make the virtual environment with a Python that the locked requirements support.
set -eu
venv=$1
supported='import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))'

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c "$supported"; then
    exit 0
fi
for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if command -v "$name" >/dev/null 2>&1 && "$name" -c "$supported" 2>/dev/null; then
        python=$name
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "Nightdesk needs Python 3.11, 3.12 or 3.13, and none was found on PATH." >&2
    echo "Install one (on Debian: apt install python3.11 python3.11-venv) or name it:" >&2
    echo "    make install PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$python has no venv module. On Debian: apt install $("$python" -c \
        'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2
    exit 1
fi
rm -rf "$venv"
"$python" -m venv "$venv"
