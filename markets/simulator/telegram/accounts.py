"""A bot's account: whom it can reach, what it sent, what people wrote to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from markets.simulator import credentials
from markets.simulator.telegram.calls import Refused
from markets.simulator.telegram.files import Files, StoredFile
from markets.simulator.telegram.limits import Limits
from markets.simulator.telegram.markup import utf16_length

Json = dict[str, Any]

# One bot per channel of `tradingsite.notices`, which is Django's and so not imported here.
TOKENS = {
    "trading": credentials.TELEGRAM_TOKEN_TRADING,
    "infrastructure": credentials.TELEGRAM_TOKEN_INFRASTRUCTURE,
    "options": credentials.TELEGRAM_TOKEN_OPTIONS,
    "brief": credentials.TELEGRAM_TOKEN_BRIEF,
}
OWNER_CHAT = int(credentials.TELEGRAM_CHAT)
GROUP_CHAT = -100_001
SUPERGROUP_CHAT = -1_001_000_000_001
KEPT = 1_000
KEPT_EDITS = 20


@dataclass(slots=True)
class Sent:
    """One message of a bot: as Telegram would show it, and what only its sender said."""

    at: float
    message: Json
    file: StoredFile | None = None
    is_quiet: bool = False
    edits: list[Json] = field(default_factory=list)

    def shown(self, channel: str) -> Json:
        """Return the message for a person or a test to read."""
        message = self.message
        return {
            "bot": channel,
            "at": self.at,
            "message_id": message["message_id"],
            "chat": message["chat"],
            "text": message.get("text"),
            "caption": message.get("caption"),
            "entities": message.get("entities") or message.get("caption_entities") or [],
            "file": self.file and {"name": self.file.name, "size": self.file.size},
            "disable_notification": self.is_quiet,
            "reply_markup": message.get("reply_markup"),
            "edits": self.edits,
        }


class Account:
    """Keep one bot's side of its chats, the last KEPT messages of it."""

    def __init__(self, channel: str, chats: Iterable[int], limits: Limits) -> None:
        self.channel = channel
        self.token = TOKENS[channel]
        bot_id = int(self.token.partition(":")[0])
        self.user: Json = {
            "id": bot_id,
            "is_bot": True,
            "first_name": f"Nightdesk {channel} (simulated)",
            "username": f"nightdesk_{channel}_bot",
        }
        self.chats = set(chats)
        self.limits = limits
        self.files = Files(bot_id)
        self.sent: dict[int, Sent] = {}
        self.presses: dict[str, Json] = {}
        self.commands: list[Json] = []
        self.allowed_updates: list[str] = []
        self.updates: deque[Json] = deque(maxlen=KEPT)
        self._message_ids = itertools.count(1)
        self._update_ids = itertools.count(1)
        self._press_ids = itertools.count(bot_id * 1_000_000)
        self._poll: asyncio.Future[None] | None = None

    def send(self, chat_id: int, content: Json, file: StoredFile | None, is_quiet: bool) -> Json:
        """Put a message into a chat and return it as Telegram does."""
        message = self._message(chat_id, self.user, content)
        self.sent[message["message_id"]] = Sent(time.time(), message, file, is_quiet)
        while len(self.sent) > KEPT:
            self.sent.pop(next(iter(self.sent)))
        return message

    def edit(self, sent: Sent, content: Json) -> Json:
        """Replace the text and the buttons of a message that was sent."""
        kept = ("message_id", "from", "chat", "date")
        sent.edits.append({"at": time.time(), "text": sent.message["text"]})
        del sent.edits[:-KEPT_EDITS]
        edited = {name: sent.message[name] for name in kept}
        sent.message = {**edited, "edit_date": int(time.time()), **content}
        return sent.message

    def receive(self, chat_id: int, user_id: int, text: str, seconds_ago: int = 0) -> Json:
        """Let a person write to the bot, which knows the chat from then on; return the update."""
        content: Json = {"text": text}
        if text.startswith("/"):
            length = utf16_length(text.split()[0])
            content["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
        message = self._message(chat_id, person(user_id), content)
        message["date"] -= seconds_ago
        self.chats.add(chat_id)
        return self._arrive("message", message)

    def press(self, message_id: int, user_id: int, button: str) -> Json:
        """Let a person press a button by its text or data; return the update, or raise Refused."""
        sent = self.sent.get(message_id)
        markup = (sent.message.get("reply_markup") if sent else None) or {}
        for each in itertools.chain.from_iterable(markup.get("inline_keyboard", [])):
            data = each.get("callback_data")
            if sent and data is not None and button in (each["text"], data):
                query_id = str(next(self._press_ids))
                self.presses[query_id] = {"message_id": message_id, "data": data, "answer": None}
                while len(self.presses) > KEPT:
                    self.presses.pop(next(iter(self.presses)))
                query = {
                    "id": query_id,
                    "from": person(user_id),
                    "message": sent.message,
                    "chat_instance": str(sent.message["chat"]["id"]),
                    "data": data,
                }
                return self._arrive("callback_query", query)
        raise Refused(400, f"message {message_id} has no button {button!r}")

    async def poll(self, offset: int, limit: int, seconds: float) -> list[Json]:
        """Confirm the updates before `offset`, then return the next, waiting for one if need be.

        A newer poll ends an older one, which is refused: two programs with one token take turns
        at failing.
        """
        if self._poll and not self._poll.done():
            why = "terminated by other getUpdates request; make sure that only one bot instance"
            self._poll.set_exception(Refused(409, f"Conflict: {why} is running"))
        if offset < 0 and self.updates:  # from the end: -1 forgets all but the last
            offset = self.updates[max(offset, -len(self.updates))]["update_id"]
        while self.updates and self.updates[0]["update_id"] < offset:
            self.updates.popleft()
        if not self.updates and seconds > 0:
            self._poll = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poll, seconds)
        return list(itertools.islice(self.updates, limit))

    def _arrive(self, kind: str, content: Json) -> Json:
        update = {"update_id": next(self._update_ids), kind: content}
        if not self.allowed_updates or kind in self.allowed_updates:
            self.updates.append(update)
            if self._poll and not self._poll.done():
                self._poll.set_result(None)
        return update

    def _message(self, chat_id: int, author: Json, content: Json) -> Json:
        return {
            "message_id": next(self._message_ids),
            "from": author,
            "chat": chat(chat_id),
            "date": int(time.time()),
            **content,
        }


def person(user_id: int) -> Json:
    """Return a user who is no bot."""
    return {"id": user_id, "is_bot": False, "first_name": f"Person {user_id}"}


def chat(chat_id: int) -> Json:
    """Return a chat: a group where its id is negative, else the private one of a person."""
    if chat_id < 0:
        return {"id": chat_id, "type": "group", "title": "Nightdesk (simulated)"}
    return {"id": chat_id, "type": "private", "first_name": f"Person {chat_id}"}
