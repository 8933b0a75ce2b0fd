"""How old each stream of data is, and when its next piece is due by the market's calendar.

A stream is a title and a source: a function that returns its last piece, or None where there is
none yet. The markets' own streams are here; whoever collects something else registers a source, and
the pages and alerts show it without knowing what it is.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db import connections

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture.instruments import daily as daily_instruments
from markets.domain import bar_rule
from markets.domain.calendar import Calendar
from markets.domain.expected_bars import next_close
from markets.models import InstrumentList, Reading, Source
from markets.options import gaps
from markets.options.models import CollectedMinute
from markets.straddle.models import Gap, Tick
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.models import JobRun
from tradingsite.registry import Market

# A bar is written a little after it closes: real seconds for the write, market seconds for a feed.
GRACE_REAL_SECONDS = 20.0
GRACE_MARKET_SECONDS = 120.0
MINUTE = dt.timedelta(minutes=1)
FEW_LOST = 5
MINUTES_LOST = (
    "A minute that nobody stored cannot be asked for again. `manage.py options gaps` lists them, "
    "each with its reason; a machine that is too busy is the usual one."
)
BARS_LOST = (
    "`manage.py bars gaps` lists them, and `manage.py bars repair` asks the venue again; no slot "
    "decides on a bar that is not here."
)
TICKS_LOST = (
    "A tick that nobody heard cannot be asked for again. The straddle's gaps are in /admin/, each "
    "with its reason."
)


@dataclass(frozen=True, slots=True)
class Datum:
    """The last piece of a stream, and when the next one is due; None for never by the calendar."""

    at: dt.datetime
    due_at: dt.datetime | None = None
    note: str = ""
    is_open: bool = True
    """Whether pieces come now; else the stream rests until the next is due."""
    lost: int = 0
    """How many pieces of the day are missing."""
    few_lost: int = FEW_LOST
    """So many are no matter for alarm."""
    remedy: str = ""
    """What a person can do about them."""


@dataclass(frozen=True, slots=True)
class NewestBar:
    """The last stored bar of a timeframe, and how many there are of its market day up to it."""

    timeframe: str
    opens_at: dt.datetime
    closes_at: dt.datetime
    source: str
    of_day: int | None = None
    """None where nobody counted."""


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
    lost: int = 0
    few_lost: int = FEW_LOST
    remedy: str = ""

    @property
    def is_lossy(self) -> bool:
        """Return whether more of the day is lost than a busy machine loses now and then."""
        return self.lost > self.few_lost

    @property
    def mark(self) -> str:
        """Return the mark that is drawn for the state."""
        if self.is_lossy:
            return "warn"
        return {"fresh": "ok", "late": "warn", "closed": "idle", "empty": "none"}[self.state]


StreamSource = Callable[[dt.datetime], Datum | None]
_sources: dict[str, tuple[str, StreamSource]] = {}


def register(title: str, alias: str, source: StreamSource) -> None:
    """Have a stream shown whose rows are in a database; the same title again replaces it."""
    _sources[title] = (alias, source)


def registered() -> Mapping[str, tuple[str, StreamSource]]:
    """Return the registered streams: their title, the database they ask, their source."""
    return dict(_sources)


def judge(title: str, datum: Datum | None, now: dt.datetime, speed: float) -> Stream:
    """Return a stream's state at an instant of market time that runs at a speed."""
    if datum is None:
        return Stream(title, "empty", None, None, "none stored yet")
    if datum.due_at is None:
        return Stream(title, "closed", datum.at, None, datum.note)
    state = "fresh" if datum.is_open else "closed"
    if now > datum.due_at + grace(speed):
        state = "late"
    held = (datum.note, datum.lost, datum.few_lost, datum.remedy)
    return Stream(title, state, datum.at, datum.due_at, *held)


