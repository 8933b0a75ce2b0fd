"""A Telegram Bot API of our own, good enough for python-telegram-bot and for our alerts."""

from markets.simulator.telegram.accounts import GROUP_CHAT, OWNER_CHAT, TOKENS
from markets.simulator.telegram.server import Telegram

__all__ = ["GROUP_CHAT", "OWNER_CHAT", "TOKENS", "Telegram"]
