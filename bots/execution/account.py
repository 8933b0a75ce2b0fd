"""What the venue says of the account just before orders go out: position, price, margin.

All of it is asked at once and, at a venue over the network, while the decision is being made, so
that the order need not wait for it. What the venue does not say is not guessed: an exit without a
position to hold it against goes out only where the venue itself promises that it cannot open one.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import TypeVar

from django.conf import settings

from markets.venues.base import Holding, Venue
from tradingsite.errors import Degraded, Retry

ANSWER_WITHIN_SECONDS = 10.0
"""Of a whole look: more than a venue's client waits for one answer."""
STALE_SECONDS = 6.0
"""Older than that, a look is no ground for new risk: it was decided on other prices."""
_WORKERS = 4

log = logging.getLogger(__name__)
T = TypeVar("T")


class AccountView:
    """Ask a venue once for what the orders of one decision need to know; answers may be missing."""

    def __init__(self, venue: Venue, instruments: Iterable[str], lot_size: Decimal) -> None:
        """Begin to ask; nothing is waited for before it is needed."""
        self._venue = venue
        self._sent: list[tuple[str, str, Decimal]] = []
        self._began = time.monotonic()
        names = sorted(set(instruments))
        self.instruments = frozenset(names)
        self._holdings = self._ask(venue.holdings)
        self._prices = {name: self._ask(partial(venue.quote, name)) for name in names}
        self._margins = self._ask(venue.margins)
        self._lot_size = lot_size
        self._lot_margins = {
            name: self._ask(partial(venue.margin_needed, name, lot_size)) for name in names
        }

    def holdings(self) -> list[Holding] | None:
        """Return what the account held, with what went out since; None where it is not known."""
        found = self._answer(self._holdings)
        if found is None:
            return None
        return [*found, *(Holding(name, each, product) for name, product, each in self._sent)]

    def legs(self, instrument: str) -> dict[str, Decimal] | None:
        """Return the quantity of an instrument by product; None where it is not known."""
        holdings = self.holdings()
        if holdings is None:
            return None
        return _by_product(holdings, instrument)

    def legs_as_seen(self, instrument: str) -> dict[str, Decimal] | None:
        """Return the same as it was when the venue was asked, whatever went out since."""
        holdings = self._answer(self._holdings)
        return None if holdings is None else _by_product(holdings, instrument)

    def price(self, instrument: str) -> Decimal | None:
        """Return the last price of an instrument, None where the venue does not say."""
        asked = self._prices.get(instrument)
        return self._answer(asked) if asked is not None else None

    def margin(self, instrument: str, quantity: Decimal) -> tuple[Decimal, Decimal] | None:
        """Return what a quantity would bind and what is free; None where the venue does not say."""
        asked = self._lot_margins.get(instrument)
        needed = self._answer(asked) if asked is not None else None
        margins = self._answer(self._margins)
        if margins is None or needed is None:
            return None
        return needed * abs(quantity) / self._lot_size, margins.available

    def sent(self, instrument: str, product: str, quantity: Decimal) -> None:
        """Count an order that went out after the account was looked at as filled already."""
        self._sent.append((instrument, product, quantity))

    def age_seconds(self) -> float:
        """Return for how long the venue has had the questions."""
        return time.monotonic() - self._began

    def _ask(self, question: Callable[[], T]) -> "Future[T]":
        if self._venue.is_remote:
            return _pool().submit(question)
        answer: Future[T] = Future()
        try:
            answer.set_result(question())
        except (Retry, Degraded) as error:
            answer.set_exception(error)
        return answer

    def _answer(self, asked: "Future[T]") -> T | None:
        try:
            return asked.result(max(ANSWER_WITHIN_SECONDS - self.age_seconds(), 0.0))
        except (Retry, Degraded, TimeoutError) as error:
            log.warning("%s does not say: %s", self._venue.name, error)
            return None


def _by_product(holdings: Iterable[Holding], instrument: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for each in holdings:
        if each.instrument == instrument:
            found[each.product] = found.get(each.product, Decimal(0)) + each.quantity
    return found


_pools: list[ThreadPoolExecutor] = []


def _pool() -> ThreadPoolExecutor:
    if not _pools:
        _pools.append(ThreadPoolExecutor(_WORKERS, thread_name_prefix=f"{settings.MODE}-venue"))
    return _pools[0]