def grace(speed: float) -> dt.timedelta:
    """Return how long after its time a piece is not late yet."""
    return dt.timedelta(seconds=max(GRACE_REAL_SECONDS * speed, GRACE_MARKET_SECONDS))


# --- The markets' own streams --------------------------------------------------------------------


def bars(calendar: Calendar, newest: NewestBar | None, now: dt.datetime) -> Datum | None:
    """Return how a timeframe's bars stand."""
    if newest is None:
        return None
    if newest.source == Source.IMPORTED:
        return Datum(newest.closes_at, note="imported; no feed adds to them")
    due = next_close(calendar, newest.timeframe, clock.epoch(newest.opens_at))
    if due is None:
        return Datum(newest.closes_at, note="the calendar ends here")
    is_open = calendar.is_open(clock.epoch(now))
    datum = Datum(newest.closes_at, clock.from_seconds(due), newest.source, is_open)
    if newest.of_day is None:
        return datum
    begins = day_begins(clock.trading_date(newest.opens_at))
    reach = (clock.epoch(begins), clock.epoch(newest.closes_at))
    wanted = len(bar_rule.expected(calendar, newest.timeframe, *reach)[0])
    lost = max(0, wanted - newest.of_day)
    if not lost:
        return datum
    note = f"{lost} of {wanted} bars of the day up to then are not here"
    return dataclasses.replace(datum, note=note, lost=lost, few_lost=0, remedy=BARS_LOST)


def day_begins(date: dt.date) -> dt.datetime:
    """Return the instant at which a market day begins, in India."""
    return dt.datetime.combine(date, dt.time(), clock.IST)


def last_price(calendar: Calendar, at: dt.datetime | None, now: dt.datetime) -> Datum | None:
    """Return how the last price stands: while the market is open, one is always due."""
    if at is None:
        return None
    if calendar.is_open(clock.epoch(now)):
        return Datum(at, at)
    session = calendar.next_session(clock.epoch(now))
    due = clock.from_seconds(session.opens_at) if session else None
    return Datum(at, due, is_open=False)


def exogenous(market: Market, calendar: Calendar, now: dt.datetime) -> dict[str, Datum | None]:
    """Return how a market's other streams stand, by title, in one query."""
    found = _newest(market)
    is_open = calendar.is_open(clock.epoch(now))
    streams: dict[str, Datum | None] = {}
    for series in exogenous_capture.of_market(market.slug):
        rows = found.get(series.name, [])
        if series == exogenous_capture.FUNDING:
            streams[f"{market.title} funding"] = _funding(rows)
        elif series == exogenous_capture.VIX[0]:
            streams["India VIX"] = _closes(calendar, series.timeframe, rows, is_open)
    listed = found.get("list", [])
    streams[f"{market.title} instruments"] = _list(market, calendar, listed)
    return streams


def _newest(market: Market) -> dict[str, list[dt.datetime]]:
    """Return the times of the newest pieces of each stream beside the bars, newest first."""
    reading, listed = Reading._meta.db_table, InstrumentList._meta.db_table
    parts, values = [], []
    for series in exogenous_capture.of_market(market.slug):
        parts.append(
            f"(SELECT series AS stream, at FROM {reading} WHERE series = %s "  # noqa: S608
            f"ORDER BY at DESC LIMIT 2)"
        )
        values.append(series.name)
    parts.append(
        f"(SELECT 'list', fetched_at FROM {listed} WHERE venue = %s "  # noqa: S608
        f"ORDER BY date DESC LIMIT 1)"
    )
    values.append(daily_instruments.venue_name(market.slug))
    found: dict[str, list[dt.datetime]] = {}
    with connections[market.slug].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), values)
        for stream, at in cursor.fetchall():
            found.setdefault(stream, []).append(at)
    return {stream: sorted(times, reverse=True) for stream, times in found.items()}


def _list(market: Market, calendar: Calendar, times: list[dt.datetime]) -> Datum | None:
    if not times:
        return None
    date = clock.trading_date(times[0])
    return Datum(times[0], daily_instruments.next_due(market.slug, date, calendar))


