"""One message to Telegram by python-telegram-bot, and what its answer means for us.

The library is asynchronous and its connections belong to one loop, so a thread of our own runs that
loop. Its errors are read by kind and not by class: a refused request *is* a NetworkError there, a
login page that answers 200 is not, and a time-out says nothing about whether the message is there.
"""

import asyncio
import datetime as dt
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import telegram
from telegram import error as refusals
from telegram.constants import ParseMode
from telegram.request import HTTPXRequest

from monitoring.delivery.markup import plain
from tradingsite.errors import Retry

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 15.0
PHOTOS = {".png", ".jpg", ".jpeg"}
# By the cause that the library keeps: in these the request never left, whatever they are called.
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_CLOSED = ("chat not found", "bot was kicked", "not enough rights", "have no rights")
_LOST = ("message to edit not found", "message can't be edited")
T = TypeVar("T")


class Unsent(Retry):
    """The message did not leave: send it again."""


class Uncertain(Retry):
    """Nobody knows whether the message is there: send it again and say so."""


class Flooded(Retry):
    """Telegram wants us to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Telegram asks for a pause of {seconds:.0f} s")
        self.seconds = seconds


class Moved(Retry):
    """The group has become a supergroup of another id."""

    def __init__(self, chat: str) -> None:
        super().__init__(f"the chat is {chat} now")
        self.chat = chat


class Closed(Retry):
    """The chat or the bot takes nothing until a person does something about it."""


class Refused(Exception):
    """This message will never be taken; others may."""


class BadMarkup(Refused):
    """Telegram cannot read the message's HTML."""


class EditLost(Refused):
    """The message to be edited is not there any more."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is asked of Telegram: a new message, or with an id the editing of one."""

    token: str
    chat: str
    html: str
    is_silent: bool = True
    is_plain: bool = False
    file: Path | None = None
    message_id: int | None = None


class Transport:
    """Speak to Telegram from a thread of its own; `close` ends it."""

    def __init__(self, root: str) -> None:
        """Take the address of the Bot API."""
        self._root = root
        self._bots: dict[str, telegram.Bot] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="telegram", daemon=True)
        self._thread.start()

    def send(self, message: Outgoing) -> int:
        """Send or edit one message and return its id; raise what its answer means."""
        try:
            return self.run(self._send(message))
        except refusals.TelegramError as error:
            raise meaning(error, message.token) from error

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do asynchronous work in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(4 * ANSWER_SECONDS)

    def bot(self, token: str) -> telegram.Bot:
        """Return the bot of a token, for use in the loop."""
        if token not in self._bots:
            request = HTTPXRequest(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=ANSWER_SECONDS,
                write_timeout=ANSWER_SECONDS,
                media_write_timeout=2 * ANSWER_SECONDS,
            )
            self._bots[token] = telegram.Bot(
                token,
                base_url=f"{self._root}/bot",
                base_file_url=f"{self._root}/file/bot",
                request=request,
            )
        return self._bots[token]

    def close(self) -> None:
        """End the connections and the thread."""
        for bot in self._bots.values():
            self.run(bot.request.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _send(self, message: Outgoing) -> int:
        bot = self.bot(message.token)
        text = plain(message.html) if message.is_plain else message.html
        mode = None if message.is_plain else ParseMode.HTML
        if message.message_id is not None:
            try:
                await bot.edit_message_text(text, message.chat, message.message_id, parse_mode=mode)
            except refusals.BadRequest as error:
                if "not modified" not in error.message.lower():  # that one says: it is so already
                    raise
            return message.message_id
        options: dict[str, Any] = {
            "chat_id": message.chat,
            "parse_mode": mode,
            "disable_notification": message.is_silent,
        }
        if message.file is None:
            return (await bot.send_message(text=text, **options)).message_id
        content = message.file.read_bytes()
        options |= {"caption": text, "filename": message.file.name}
        if message.file.suffix in PHOTOS:
            return (await bot.send_photo(photo=content, **options)).message_id
        return (await bot.send_document(document=content, **options)).message_id


def meaning(error: refusals.TelegramError, token: str) -> Exception:
    """Return what an error of the library's means for a message; no token is in its words."""
    text = redacted(error.message, token)
    if isinstance(error, refusals.RetryAfter):
        wait = error.retry_after
        return Flooded(wait.total_seconds() if isinstance(wait, dt.timedelta) else float(wait))
    if isinstance(error, refusals.ChatMigrated):
        return Moved(str(error.new_chat_id))
    if isinstance(error, refusals.InvalidToken):
        return Closed("Telegram does not know the bot's token")
    if isinstance(error, refusals.Forbidden) or any(each in text.lower() for each in _CLOSED):
        return Closed(text)
    if isinstance(error, refusals.BadRequest):
        kind = BadMarkup if "can't parse entities" in text.lower() else Refused
        return (EditLost if any(each in text.lower() for each in _LOST) else kind)(text)
    if isinstance(error.__cause__, _NEVER_LEFT):
        return Unsent(f"Telegram cannot be reached: {type(error.__cause__).__name__}")
    # A time-out, a connection cut, a gateway's error, or an answer that is not Telegram's.
    return Uncertain(f"no answer of Telegram's: {text}")


def redacted(text: str, token: str) -> str:
    """Return a text without a token: only its secret half is one."""
    secret = token.partition(":")[2]
    return text.replace(secret, "...") if secret else text
