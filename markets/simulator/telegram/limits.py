"""How fast a bot may write, by real time (https://core.telegram.org/bots/faq, "My bot is hitting").

Telegram publishes 30 messages a second for a bot, 20 a minute for a group, and one a second for a
private chat with "short bursts"; it does not say how short, so ten is an assumption. A bucket
drains steadily: that lets a sender pass that keeps to the same figures, whatever its rhythm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Bucket:
    """Let `count` through at once, and `count` in `seconds` for as long as it goes on."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._rate = count / seconds
        self._level = 0.0
        self._at = -math.inf

    def wait(self, now: float) -> float:
        """Return after how many seconds one more fits, 0 where it fits now."""
        self._level = max(0.0, self._level - (now - self._at) * self._rate)
        self._at = now
        return max(0.0, self._level + 1 - self._count) / self._rate

    def add(self) -> None:
        """Count one that went through."""
        self._level += 1


class Limits:
    """Keep the limits of one bot: of all it sends, and of each chat."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._bot = Bucket(30, 1.0)
        self._chats: dict[int, Bucket] = {}

    def admit(self, chat_id: int) -> int:
        """Count a message and return 0, or return after how many whole seconds to try again."""
        if chat_id not in self._chats:
            self._chats[chat_id] = Bucket(20, 60.0) if chat_id < 0 else Bucket(10, 10.0)
        buckets = (self._bot, self._chats[chat_id])
        now = self._now()
        # Rounded, because a wait of a millionth is only the arithmetic's.
        if seconds := round(max(bucket.wait(now) for bucket in buckets), 6):
            return math.ceil(seconds)
        for bucket in buckets:
            bucket.add()
        return 0
