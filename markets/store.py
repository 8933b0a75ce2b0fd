"""Rows to arrays and back: the only door for prices and features.

Everything is read and written in bulk: COPY in, COPY out, times as epoch seconds. Bars are upserted
(importing the same file twice changes nothing), features are recomputed from bars at will.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from django.db import connections, transaction

from markets.domain import bar_rule
from markets.domain.bars import BadBars, Bars
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar
from markets.domain.exogenous import (
    FUNDING,
    HISTORY_SECONDS,
    KNOWN_AFTER_SECONDS,
    LONGEST_INTERVAL_SECONDS,
    SERIES_OF,
    Readings,
)
from markets.domain.features import Features, compute, history_start, schema_for
from markets.domain.price_panel import PricePanel, build_price_panel
from markets.models import Bar, Feature, Quote, Reading, TradingDay
from markets.recent import RecentBars
from tradingsite import bulk, clock
from tradingsite.clock import Epoch
from tradingsite.registry import BOTS, CONTEXTS, MARKETS, Slot

REPORT_EVERY_ROWS = 2_000
# The advisory lock of whoever writes a market's bars: its sources are checked under it.
WRITING_BARS = 7_302
_calendars: dict[str, tuple[tuple[Any, ...], Calendar]] = {}
_BAR_COLUMNS = ("opens_at", "closes_at", "open", "high", "low", "close", "volume")


class WrongSource(ValueError):
    """Bars of another source are there, and a market never mixes them."""


class OffCalendarTable(ValueError):
    """Stored bars break the rule of bars; the message says which and what to do."""


def market_of(alias: str) -> str:
    """Return the market whose data a database holds: pc_nifty holds nifty's."""
    return alias.removeprefix("pc_")


def load_bars(
    alias: str, timeframe: str, start: Epoch | None = None, end: Epoch | None = None
) -> Bars:
    """Return the stored bars whose close lies in (start, end], in order."""
    table = Bar._meta.db_table
    where, values = _span(timeframe, start, end)
    prices = ("open", "high", "low", "close", "volume")
    columns = [
        *(f"extract(epoch FROM {name})::float8" for name in ("opens_at", "closes_at")),
        *(f"{name}::float8" for name in prices),
    ]
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE {where} ORDER BY opens_at"  # noqa: S608
    with connections[alias].cursor() as cursor:
        cursor.execute(query, values)
        rows = np.array(cursor.fetchall(), dtype=np.float64).reshape(-1, len(columns))
    seconds = rows[:, :2].astype(np.int64)
    return Bars(seconds[:, 0], seconds[:, 1], *(rows[:, column].copy() for column in range(2, 7)))


def require_on_calendar(alias: str, timeframe: str, bars: Bars, calendar: Calendar) -> None:
    """Raise OffCalendarTable for bars of a table that the calendar does not give."""
    try:
        bar_rule.require(bars, timeframe, calendar)
    except BadBars as error:
        market = market_of(alias)
        raise OffCalendarTable(
            f"the stored {timeframe} bars of {market} break the rule of bars: {error.reason}. "
            f"Remove such bars with `manage.py bars remove {market} {timeframe} --off-calendar`"
        ) from error


def save_bars(
    alias: str,
    timeframe: str,
    bars: Bars,
    source: str,
    report: Callable[[int], None] = lambda written: None,
) -> int:
    """Write bars in one transaction, replacing those of the same open; return how many changed.

    `report` is called with the number of rows sent so far. Raises WrongSource where bars of
    another source are, and BadBars for those that the market's calendar does not give.
    """
    bar_rule.require(bars, timeframe, load_calendar(market_of(alias), alias))
    with transaction.atomic(using=alias):
        require_source(alias, source)
        counts = bulk.upsert(
            alias,
            Bar._meta.db_table,
            _BAR_COLUMNS,
            _bar_rows(bars),
            ("timeframe", "opens_at"),
            constants={"timeframe": timeframe, "source": source},
            report=report,
        )
    report(len(bars))
    return counts.written


_recent = RecentBars(load_bars)