def _funding(times: list[dt.datetime]) -> Datum | None:
    if not times:
        return None
    known = times[0] - times[1] if len(times) > 1 else None
    interval = known or dt.timedelta(seconds=exogenous_capture.LONGEST_INTERVAL_SECONDS)
    return Datum(times[0], times[0] + interval)


def _closes(
    calendar: Calendar, timeframe: str, times: list[dt.datetime], is_open: bool
) -> Datum | None:
    if not times:
        return None
    # The bar that closed then opened before; the next one opens then or with a later session.
    due = next_close(calendar, timeframe, Epoch(int(times[0].timestamp()) - 1))
    return Datum(times[0], clock.from_seconds(due) if due else None, is_open=is_open)


# --- What else is collected ----------------------------------------------------------------------


def every_minute(last: dt.datetime | None, now: dt.datetime) -> Datum | None:
    """Return how a stream stands that has a piece each minute of the exchange's session."""
    if last is None:
        return None
    calendar = store.load_calendar("nifty")
    at = clock.epoch(now)
    session = calendar.session_at(at)
    if session is not None:
        opened = clock.from_seconds(session.opens_at)
        return Datum(last, max(last, opened) + MINUTE)
    following = calendar.next_session(at)
    due = clock.from_seconds(following.opens_at) + MINUTE if following else None
    return Datum(last, due, is_open=False)


def _options(now: dt.datetime) -> Datum | None:
    newest = CollectedMinute.objects.order_by("-ts").values_list("ts", flat=True).first()
    datum = every_minute(newest, now)
    session = store.load_calendar("nifty").session_on(clock.trading_date(now)) if datum else None
    if datum is None or session is None:
        return datum
    day = gaps.count(session, clock.epoch(now))
    note = f"{day.missing} of {day.due} minutes of the day are lost" if day.missing else ""
    return dataclasses.replace(datum, lost=day.missing, note=note, remedy=MINUTES_LOST)


def _straddle(now: dt.datetime) -> Datum | None:
    newest = Tick.objects.order_by("-ts").values_list("ts", flat=True).first()
    datum = every_minute(newest, now)
    session = store.load_calendar("nifty").session_on(clock.trading_date(now)) if datum else None
    if datum is None or session is None:
        return datum
    until = min(clock.epoch(now), session.closes_at)
    lost = _gaps_seconds(session.opens_at, until) // 60
    due = max(0, until - session.opens_at) // 60
    if not lost:
        return datum
    note = f"ticks of {lost} of {due} minutes of the day are missing, in part or whole"
    return dataclasses.replace(datum, lost=lost, note=note, remedy=TICKS_LOST)


def _gaps_seconds(start: Epoch, end: Epoch) -> int:
    """Return how many seconds of a span lie in any gap of the straddles' ticks."""
    span = clock.from_seconds(start), clock.from_seconds(max(start, end))
    rows = Gap.objects.filter(began_at__lt=span[1], ended_at__gt=span[0]).order_by("began_at")
    found, reached = dt.timedelta(), span[0]
    for began_at, ended_at in rows.values_list("began_at", "ended_at"):
        first, last = max(began_at, reached), min(ended_at, span[1])
        found += max(last - first, dt.timedelta())
        reached = max(reached, last)
    return int(found.total_seconds())


def _owner_trades(now: dt.datetime) -> Datum | None:
    """Return how the readings of the broker's book stand: the owner need not trade each minute."""
    runs = JobRun.objects.filter(job="trade-fetcher", state=JobRun.State.DONE)
    last = runs.order_by("-scheduled_for").values_list("scheduled_for", flat=True).first()
    return every_minute(last, now)


register("Options", "options", _options)
register("Owner trades", "default", _owner_trades)
register("Straddle", "straddle", _straddle)
