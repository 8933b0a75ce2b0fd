"""Small made histories of BTC, whose calendar needs no rows: quick to store and to learn."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import numpy as np

from markets.capture import exogenous as exogenous_capture
from markets.domain.bars import Bars
from markets.domain.calendar import nse_days
from markets.domain.exogenous import Readings
from markets.models import Source, TradingDay
from tests import exogenous
from tradingsite import clock

FIRST = int(dt.datetime(2024, 11, 20, tzinfo=dt.UTC).timestamp())


def four_hours(count: int, seed: int = 1, first: int = FIRST) -> Bars:
    """Return a random walk of 4h bars, priced to the cent."""
    return _walk(count, 14_400, seed, first)


def hours(count: int, seed: int = 1, first: int = FIRST) -> Bars:
    """Return a random walk of 1h bars, priced to the cent."""
    return _walk(count, 3_600, seed, first)


def joined(bars: Bars, each: int = 4) -> Bars:
    """Return the bars of a longer timeframe that so many of these make up; a rest is left out."""
    stop = len(bars) // each * each

    def rows(column: np.ndarray) -> np.ndarray:
        return column[:stop].reshape(-1, each)

    return Bars(
        rows(bars.opens_at)[:, 0].copy(),
        rows(bars.closes_at)[:, -1].copy(),
        rows(bars.open)[:, 0].copy(),
        rows(bars.high).max(axis=1),
        rows(bars.low).min(axis=1),
        rows(bars.close)[:, -1].copy(),
        rows(bars.volume).sum(axis=1),
    )


def write_csv(path: Path, bars: Bars) -> None:
    """Write bars as a file that `importbars` takes."""
    with path.open("w") as file:
        file.write("ts,open,high,low,close,volume\n")
        columns = (bars.opens_at, bars.open, bars.high, bars.low, bars.close, bars.volume)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            file.write(",".join(map(str, row)) + "\n")


def put_funding(bars: Bars) -> Readings:
    """Store what BTC's exchange would have paid every eight hours of some bars, and return it."""
    paid = exogenous.funding(int(bars.opens_at[0]), int(bars.closes_at[-1]), every=28_800)
    rows = zip(paid.at.tolist(), map(repr, paid.value.tolist()), strict=True)
    exogenous_capture.upsert(
        exogenous_capture.FUNDING, [(at, Decimal(rate)) for at, rate in rows], Source.IMPORTED
    )
    return paid


WITH_DAYS = ("nifty", "pc_nifty")
"""The databases in which a migration has put the exchange's days."""


def seed_days(alias: str = "nifty") -> None:
    """Have the exchange's days there, which a test that flushed the database took away."""
    model = TradingDay.on(alias)
    if model.objects.exists():
        return
    model.objects.bulk_create(
        model(
            date=day.date,
            kind=day.kind,
            opens_at=None if day.opens_at is None else clock.from_seconds(day.opens_at),
            closes_at=None if day.closes_at is None else clock.from_seconds(day.closes_at),
            name=day.name,
            source=day.source,
            verified=day.verified,
        )
        for day in nse_days()
    )


def _walk(count: int, length: int, seed: int, first: int) -> Bars:
    random = np.random.default_rng(seed)
    close = np.round(60_000 * np.exp(np.cumsum(0.004 * random.normal(size=count))), 2)
    opened = np.concatenate(([60_000.0], close[:-1]))
    spread = np.abs(random.normal(0, 60, size=(2, count)))
    opens_at = first + length * np.arange(count, dtype=np.int64)
    return Bars(
        opens_at,
        opens_at + length,
        opened,
        np.round(np.maximum(opened, close) + spread[0], 2),
        np.round(np.minimum(opened, close) - spread[1], 2),
        close,
        np.round(random.uniform(1, 500, count), 3),
    )
