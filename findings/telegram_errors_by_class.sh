#!/usr/bin/env bash
# python-telegram-bot 22.8: retrying on NetworkError repeats what was refused, and not what was lost.
#
# The library has NetworkError for trouble on the way and BadRequest for what Telegram refuses, so a
# good guess is: retry on NetworkError, give up on BadRequest, and what is no answer of Telegram's is
# a NetworkError. Seen instead:
#   * a refusal (HTTP 400, ok: false) raises BadRequest, which is a subclass of NetworkError: `except
#     NetworkError: retry` sends the same refused message for ever;
#   * a page of HTML with status 200 (a captive portal, a proxy's login) raises TelegramError itself,
#     "Invalid server response", which is no NetworkError: such a retry does not cover it;
#   * the same page with status 502 is a NetworkError.
# Output seen: "refused: BadRequest, NetworkError: True", "login page: TelegramError, NetworkError:
#              False", "bad gateway: NetworkError, NetworkError: True".
# What to do: decide by the kind of the error, BadRequest first, and count a bare TelegramError as the
# network's. Speaks to a server of its own on this machine only. Needs PyPI. Exit 0: as seen.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check python-telegram-bot==22.8
cat > "$folder/seen.py" <<'PYTHON'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from telegram import Bot
from telegram.error import NetworkError, TelegramError

PAGE = b"<html><body>Please sign in</body></html>"
REFUSED = json.dumps({"ok": False, "error_code": 400, "description": "Bad Request: chat not found"})
ANSWERS = {"refused": (400, REFUSED.encode()), "login page": (200, PAGE), "bad gateway": (502, PAGE)}
answer = ANSWERS["refused"]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(answer[1])))
        self.end_headers()
        self.wfile.write(answer[1])

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


async def ask():
    bot = Bot("1:token", base_url=f"http://127.0.0.1:{server.server_port}/bot")
    try:
        await bot.send_message(1, "x")
    except TelegramError as error:
        return error


found = []
for name, answer in ANSWERS.items():
    error = asyncio.run(ask())
    found.append(f"{name}: {type(error).__name__}, NetworkError: {isinstance(error, NetworkError)}")
print("\n".join(found))
assert found == [
    "refused: BadRequest, NetworkError: True",
    "login page: TelegramError, NetworkError: False",
    "bad gateway: NetworkError, NetworkError: True",
], found
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
