"""The four channels: which bot speaks, to which chat, and how fast it may."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from markets.venues.limiter import RateLimiter, Rule
from tradingsite.notices import CHANNELS

# https://core.telegram.org/bots/faq: 30 messages a second for a bot, one a second to a chat, with
# short bursts, and 20 a minute to a group. Kept a little below, for the real count is Telegram's.
BOT_RULE = Rule("messages a second", 25, 1.0, ("message",))
GROUP_RULE = Rule("messages a minute", 18, 60.0, ("message",))
PRIVATE_RULES = (
    Rule("messages a second", 3, 1.0, ("message",)),
    Rule("messages in ten seconds", 9, 10.0, ("message",)),
)


@dataclass(frozen=True, slots=True)
class Channel:
    """A bot and the chat it speaks to."""

    name: str
    token: str
    chat: str


def configured() -> dict[str, Channel]:
    """Return the channels that have a bot and a chat; the others are shown on the page alone."""
    found = {}
    for name in CHANNELS:
        token = settings.TELEGRAM_TOKENS.get(name, "")
        chat = settings.TELEGRAM_CHATS.get(name, "")
        if token and chat:
            found[name] = Channel(name, token, chat)
    return found


def limiters(channel: Channel, chat: str) -> tuple[RateLimiter, RateLimiter]:
    """Return what holds a bot, and what holds it in one chat, to Telegram's limits.

    They are files that all processes of this machine share.
    """
    folder = Path(settings.DATA_DIR) / "limits"
    # The bot's number is public; its token stays out of any file's name.
    bot = channel.token.partition(":")[0]
    place = hashlib.sha256(f"{bot}/{chat}".encode()).hexdigest()[:12]
    rules = (GROUP_RULE,) if chat.startswith(("-", "@")) else PRIVATE_RULES
    return (
        RateLimiter(folder / f"telegram-{bot}", (BOT_RULE,)),
        RateLimiter(folder / f"telegram-{bot}-{place}", rules),
    )