def load_features(
    alias: str,
    timeframe: str,
    start: Epoch | None = None,
    end: Epoch | None = None,
    last: int | None = None,
) -> Features:
    """Return the stored feature rows of the current schema whose close lies in (start, end].

    With `last` they are the newest so many of them.
    """
    schema = schema_for(market_of(alias), timeframe)
    where, values = _span(timeframe, start, end)
    query = (
        "SELECT extract(epoch FROM opens_at)::float8, extract(epoch FROM closes_at)::float8, "  # noqa: S608
        f'"values" FROM {Feature._meta.db_table} WHERE {where} AND schema = %s '
        "ORDER BY opens_at DESC LIMIT %s"
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(query, [*values, schema.hash, last])
        rows = cursor.fetchall()[::-1]
    opens_at = np.array([row[0] for row in rows], dtype=np.int64)
    closes_at = np.array([row[1] for row in rows], dtype=np.int64)
    matrix = np.array([row[2] for row in rows], dtype=np.float32).reshape(-1, len(schema.names))
    return Features(opens_at, closes_at, matrix, schema)


def load_readings(alias: str, series: str, start: Epoch | None = None) -> Readings:
    """Return a series of readings in order, all or those after an instant."""
    query = (
        "SELECT extract(epoch FROM at)::float8, value::float8 "  # noqa: S608
        f"FROM {Reading._meta.db_table} WHERE series = %s AND at > to_timestamp(%s) "
        "AND value <> 'NaN' ORDER BY at"
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(query, [series, start or 0])
        rows = np.array(cursor.fetchall(), dtype=np.float64).reshape(-1, 2)
    return Readings(rows[:, 0].astype(np.int64), rows[:, 1].copy())


def append_features(alias: str, timeframe: str, changed_from: Epoch | None = None) -> int:
    """Compute and store the rows after the newest stored one; return how many.

    Rows of bars that open at `changed_from` or later are computed again too.
    """
    return append_all(alias, {timeframe: changed_from})[timeframe]


def append_all(alias: str, changed_from: Mapping[str, Epoch | None]) -> dict[str, int]:
    """Do as `append_features` for each timeframe with its instant, all of them or none."""
    market = market_of(alias)
    with transaction.atomic(using=alias):
        # What makes the bars and what fetches the readings may come to the same rows.
        lock_bars(alias)
        calendar = load_calendar(market)
        bars: dict[tuple[str, int], Bars] = {}
        return {
            timeframe: _append(alias, timeframe, since, calendar, bars)
            for timeframe, since in changed_from.items()
        }


def _append(
    alias: str,
    timeframe: str,
    changed_from: Epoch | None,
    calendar: Calendar,
    loaded: dict[tuple[str, int], Bars],
) -> int:
    market = market_of(alias)
    newest = _newest_row(alias, timeframe)
    if newest is None:
        return rebuild_features(alias, timeframe)
    since = newest + 1
    if changed_from is not None:
        since = min(since, changed_from)
    load = load_bars if changed_from is not None else _recent.after
    bars = {}
    for each in (timeframe, *CONTEXTS[market, timeframe]):
        start = history_start(market, each, Epoch(since)) - 1
        if (each, start) not in loaded:
            loaded[each, start] = load(alias, each, Epoch(start))
        bars[each] = loaded[each, start]
    readings = _load_exogenous(alias, Epoch(since - HISTORY_SECONDS))
    rows = compute(market, timeframe, bars, readings, calendar, since=Epoch(since))
    # A changed bar may leave fewer rows than there were.
    return _save_features(alias, timeframe, rows, Epoch(since))


def _newest_row(alias: str, timeframe: str) -> int | None:
    """Return when the bar of the newest row of the current schema opened."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT extract(epoch FROM max(opens_at))::bigint FROM {Feature._meta.db_table} "  # noqa: S608
            f"WHERE timeframe = %s AND schema = %s",
            [timeframe, schema_for(market_of(alias), timeframe).hash],
        )
        newest: int | None = cursor.fetchone()[0]
    return newest


def recompute_features_after(alias: str, changed_from: Epoch) -> int:
    """Compute the stored rows again that knew of readings from an instant on; return how many.

    Mostly there are none, as a reading comes before the first bar that knows of it.
    """
    known_at = clock.from_seconds(changed_from + KNOWN_AFTER_SECONDS)
    written = 0
    for market, timeframe in CONTEXTS:
        if market != market_of(alias):
            continue
        rows = Feature.on(alias).objects.filter(timeframe=timeframe, closes_at__gte=known_at)
        first = rows.order_by("closes_at").values_list("opens_at", flat=True).first()
        if first is not None:
            written += append_features(alias, timeframe, clock.epoch(first))
    return written


def rebuild_features(
    alias: str, timeframe: str, report: Callable[[int], None] = lambda written: None
) -> int:
    """Compute every row again from the stored bars and replace what is there; return how many."""
    market = market_of(alias)
    with transaction.atomic(using=alias):
        lock_bars(alias)
        bars = {each: load_bars(alias, each) for each in (timeframe, *CONTEXTS[market, timeframe])}
        rows = compute(market, timeframe, bars, _load_exogenous(alias), load_calendar(market))
        return _save_features(alias, timeframe, rows, report=report)


def load_calendar(market: str, alias: str | None = None) -> Calendar:
    """Return the calendar of a market, the exchange's from the rows people edit (or a copy's).

    Twenty years of days take 0.1 s to read, so they are kept until a row changes.
    """
    if MARKETS[market].calendar == "CRYPTO":
        return CryptoCalendar()
    home = alias or market
    with connections[home].cursor() as cursor:
        # xmin is the transaction that wrote a row, so an edit, an addition or a deletion all show.
        cursor.execute(
            f"SELECT count(*), max(xmin::text::bigint), sum(id) FROM {TradingDay._meta.db_table}"  # noqa: S608
        )
        version = (connections[home].settings_dict["NAME"], *cursor.fetchone())
    kept = _calendars.get(home)
    if kept is None or kept[0] != version:
        rows = TradingDay.on(home).objects.order_by("date")
        kept = _calendars[home] = (version, NseCalendar.from_days(row.as_day() for row in rows))
    return kept[1]


def load_price_panel(
    slot: Slot, bars: Bars, calendar: Calendar, alias: str | None = None
) -> PricePanel:
    """Return a slot's tradable prices over some bars, with its bot's slippage and its funding."""
    funding = None
    if FUNDING in SERIES_OF[slot.market] and len(bars):
        start = int(bars.opens_at[0]) - 2 * LONGEST_INTERVAL_SECONDS
        funding = load_readings(alias or slot.market, FUNDING, Epoch(start))
    return build_price_panel(
        slot.market, bars, calendar, BOTS[slot.bot].slippage_bps, funding=funding
    )


def sources(alias: str) -> set[str]:
    """Return where the market's bars came from; more than one would be a defect."""
    return set(Bar.on(alias).objects.order_by().values_list("source", flat=True).distinct())


def dependent_timeframes(market: str, timeframe: str) -> list[str]:
    """Return the timeframes whose features depend on a timeframe's bars, itself among them."""
    return [
        each
        for (owner, each), contexts in CONTEXTS.items()
        if owner == market and timeframe in (each, *contexts)
    ]


def save_quotes(market: str, prices: Mapping[str, Decimal], at: dt.datetime) -> None:
    """Replace the last prices of instruments."""
    Quote.on(market).objects.bulk_create(
        [Quote.on(market)(instrument=name, price=price, at=at) for name, price in prices.items()],
        update_conflicts=True,
        unique_fields=["instrument"],
        update_fields=["price", "at"],
    )


def last_quote(market: str) -> Quote | None:
    """Return the instrument's last price, or None before the first."""
    return Quote.on(market).objects.filter(instrument=MARKETS[market].instrument).first()


def lock_bars(alias: str) -> None:
    """Wait until nobody else writes the market's bars, until the transaction ends."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [WRITING_BARS])


def _load_exogenous(alias: str, start: Epoch | None = None) -> dict[str, Readings]:
    return {name: load_readings(alias, name, start) for name in SERIES_OF[market_of(alias)]}


def require_source(alias: str, source: str) -> None:
    """Wait until nobody else writes bars, until the transaction ends, and refuse to mix sources."""
    lock_bars(alias)
    others = sources(alias) - {source}
    if others:
        raise WrongSource(
            f"{market_of(alias)} holds {' and '.join(sorted(others))} bars, and a market never "
            f"mixes sources."
        )


def _span(timeframe: str, start: Epoch | None, end: Epoch | None) -> tuple[str, list[Any]]:
    where, values = "timeframe = %s", [timeframe]
    for bound, operator in ((start, ">"), (end, "<=")):
        if bound is not None:
            where += f" AND closes_at {operator} to_timestamp(%s)"
            values.append(bound)  # type: ignore[arg-type]  # psycopg binds each by its own type
    return where, values


def _bar_rows(bars: Bars) -> Iterator[tuple[Any, ...]]:
    # Some at a time: as Python objects a row takes ten times its memory.
    for start in range(0, len(bars), REPORT_EVERY_ROWS):
        part = bars.slice(start, start + REPORT_EVERY_ROWS)
        times = (
            [dt.datetime.fromtimestamp(at, dt.UTC) for at in column.tolist()]
            for column in (part.opens_at, part.closes_at)
        )
        prices = (
            [f"{value:.4f}" for value in column.tolist()]
            for column in (part.open, part.high, part.low, part.close, part.volume)
        )
        yield from zip(*times, *prices, strict=True)


def _save_features(
    alias: str,
    timeframe: str,
    rows: Features,
    since: Epoch | None = None,
    report: Callable[[int], None] = lambda written: None,
) -> int:
    """Put rows in the place of all that are stored, or of those that open from an instant on."""
    table = Feature._meta.db_table
    columns = 'timeframe, schema, opens_at, closes_at, "values"'
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {table} WHERE timeframe = %s AND opens_at >= to_timestamp(%s)",  # noqa: S608
            [timeframe, since or 0],
        )
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for number, row in enumerate(_feature_rows(timeframe, rows), start=1):
                copy.write_row(row)
                if number % REPORT_EVERY_ROWS == 0:
                    report(number)
    report(len(rows))
    return len(rows)


def _feature_rows(timeframe: str, rows: Features) -> Iterator[tuple[Any, ...]]:
    columns = (rows.opens_at.tolist(), rows.closes_at.tolist(), rows.values.tolist())
    for opens_at, closes_at, values in zip(*columns, strict=True):
        array = "{" + ",".join(map(repr, values)) + "}"
        times = (clock.from_seconds(opens_at), clock.from_seconds(closes_at))
        yield (timeframe, rows.schema.hash, *times, array)
