"""Volatilities and greeks, held to the library's own greeks and to a known smile."""

import datetime as dt
import math

import numpy as np
import pytest
from vollib.black import black
from vollib.black.greeks import analytical

from markets.options import implied
from markets.options.implied import RATE_PER_YEAR, YEAR_SECONDS, ChainKey, Option

CHAIN: ChainKey = ("NIFTY", dt.date(2026, 6, 30))
FORWARD, SECONDS = 25_040.0, 29 * 86_400.0
YEARS = SECONDS / YEAR_SECONDS


def smile(strike: float) -> float:
    return 0.13 + 0.3 * math.log(strike / FORWARD) ** 2 - 0.05 * math.log(strike / FORWARD)


def options() -> list[Option]:
    return [
        Option(
            CHAIN,
            float(strike),
            is_call,
            black("c" if is_call else "p", FORWARD, strike, YEARS, RATE_PER_YEAR, smile(strike)),
            SECONDS,
        )
        for strike in range(23_500, 26_501, 50)
        for is_call in (True, False)
    ]


def test_the_forward_is_what_calls_and_puts_say() -> None:
    rows = options()
    assert implied.forwards(rows, {"NIFTY": 24_900.0})[CHAIN] == pytest.approx(FORWARD, abs=0.01)
    assert implied.forwards(rows, {})[CHAIN] == pytest.approx(FORWARD, abs=0.01)
    wild = [
        Option(CHAIN, row.strike, row.is_call, row.price * 3, SECONDS)
        if (row.strike, row.is_call) == (25_050.0, True)
        else row
        for row in rows
    ]
    assert implied.forwards(wild, {"NIFTY": 24_900.0})[CHAIN] == pytest.approx(FORWARD, abs=0.01)
    assert implied.forwards([row for row in rows if row.is_call], {}) == {}


def test_volatilities_are_those_that_made_the_prices() -> None:
    rows = options()
    found = implied.volatilities(rows, implied.forwards(rows, {"NIFTY": 24_900.0}))
    assert found == pytest.approx([smile(row.strike) for row in rows], abs=1e-4)


def test_there_is_none_where_a_price_has_none() -> None:
    at_forward = {CHAIN: FORWARD}
    none = [
        Option(CHAIN, 24_000.0, True, 900.0, SECONDS),  # less than it is worth at once
        Option(CHAIN, 24_000.0, True, 26_000.0, SECONDS),  # more than it can ever be
        Option(CHAIN, 25_000.0, True, 0.0, SECONDS),
        Option(CHAIN, 25_000.0, True, 20.0, 60.0),  # the last minute
        Option(CHAIN, 25_000.0, True, 20.0, -60.0),
        Option(("SENSEX", None), 25_000.0, True, 20.0, SECONDS),
        Option(CHAIN, 25_000.0, True, 20_000.0, SECONDS),  # more than a smallint holds
    ]
    assert implied.volatilities(none, at_forward) == [0.0] * len(none)


def test_greeks_are_the_librarys() -> None:
    rows = options()
    ivs = np.array([smile(row.strike) for row in rows])
    strike = np.array([row.strike for row in rows])
    is_call = np.array([row.is_call for row in rows])
    forward = np.full(len(rows), FORWARD)
    found = implied.greeks(forward, strike, np.full(len(rows), SECONDS), ivs, is_call)
    for name in ("delta", "gamma", "theta", "vega"):
        expected = [
            getattr(analytical, name)(
                "c" if row.is_call else "p", FORWARD, row.strike, YEARS, RATE_PER_YEAR, iv
            )
            for row, iv in zip(rows, ivs, strict=True)
        ]
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, atol=1e-12)
    none = implied.greeks(forward[:1], strike[:1], np.array([SECONDS]), ivs[:1] * 0, is_call[:1])
    assert np.isnan(none.delta).all() and np.isnan(none.vega).all()
