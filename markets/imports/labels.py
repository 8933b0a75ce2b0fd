"""What the times of a file mean, settled by the calendar over all of it and never by one row.

A time may be a bar's start, its end or its last second, and its zone may be unknown. Each session
of the file speaks by its first and its last row: one that begins at the open and ends a bar before
the close has starts, one that begins a bar after the open and ends at the close has ends.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from markets.domain.bars import BoolArray, IntArray
from markets.domain.calendar import DAY_SECONDS, IST_OFFSET_SECONDS, Calendar
from markets.imports.files import BadFile
from markets.imports.format import INDIA, UTC
from markets.imports.reading import ReadOptions, Table

# So many sessions must agree for each that does not.
AGREEING = 20
# The exchange's own session before the open; what is earlier is another mistake.
PRE_OPEN_SECONDS = 1_800
_HOUR = 3_600
_WORDS = {"start": "starts", "end": "ends", "last": "last seconds"}


@dataclass(frozen=True, slots=True)
class Votes:
    """Count the sessions that a file holds rows of, and what their first and last rows say."""

    sessions: int
    start: int
    end: int

    def label(self) -> str:
        """Return start or end where the sessions agree, else nothing."""
        if self.start and self.start >= AGREEING * self.end:
            return "start"
        return "end" if self.end and self.end >= AGREEING * self.start else ""


def settle(tables: Sequence[Table], calendar: Calendar, seconds: int, options: ReadOptions) -> None:
    """Make the labels of tables of one format the opens of bars, UTC, and tell what was settled.

    Rows of before the open are set aside. Raises BadFile for what only the user can say.
    """
    opens, closes = calendar.edges()
    for table in tables:
        _to_utc(table, tables, calendar, seconds, options)
    label = _label(tables, opens, closes, seconds, options)
    for table in tables:
        if label == "last":
            table.at = table.at + 1 - seconds
        elif label == "end":
            table.at = _opens_of_ends(table.at, opens, closes, seconds)
        if len(opens):
            _set_aside(table, opens, seconds)


def settle_days(table: Table, *, has_sessions: bool) -> None:
    """Make the labels of daily bars the Indian midnights of their dates, or UTC's."""
    offset = IST_OFFSET_SECONDS if has_sessions else 0
    at = table.at if table.is_naive else table.at + offset
    table.at, table.is_naive = at // DAY_SECONDS * DAY_SECONDS - offset, False


def count_votes(at: IntArray, opens: IntArray, closes: IntArray, seconds: int) -> Votes:
    """Return what the first and last rows of each session say; `at` ascends, epoch seconds."""
    session = np.searchsorted(opens, at, side="right") - 1
    inside = (session >= 0) & (at <= closes[session])
    at, session = at[inside], session[inside]
    if not len(at):
        return Votes(0, 0, 0)
    firsts = np.flatnonzero(np.diff(session, prepend=-1))
    lasts = np.append(firsts[1:], len(at)) - 1
    opened, closed = opens[session[firsts]], closes[session[firsts]]
    first, last = at[firsts], at[lasts]
    tail = (closed - opened) % seconds
    tail = np.where(tail == 0, seconds, tail)
    start = (first == opened) & (last == closed - tail)
    end = (first == np.minimum(opened + seconds, closed)) & (last == closed)
    # A bar as long as its session is labelled by one of its two ends.
    return Votes(len(firsts), int(start.sum()), int((end & ~start).sum()))


def _label(
    tables: Sequence[Table], opens: IntArray, closes: IntArray, seconds: int, options: ReadOptions
) -> str:
    known = tables[0].format.label
    if options.label:
        return options.label
    if known == "last" or all((table.at % 60 == 59).all() for table in tables):
        return "last"
    if not len(opens):
        return _stated(tables[0], known, "the market never closes")
    votes = [count_votes(table.at, opens, closes, seconds) for table in tables]
    total = Votes(*(sum(getattr(each, n) for each in votes) for n in ("sessions", "start", "end")))
    label = total.label()
    if not label:
        if total.start or total.end:
            known = ""  # the file contradicts itself
        said = f"of {total.sessions:,} sessions {total.start:,} look like starts and {total.end:,} "
        label = _stated(tables[0], known, said + "like ends")
    elif label != known:
        votes_for = total.start if label == "start" else total.end
        told = f"times are the {_WORDS[label]} of bars, as {votes_for:,} whole sessions show"
        tables[0].notes.append(told)
    return label


