"""What an executed order costs: one dated table, read as floats by arrays and as Decimals by money.

Two doors to the same rows: `rates_for` gives all-in float fractions of turnover for the
environment and the replay, `itemise` gives the note of one order for the ledger. A note rounds
each of its items, so the two differ by at most half a rounding step for each item that is not
zero: 2.5 paise an order in INR, 2 where the brokerage is at its cap.
"""

from __future__ import annotations

import datetime
import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import numpy as np

from markets.domain.bars import FloatArray, IntArray
from markets.domain.calendar import DAY_SECONDS, IST_OFFSET_SECONDS, epoch_day

Side = Literal["buy", "sell"]

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """State the charges in force from a date on, as fractions of turnover unless said otherwise."""

    effective: datetime.date
    brokerage: Decimal
    brokerage_cap: Decimal | None
    """Largest brokerage of one executed order, in currency, before GST."""
    stt_sell: Decimal
    exchange: Decimal
    """Exchange transaction charge with the investor protection levy."""
    sebi: Decimal
    stamp_buy: Decimal
    gst: Decimal
    """Fraction of brokerage, exchange and SEBI charges."""
    source: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hold a market's rows, the step its items are rounded to and the offset of its dates."""

    rows: tuple[ChargeRow, ...]
    quantum: Decimal
    offset_seconds: int


def _nifty(effective: datetime.date, stt_sell: str, exchange: str, source: str) -> ChargeRow:
    return ChargeRow(
        effective=effective,
        brokerage=Decimal("0.0003"),
        brokerage_cap=Decimal(20),
        stt_sell=Decimal(stt_sell),
        exchange=Decimal(exchange),
        sebi=Decimal("0.000001"),
        stamp_buy=Decimal("0.00002"),
        gst=Decimal("0.18"),
        source=source,
    )


_COMMON = "broker's list: brokerage 0.03 % up to Rs 20, SEBI Rs 10 a crore, GST 18 %; "
SCHEDULES: dict[str, Schedule] = {
    "nifty": Schedule(
        rows=(
            _nifty(
                datetime.date(2020, 7, 1),
                "0.0001",
                "0.000019",
                _COMMON + "stamp duty 0.002 % on buying from 2020-07-01 (Finance Act 2019); STT "
                "0.01 %; exchange 0.0019 %, what the 6 % rise of 2021 started from",
            ),
            _nifty(
                datetime.date(2021, 1, 1),
                "0.0001",
                "0.00002",
                _COMMON + "NSE raised transaction charges by 6 % on 2021-01-01 (press), 0.002 % "
                "on the broker's list",
            ),
            _nifty(
                datetime.date(2023, 4, 1),
                "0.000125",
                "0.000019",
                _COMMON + "STT 0.0125 % (Finance Act 2023); NSE took the 6 % back and set the "
                "protection levy to Rs 10 a crore on 2023-04-01 (press), 0.0019 % together",
            ),
            _nifty(
                datetime.date(2024, 10, 1),
                "0.0002",
                "0.0000183",
                _COMMON + "STT 0.02 % (Finance Act 2024); one exchange charge for all members: "
                "0.00173 % and levy 0.0001 % from 2024-10-01 (broker, press)",
            ),
            _nifty(
                datetime.date(2026, 4, 1),
                "0.0005",
                "0.0000183",
                _COMMON + "STT 0.05 % (Budget 2026, press and brokers' tables)",
            ),
        ),
        quantum=Decimal("0.01"),
        offset_seconds=IST_OFFSET_SECONDS,
    ),
    "btc": Schedule(
        rows=(
            ChargeRow(
                effective=datetime.date(2025, 5, 5),
                brokerage=_ZERO,
                brokerage_cap=None,
                stt_sell=_ZERO,
                exchange=Decimal("0.00045"),
                sebi=_ZERO,
                stamp_buy=_ZERO,
                gst=_ZERO,
                source="Hyperliquid fee schedule of 2025-05-05: perpetuals, lowest tier, taker "
                "0.045 % (press, ccxt); funding is not a charge of the order",
            ),
        ),
        quantum=Decimal("0.000001"),
        offset_seconds=0,
    ),
}

