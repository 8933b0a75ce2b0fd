#!/usr/bin/env bash
# celery 5.7.0, kombu 5.7.0, redis 8.1.0: installed without complaint, and no message can be sent.
#
# Celery names redis as a broker and both packages install with `pip install celery redis`; `pip check`
# finds nothing missing, and importing celery and redis works. A good guess is that a task can then be
# sent. Seen: kombu's transport for redis imports `packaging`, which kombu declares for its extra
# [redis] alone, so the first connection ends in ModuleNotFoundError. `pip install celery[redis]`
# brings it, and keeps redis below the version that kombu was not made for.
# Output seen: "pip check: fine", "first connection: No module named 'packaging'".
# What to do: require celery[redis], or packaging by name. Needs PyPI, no server. Exit 0: as seen.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check celery==5.7.0 kombu==5.7.0 redis==8.1.0
checked=$("$folder/venv/bin/pip" check --disable-pip-version-check >/dev/null && echo fine || echo broken)
cat > "$folder/seen.py" <<'PYTHON'
import sys

import celery
import redis

assert celery and redis
app = celery.Celery("x", broker="redis://127.0.0.1:1/0")
try:
    app.connection().transport
    said = "works"
except ModuleNotFoundError as error:
    said = str(error)
found = [f"pip check: {sys.argv[1]}", f"first connection: {said}"]
print("\n".join(found))
assert found == ["pip check: fine", "first connection: No module named 'packaging'"], found
PYTHON
"$folder/venv/bin/python" "$folder/seen.py" "$checked"