def _stated(table: Table, known: str, evidence: str) -> str:
    if known:
        return known
    raise BadFile(
        f"{table.where(0)}: whether a time is a bar's start or its end cannot be told "
        f"({evidence}); say it: --label start, end or last"
    )


def _to_utc(
    table: Table, tables: Sequence[Table], calendar: Calendar, seconds: int, options: ReadOptions
) -> None:
    if not table.is_naive:
        return
    zone = options.zone or (ZoneInfo(table.format.zone) if table.format.zone else None)
    if zone is None:
        zone = _zone_by_sessions(table, calendar, seconds)
    table.at, table.is_naive = table.at - _offsets(table.at, zone), False
    del tables


def _zone_by_sessions(table: Table, calendar: Calendar, seconds: int) -> ZoneInfo:
    """Return the one zone in which the sessions of a table are the calendar's."""
    opens, closes = calendar.edges()
    fitting = []
    for name in (INDIA, UTC) if len(opens) else ():
        zone = ZoneInfo(name)
        at = table.at - _offsets(table.at, zone)
        at = at + 1 - seconds if (at % 60 == 59).all() else at
        votes = count_votes(at, opens, closes, seconds)
        if 2 * (votes.start + votes.end) >= max(votes.sessions, 1):
            fitting.append((zone, votes))
    if len(fitting) != 1:
        text = dt.datetime.fromtimestamp(int(table.at[0]), dt.UTC)
        raise BadFile(
            f"{table.where(0)}: {text:%Y-%m-%d %H:%M} has no time zone; say which one it is in, as "
            "in --tz Asia/Kolkata or --tz UTC"
        )
    zone, votes = fitting[0]
    table.notes.append(
        f"times without a zone read as {zone.key}, by which {votes.start + votes.end:,} sessions "
        "are the exchange's"
    )
    return zone


def _offsets(at: IntArray, zone: ZoneInfo) -> IntArray:
    """Return the offset from UTC of each wall clock time, which changes on the hour."""
    hours = at // _HOUR
    starts = np.flatnonzero(np.diff(hours, prepend=hours[0] - 1))
    offsets = [
        dt.datetime.fromtimestamp(hour * _HOUR, dt.UTC).replace(tzinfo=zone).utcoffset()
        for hour in hours[starts].tolist()
    ]
    each = np.array([int(offset.total_seconds()) for offset in offsets if offset is not None])
    return np.repeat(each, np.diff(np.append(starts, len(at))))


def _opens_of_ends(at: IntArray, opens: IntArray, closes: IntArray, seconds: int) -> IntArray:
    """Return the opens of bars given by their ends; the last of a session may be shorter."""
    if not len(opens):
        return at - seconds
    session = np.maximum(np.searchsorted(opens, at, side="left") - 1, 0)
    since = at - opens[session]
    is_last = at == closes[session]
    shorter = opens[session] + (since - 1) // seconds * seconds
    return np.where(is_last, shorter, at - seconds)


def _set_aside(table: Table, opens: IntArray, seconds: int) -> None:
    """Leave out the rows of the minutes before the open, and count them."""
    following = np.minimum(np.searchsorted(opens, table.at, side="right"), len(opens) - 1)
    wait = opens[following] - table.at
    early: BoolArray = (wait >= seconds) & (wait <= PRE_OPEN_SECONDS)
    if early.any():
        table.at, table.lines = table.at[~early], table.lines[~early]
        table.columns = [each[~early] for each in table.columns]
        table.notes.append(f"{int(early.sum()):,} rows of before the open set aside")
