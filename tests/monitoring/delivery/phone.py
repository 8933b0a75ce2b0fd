"""A simulated Telegram with the owner's phone before it, and the desk's sender pointed at it."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.test import override_settings

from markets.simulator.telegram import Telegram
from monitoring.delivery import planning, sending
from monitoring.delivery.transport import Transport
from tests.markets.simulator.served import served

CHAT = "1"


class Phone:
    """What the owner sees, and a sender."""

    def __init__(self, telegram: Telegram, url: str) -> None:
        self.telegram = telegram
        self.url = url
        self.transport = Transport(url)

    def shown(self, channel: str = "") -> list[dict[str, Any]]:
        """Return the messages in the order in which they came."""
        query = f"?bot={channel}" if channel else ""
        with urllib.request.urlopen(f"{self.url}/_sim/telegram{query}") as answer:  # noqa: S310
            return list(json.load(answer)["sent"])

    def texts(self, channel: str = "") -> list[str]:
        """Return what a person reads."""
        return [each["text"] or each["caption"] or "" for each in self.shown(channel)]

    def fault(self, kind: str, times: int = 1, seconds: float = 0.0, match: str = "") -> None:
        """Have the next requests go wrong."""
        self.telegram.faults.put(kind, times=times, seconds=seconds, match=match)

    def drain(self, rounds: int = 60) -> int:
        """Plan and send until nothing more goes out; return how many did."""
        planning.plan()
        return sum(1 for _ in range(rounds) if sending.send_due(self.transport))


@contextmanager
def phone() -> Iterator[Phone]:
    """Serve a Telegram; the settings name it for as long as the block lasts."""
    telegram = Telegram()
    with served(telegram.app()) as url, override_settings(TELEGRAM_ROOT=url):
        owner = Phone(telegram, url)
        try:
            yield owner
        finally:
            owner.transport.close()
