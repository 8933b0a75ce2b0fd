"""A day of quotes as CSV.gz, for programs that read no Parquet: rupees, Indian times, and greeks.

The greeks are not stored: they follow from the volatilities and from each minute's own forwards.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from markets.domain.bars import FloatArray, IntArray
from markets.options import implied
from markets.options.days import Day
from markets.options.minute_batch import COLUMNS
from tradingsite import clock
from tradingsite.machines import transfer

SUFFIX = ".csv.gz"
GREEKS = ("delta", "gamma", "theta", "vega")
_IV = COLUMNS.index("iv")


def write(
    day: Day,
    path: Path,
    expires_at: Callable[[object], int],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write a day, whole or not at all; `report` is called with the rows written so far.

    Raises NoSpace where the disk is full.
    """
    scratch = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with transfer.explained(path.parent), gzip.open(scratch, "wt", newline="") as file:
            _write(day, file, expires_at, report)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _write(
    day: Day,
    file: io.TextIOWrapper,
    expires_at: Callable[[object], int],
    report: Callable[[int], None],
) -> None:
    rows = csv.writer(file)
    rows.writerow(
        ["at", "name", "last", "bid", "ask", "volume", "oi", "iv", "age_seconds", *GREEKS]
    )
    done = 0
    by_minute = np.argsort(day.ts, kind="stable")
    edges = np.flatnonzero(np.diff(day.ts[by_minute])) + 1
    for places in np.split(by_minute, edges):
        if not len(places):
            continue
        at = clock.from_seconds(int(day.ts[places[0]])).astimezone(clock.IST).isoformat()
        found = greeks_of(day, places, expires_at)
        for place, numbers in zip(places, found, strict=True):
            last, bid, ask, volume, oi, iv, age = day.values[place].tolist()
            rows.writerow(
                [
                    *(at, day.instruments[day.which[place]].name),
                    *(f"{paise / 100:.2f}" for paise in (last, bid, ask)),
                    *(volume, oi, f"{iv / 10_000:.4f}" if iv else "", age),
                    *("" if np.isnan(each) else f"{each:.6g}" for each in numbers),
                ]
            )
        done += len(places)
        report(done)


def greeks_of(day: Day, places: IntArray, expires_at: Callable[[object], int]) -> FloatArray:
    """Return delta, gamma, theta and vega of the rows of one minute, NaN where there are none."""
    rows = [day.instruments[day.which[place]] for place in places]
    minute = int(day.ts[places[0]])
    values = day.values[places]
    last, bid, ask = (values[:, column] / 100.0 for column in range(3))
    prices = np.where((bid > 0.0) & (ask > 0.0), (bid + ask) / 2.0, last)
    spots = {
        row.name: float(price) for row, price in zip(rows, last, strict=True) if row.kind == "INDEX"
    }
    seconds = np.array([expires_at(row.expiry) - minute if row.expiry else 0 for row in rows])
    options = [
        implied.Option(
            (row.underlying, row.expiry),
            float(row.strike),
            row.kind == "CE",
            float(price) if row.expiry else 0.0,
            float(left),
        )
        for row, price, left in zip(rows, prices, seconds, strict=True)
    ]
    at_forward = implied.forwards(options, spots)
    found = implied.greeks(
        np.array([at_forward.get(each.chain, np.nan) for each in options]),
        np.array([each.strike for each in options]),
        seconds.astype(np.float64),
        values[:, _IV] / 10_000.0,
        np.array([each.is_call for each in options]),
    )
    return np.stack([getattr(found, name) for name in GREEKS], axis=1)
