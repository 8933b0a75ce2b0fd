"""The wire of the simulated Telegram: the bots' side, and a person's.

A bot's library is pointed here by `base_url="http://host:port/bot"` and
`base_file_url="http://host:port/file/bot"`. A person or a test
reads what the bots sent:   GET /_sim/telegram?bot=trading
writes to a bot:            POST /_sim/telegram {"bot", "chat_id", "user_id", "text"}
presses a button:           POST /_sim/telegram/press {"bot", "message_id", "user_id", "button"}
Whoever writes makes their chat known to the bot; `seconds_ago` makes a message old.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from markets.simulator.faults import Fault, Faults, cut
from markets.simulator.telegram.accounts import (
    GROUP_CHAT,
    OWNER_CHAT,
    SUPERGROUP_CHAT,
    TOKENS,
    Account,
)
from markets.simulator.telegram.calls import Call, Refused, flood, read_call
from markets.simulator.telegram.files import MEGABYTE, UPLOAD_BYTES
from markets.simulator.telegram.limits import Limits
from markets.simulator.telegram.methods import METHODS, WRITING

PATH = "/_sim/telegram"
LONGEST_POLL_SECONDS = 50
MOST_UPDATES = 100
FAULTS = {
    "flood": "refuses a message with 429, to be tried again after `seconds`",
    "silence": "does what it is asked and says nothing for `seconds`, then closes the connection",
    "blocked": "refuses a message with 403: the person has blocked the bot",
    "upgraded": "refuses a message with 400: its group has become a supergroup of another id",
}


class Telegram:
    """Serve the four bots of the desk, and show what they do."""

    def __init__(
        self,
        chats: Iterable[int] = (OWNER_CHAT, GROUP_CHAT, SUPERGROUP_CHAT),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the chats that every bot may write to, and the real time that limits count by."""
        self.faults = Faults(FAULTS)
        known = set(chats)
        self._accounts = {channel: Account(channel, known, Limits(now)) for channel in TOKENS}

    def app(self) -> web.Application:
        """Return the application that answers bots and people."""
        app = web.Application(
            middlewares=[self.faults.middleware()], client_max_size=UPLOAD_BYTES + MEGABYTE
        )
        app.add_routes(
            [
                web.get(PATH, self._on_list),
                web.post(PATH, self._on_message),
                web.post(f"{PATH}/press", self._on_press),
                *self.faults.routes(),
                web.get("/file/bot{token:[^/]+}/{path:.+}", self._on_file),
                web.route("*", "/{path:.*}", self._on_call),
            ]
        )
        return app

    async def _on_call(self, request: web.Request) -> web.Response:
        try:
            return await self._answer(request)
        except Refused as refusal:
            return refusal.response()

    async def _answer(self, request: web.Request) -> web.Response:
        token, _, method = request.path.removeprefix("/bot").partition("/")
        if not request.path.startswith("/bot") or ":" not in token:
            raise Refused(404, "Not Found")
        account, name = self._by_token(token), method.lower()
        call = await read_call(request)
        what = f"{request.method} {request.path}"
        if name == "getupdates":
            # A silent poll hangs: what it would have brought waits, since nobody confirmed it.
            if silence := self.faults.take("silence", what):
                return await _silent(request, silence)
            return _result(await self._updates(account, call))
        if name not in METHODS:
            raise Refused(404, "Not Found: method not found")
        if name in WRITING:
            self._disturb(what)
        result = METHODS[name](account, call)
        if silence := self.faults.take("silence", what):
            return await _silent(request, silence)
        return _result(result)

    def _disturb(self, what: str) -> None:
        if fault := self.faults.take("flood", what):
            raise flood(math.ceil(fault.seconds))
        if self.faults.take("blocked", what):
            raise Refused(403, "Forbidden: bot was blocked by the user")
        if self.faults.take("upgraded", what):
            why = "group chat was upgraded to a supergroup chat"
            raise Refused(400, f"Bad Request: {why}", moved_to=SUPERGROUP_CHAT)

    async def _updates(self, account: Account, call: Call) -> list[dict[str, Any]]:
        allowed = call.structure("allowed_updates")
        if isinstance(allowed, list):
            account.allowed_updates = allowed
        limit = min(max(call.integer("limit", MOST_UPDATES), 1), MOST_UPDATES)
        seconds = min(call.integer("timeout"), LONGEST_POLL_SECONDS)
        return await account.poll(call.integer("offset"), limit, seconds)

    def _by_token(self, token: str) -> Account:
        for account in self._accounts.values():
            if account.token == token:
                return account
        raise Refused(401, "Unauthorized")

    async def _on_file(self, request: web.Request) -> web.Response:
        try:
            account = self._by_token(request.match_info["token"])
            stored = account.files.at(request.match_info["path"])
            if stored is None or stored.content is None:
                raise Refused(404, "Not Found")
        except Refused as refusal:
            return refusal.response()
        return web.Response(body=stored.content, content_type="application/octet-stream")

    async def _on_list(self, request: web.Request) -> web.Response:
        wanted = request.query.get("bot")
        accounts = [each for each in self._accounts.values() if wanted in (None, each.channel)]
        sent = [sent.shown(each.channel) for each in accounts for sent in each.sent.values()]
        return web.json_response(
            {
                "sent": sorted(sent, key=lambda each: float(each["at"])),
                "presses": {each.channel: each.presses for each in accounts},
                "commands": {each.channel: each.commands for each in accounts},
                "waiting": {each.channel: len(each.updates) for each in accounts},
            }
        )

    async def _on_message(self, request: web.Request) -> web.Response:
        return await self._act(request, Account.receive)

    async def _on_press(self, request: web.Request) -> web.Response:
        return await self._act(request, Account.press)

    async def _act(self, request: web.Request, act: Callable[..., Any]) -> web.Response:
        """Let a person do something to a bot: the body names the bot and what `act` takes."""
        try:
            body = await request.json()
            account = self._accounts[body.pop("bot")]
            return web.json_response(act(account, **body))
        except KeyError:
            error = f"name a bot of {', '.join(TOKENS)}"
        except (ValueError, TypeError, AttributeError, Refused) as problem:
            error = str(problem)
        return web.json_response({"error": error}, status=400)


def _result(result: Any) -> web.Response:
    return web.json_response({"ok": True, "result": result})


async def _silent(request: web.Request, fault: Fault) -> web.Response:
    await asyncio.sleep(fault.seconds)
    return cut(request)