# Derived from the rows, so that a model's manifest cannot name a table that has since changed.
TABLE_VERSION = (
    f"{max(row.effective for each in SCHEDULES.values() for row in each.rows).isoformat()}-"
    f"{hashlib.sha256(repr(SCHEDULES).encode()).hexdigest()[:8]}"
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold the all-in charges of an order: turnover * side rate + min(turnover * brokerage, cap).

    Rates are fractions of turnover with GST inside; the cap is in currency with GST inside and
    infinite where there is none.
    """

    buy_rate: float
    sell_rate: float
    brokerage_rate: float
    brokerage_cap: float


@dataclass(frozen=True, slots=True)
class RateColumns:
    """Hold `Rates` as float64 columns, one row a bar."""

    buy_rate: FloatArray
    sell_rate: FloatArray
    brokerage_rate: FloatArray
    brokerage_cap: FloatArray


@dataclass(frozen=True, slots=True)
class ChargeNote:
    """Hold the charges of one executed order, each item rounded to the currency's step."""

    brokerage: Decimal
    stt: Decimal
    exchange: Decimal
    sebi: Decimal
    stamp: Decimal
    gst: Decimal

    @property
    def total(self) -> Decimal:
        """Return the sum of the items."""
        return self.brokerage + self.stt + self.exchange + self.sebi + self.stamp + self.gst


def first_dated(market: str) -> datetime.date:
    """Return the first date whose charges have a source."""
    return _schedule(market).rows[0].effective


def is_extrapolated(market: str, date: datetime.date) -> bool:
    """Return whether a date lies before the first dated row, whose charges it then gets."""
    return date < first_dated(market)


def row_in_force(market: str, date: datetime.date) -> ChargeRow:
    """Return the row whose charges apply on a date."""
    rows = _schedule(market).rows
    index = bisect_right(rows, date, key=lambda row: row.effective)
    return rows[max(index - 1, 0)]


def rates_for(market: str, opens_at: IntArray) -> RateColumns:
    """Return the all-in rates at each instant, by the market's own date (IST or UTC)."""
    schedule = _schedule(market)
    starts = np.array(
        [epoch_day(row.effective) * DAY_SECONDS for row in schedule.rows], dtype=np.int64
    )
    index = np.searchsorted(starts - schedule.offset_seconds, opens_at, side="right") - 1
    index = np.maximum(index, 0)
    rates = [_rates(row) for row in schedule.rows]
    return RateColumns(
        buy_rate=np.array([each.buy_rate for each in rates])[index],
        sell_rate=np.array([each.sell_rate for each in rates])[index],
        brokerage_rate=np.array([each.brokerage_rate for each in rates])[index],
        brokerage_cap=np.array([each.brokerage_cap for each in rates])[index],
    )


def itemise(market: str, date: datetime.date, side: Side, turnover: Decimal) -> ChargeNote:
    """Return the charges of one executed order of a turnover (price * quantity, not negative)."""
    if side not in ("buy", "sell"):
        raise ValueError(f"side must be 'buy' or 'sell', not {side!r}")
    if turnover < 0:
        raise ValueError(f"turnover must not be negative, it is {turnover}")
    row = row_in_force(market, date)
    brokerage = turnover * row.brokerage
    if row.brokerage_cap is not None:
        brokerage = min(brokerage, row.brokerage_cap)
    exchange = turnover * row.exchange
    sebi = turnover * row.sebi
    quantum = _schedule(market).quantum
    return ChargeNote(
        brokerage=_rounded(brokerage, quantum),
        stt=_rounded(turnover * row.stt_sell if side == "sell" else _ZERO, quantum),
        exchange=_rounded(exchange, quantum),
        sebi=_rounded(sebi, quantum),
        stamp=_rounded(turnover * row.stamp_buy if side == "buy" else _ZERO, quantum),
        gst=_rounded((brokerage + exchange + sebi) * row.gst, quantum),
    )


def _schedule(market: str) -> Schedule:
    schedule = SCHEDULES.get(market)
    if schedule is None:
        raise ValueError(f"unknown market {market!r}; the known ones are {', '.join(SCHEDULES)}")
    return schedule


def _rates(row: ChargeRow) -> Rates:
    with_gst = 1 + row.gst
    both = (row.exchange + row.sebi) * with_gst
    cap = float("inf") if row.brokerage_cap is None else float(row.brokerage_cap * with_gst)
    return Rates(
        buy_rate=float(both + row.stamp_buy),
        sell_rate=float(both + row.stt_sell),
        brokerage_rate=float(row.brokerage * with_gst),
        brokerage_cap=cap,
    )


def _rounded(amount: Decimal, quantum: Decimal) -> Decimal:
    return amount.quantize(quantum, rounding=ROUND_HALF_UP)
