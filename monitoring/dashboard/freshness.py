"""How old each stream of data is, and when its next piece is due by the market's calendar."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from markets.calendar import Calendar
from markets.models import Source
from monitoring.dashboard.books import Book
from tradingsite import clock

# A bar is written a little after it closes: real seconds for the write, market seconds for a feed.
GRACE_REAL_SECONDS = 20.0
GRACE_MARKET_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: its last piece, when the next is due, and a word for its state.

    state is fresh, late, closed (the market is, or nothing feeds it) or empty.
    """

    title: str
    state: str
    last_at: dt.datetime | None
    due_at: dt.datetime | None
    note: str = ""

    @property
    def mark(self) -> str:
        """Return the mark that is drawn for the state."""
        return {"fresh": "ok", "late": "warn", "closed": "idle", "empty": "none"}[self.state]


def streams(books: Iterable[Book], now: dt.datetime, speed: float) -> list[Stream]:
    """Return one line per market and timeframe, and one per market for its last price."""
    found = []
    for book in books:
        if book.error:
            continue
        for timeframe in book.market.timeframes:
            found.append(_bars(book, timeframe, now, speed))
        found.append(_quote(book, now, speed))
    return found


def next_close(calendar: Calendar, timeframe: str, last_open: int) -> int | None:
    """Return when the bar after the one that opened at `last_open` closes, None past the calendar.

    Times are epoch seconds UTC.
    """
    session = calendar.session_at(last_open) or calendar.next_session(last_open)
    while session is not None:
        opens = [at for at in calendar.bar_opens(timeframe, session.date) if at > last_open]
        if opens:
            return int(calendar.closes_at(timeframe, np.array(opens[:1], dtype=np.int64))[0])
        session = calendar.next_session(session.opens_at)
    return None


def _bars(book: Book, timeframe: str, now: dt.datetime, speed: float) -> Stream:
    title = f"{book.market.title} {timeframe} bars"
    newest = book.bars.get(timeframe)
    if newest is None:
        return Stream(title, "empty", None, None, "none stored yet")
    if newest.source == Source.IMPORTED:
        return Stream(title, "closed", newest.closes_at, None, "imported; no feed adds to them")
    due = next_close(book.calendar, timeframe, int(newest.opens_at.timestamp()))
    if due is None:
        return Stream(title, "closed", newest.closes_at, None, "the calendar ends here")
    due_at = clock.from_seconds(due)
    if now > due_at + _grace(speed):
        return Stream(title, "late", newest.closes_at, due_at, newest.source)
    is_open = book.calendar.is_open(int(now.timestamp()))
    return Stream(title, "fresh" if is_open else "closed", newest.closes_at, due_at, newest.source)


def _quote(book: Book, now: dt.datetime, speed: float) -> Stream:
    title = f"{book.market.title} last price"
    if book.quote is None:
        return Stream(title, "empty", None, None, "none stored yet")
    at = book.quote.at
    if not book.calendar.is_open(int(now.timestamp())):
        session = book.calendar.next_session(int(now.timestamp()))
        due = clock.from_seconds(session.opens_at) if session else None
        return Stream(title, "closed", at, due)
    return Stream(title, "late" if now > at + _grace(speed) else "fresh", at, None)


def _grace(speed: float) -> dt.timedelta:
    return dt.timedelta(seconds=max(GRACE_REAL_SECONDS * speed, GRACE_MARKET_SECONDS))
