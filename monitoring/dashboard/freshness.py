"""The streams that the pages show: the markets' own from their books, and those registered."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable

from django.conf import settings

from markets import freshness
from markets.freshness import Stream
from monitoring.dashboard.books import DOES_NOT_ANSWER, Book

log = logging.getLogger(__name__)


def streams(books: Iterable[Book], now: dt.datetime, speed: float) -> list[Stream]:
    """Return one line per market and timeframe, one per last price, and one per other stream."""
    found = []
    for book in books:
        if book.error:
            continue
        title, calendar = book.market.title, book.calendar
        for timeframe in book.market.timeframes:
            datum = freshness.bars(calendar, book.bars.get(timeframe), now)
            found.append(freshness.judge(f"{title} {timeframe} bars", datum, now, speed))
        at = book.quote.at if book.quote else None
        datum = freshness.last_price(calendar, at, now)
        found.append(freshness.judge(f"{title} last price", datum, now, speed))
        for name, each in book.beside.items():
            found.append(freshness.judge(name, each, now, speed))
    return found + _registered(now, speed)


def _registered(now: dt.datetime, speed: float) -> list[Stream]:
    found = []
    for title, (alias, source) in freshness.registered().items():
        if alias not in settings.DATABASES:
            continue
        try:
            found.append(freshness.judge(title, source(now), now, speed))
        except DOES_NOT_ANSWER as error:
            log.warning("the %s database does not answer: %s", alias, error)
            words = f"the {alias} database does not answer"
            found.append(Stream(title, "late", None, None, words))
    return found
