"""Which bar comes next by the calendar, and longer bars made of shorter ones on its boundaries."""

from __future__ import annotations

import numpy as np

from markets.domain import timeframes
from markets.domain.bar_rule import expected
from markets.domain.bars import Bars
from markets.domain.calendar import Calendar
from tradingsite.clock import Epoch

# No two sessions of the exchange are further apart.
_NEWEST_REACH_SECONDS = 20 * 86_400


def newest(calendar: Calendar, timeframe: str, at: Epoch) -> tuple[int, int] | None:
    """Return the open and close of the last bar that has closed by an instant."""
    opens, closes = expected(calendar, timeframe, at - _NEWEST_REACH_SECONDS, at)
    return (int(opens[-1]), int(closes[-1])) if len(opens) else None


def next_close(calendar: Calendar, timeframe: str, last_open: Epoch) -> int | None:
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


def finer(timeframe: str) -> list[str]:
    """Return the timeframes a longer one can be made of, longest first; never a day.

    A day's close is the exchange's own average of its last half hour, which no bar within the day
    ends at.
    """
    length = timeframes.seconds(timeframe)
    if timeframe == "1d":
        return []
    whole = {name: each for name, each in timeframes.SECONDS.items() if each < length}
    return sorted(
        (name for name, each in whole.items() if length % each == 0),
        key=timeframes.seconds,
        reverse=True,
    )


def aggregate(fine: Bars, fine_timeframe: str, timeframe: str, calendar: Calendar) -> Bars:
    """Return the longer bars that shorter ones make up, on the boundaries of the sessions.

    One that lacks any of its parts is left out, for half a bar looks like a whole one.
    """
    if not len(fine):
        return fine
    span = Epoch(fine.opens_at[0]), Epoch(fine.closes_at[-1])
    parts, _ = expected(calendar, fine_timeframe, *span)
    # From the session's open on, so that a part whose first is missing is seen to miss it.
    session = calendar.session_at(Epoch(parts[0])) if len(parts) else None
    if session is None:
        return Bars.empty()
    # Two days further, so that a longer bar that is still open is seen to lack its last parts.
    until = span[1] + 2 * 86_400
    parts, _ = expected(calendar, fine_timeframe, session.opens_at, until)
    longer, closes = expected(calendar, timeframe, session.opens_at, until)
    owner = np.searchsorted(longer, parts, side="right") - 1
    known = owner >= 0
    parts, owner = parts[known], owner[known]
    present = np.isin(parts, fine.opens_at)
    is_whole = np.ones(len(longer), dtype=bool)
    np.logical_and.at(is_whole, owner, present)
    is_whole &= np.isin(np.arange(len(longer)), owner)
    rows = np.searchsorted(fine.opens_at, parts[is_whole[owner]])
    owners = owner[is_whole[owner]]
    if not len(rows):
        return Bars.empty()
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    lasts = np.append(starts[1:], len(rows)) - 1
    whole = owners[starts]
    return Bars(
        longer[whole],
        closes[whole],
        fine.open[rows][starts],
        np.maximum.reduceat(fine.high[rows], starts),
        np.minimum.reduceat(fine.low[rows], starts),
        fine.close[rows][lasts],
        np.add.reduceat(fine.volume[rows], starts),
    )
