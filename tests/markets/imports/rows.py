"""Invented bars of real trading days, and files of them as a format writes its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from markets.domain import timeframes
from markets.domain.bars import Bars
from markets.domain.calendar import CryptoCalendar, NseCalendar, nse_sessions
from tradingsite.clock import Epoch

CALENDARS = {"nifty": NseCalendar(nse_sessions()), "btc": CryptoCalendar()}
INDIA = ZoneInfo("Asia/Kolkata")
# From 1970 to 1980 in UTC.
SECONDS_TO_1980 = 315_532_800
FIRST, LAST = dt.date(2024, 6, 3), dt.date(2024, 6, 5)


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one bar, and its times under the names by which the cases write them."""

    s: int
    """When it opens, epoch seconds."""
    length: int
    o: float
    h: float
    l: float  # noqa: E741 - the formats' own letter
    c: float
    v: int

    def fields(self) -> dict[str, Any]:
        """Return what a row's pattern may name: t in India, u in UTC, b at UTC+3, e the end."""
        zones = {"t": INDIA, "u": dt.UTC, "b": dt.timezone(dt.timedelta(hours=3))}
        told = {name: dt.datetime.fromtimestamp(self.s, zone) for name, zone in zones.items()}
        end = self.s + self.length
        told |= {"e": dt.datetime.fromtimestamp(end, INDIA)}
        told |= {"z": dt.datetime.fromtimestamp(end - 1, INDIA)}
        told |= {name: getattr(self, name) for name in "sohlcv"}
        return told | {"end": end, "since1980": self.s - SECONDS_TO_1980}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Describe a file of a format, and what reading it says."""

    key: str
    row: str
    head: str = ""
    tail: str = ""
    between: str = "\n"
    market: str = "nifty"
    timeframe: str = "15m"
    newest_first: bool = False
    has_volume: bool = True
    name: str = "bars.csv"
    said: Sequence[str] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    pack: Callable[[str], bytes] = str.encode

    def rows(self) -> list[Row]:
        """Return the bars that the file is of."""
        return bars_of(self.market, self.timeframe)

    def content(self) -> bytes:
        """Return the file."""
        rows = self.rows()[::-1] if self.newest_first else self.rows()
        text = self.between.join(self.row.format(**row.fields()) for row in rows)
        return self.pack(f"{self.head}{text}{self.tail}")


def bars_of(market: str, timeframe: str) -> list[Row]:
    """Return bars of three days, whole sessions; no two have the same numbers."""
    length = timeframes.seconds(timeframe)
    rows: list[Row] = []
    for session in CALENDARS[market].sessions(FIRST, LAST):
        opens = [session.opens_at]
        if timeframe != "1d":
            opens = [Epoch(at) for at in range(session.opens_at, session.closes_at, length)]
        for at in opens:
            price = 20_000 + len(rows)
            rows.append(
                Row(at, length, price + 0.5, price + 9.25, price - 9.75, price + 1, at % 97)
            )
    return rows


def joined(rows: Sequence[Row], market: str, timeframe: str) -> list[Row]:
    """Return the bars that shorter ones make, one after the other and from each session's open."""
    length, made = timeframes.seconds(timeframe), dict[int, list[Row]]()
    for row in rows:
        session = CALENDARS[market].session_at(Epoch(row.s))
        assert session is not None
        opened = session.opens_at
        if timeframe != "1d":
            opened += (row.s - opened) // length * length
        made.setdefault(opened, []).append(row)
    return [
        Row(
            at,
            length,
            parts[0].o,
            max(each.h for each in parts),
            min(each.l for each in parts),
            parts[-1].c,
            sum(each.v for each in parts),
        )
        for at, parts in made.items()
    ]


def as_rows(bars: Bars, length: int) -> list[Row]:
    """Return bars that were read, to hold them against those that were written."""
    columns = (bars.opens_at, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return [
        Row(int(at), length, o, h, low, c, int(volume))
        for at, o, h, low, c, volume in zip(*(each.tolist() for each in columns), strict=True)
    ]
