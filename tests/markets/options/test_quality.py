"""Which quotes are believed."""

import datetime as dt
from decimal import Decimal

import pytest

from markets.options.quality import judge
from markets.venues.base import MarketQuote, VenueInstrument
from tests.markets.simulator.broker import ist
from tradingsite import clock

MINUTE = ist("2026-06-01 10:00")
EXPIRY = dt.date(2026, 6, 30)
STRIKES = (24_900, 24_950, 25_000, 25_050, 25_100)
PRICES = (310.0, 280.0, 250.0, 223.0, 198.0)


def named(strike: int) -> str:
    return f"NIFTY 2026-06-30 {strike} CE"


def listed() -> dict[str, VenueInstrument]:
    zero = Decimal(0)
    rows = [
        VenueInstrument("NIFTY", "NSE:NIFTY 50", 1, "INDEX", "NIFTY", None, zero, zero, zero),
        *(
            VenueInstrument(
                named(each), named(each), 1, "CE", "NIFTY", EXPIRY, Decimal(each), zero, zero
            )
            for each in STRIKES
        ),
    ]
    return {row.name: row for row in rows}


def quote(
    name: str, last: float, age: float = 0.0, spread: float | None = 1.0, **more: object
) -> MarketQuote:
    bid, ask = (last - spread, last + spread) if spread is not None else (0.0, 0.0)
    figures: dict[str, object] = {
        "last": Decimal(str(last)),
        "bid": Decimal(str(bid)),
        "ask": Decimal(str(ask)),
        "volume": Decimal(100),
        "interest": Decimal(1000),
        **more,
    }
    return MarketQuote(instrument=name, at=clock.from_seconds(MINUTE - age), **figures)  # type: ignore[arg-type]


def chain(**changed: MarketQuote) -> dict[str, MarketQuote]:
    found = {
        named(strike): quote(named(strike), last)
        for strike, last in zip(STRIKES, PRICES, strict=True)
    }
    return {**found, "NIFTY": quote("NIFTY", 24_990.0, spread=None), **changed}


def reasons(
    quotes: dict[str, MarketQuote], before: dict[str, float] | None = None
) -> dict[str, str]:
    return judge(quotes, listed(), MINUTE, before or {}).bad


def test_a_quiet_minute_is_believed() -> None:
    judged = judge(chain(), listed(), MINUTE, {})
    assert judged.bad == {} and len(judged.good) == 6


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (quote(named(25_000), 250.0, age=301.0), "stale: the venue's own time is 301 s before"),
        (quote(named(25_000), 250.0, age=-40_000.0), "hours after the minute"),
        (quote(named(25_000), 0.0, spread=None), "no price: the last is 0"),
        (quote(named(25_000), -5.0, spread=None), "no price"),
        (quote(named(25_000), 250.0, bid=Decimal(260)), "crossed: bid 260, ask 251"),
        (quote(named(25_000), 2500.0, spread=None), "absurd: 2500 where"),
        (quote(named(25_000), 2500.0, bid=Decimal(249), ask=Decimal(251)), "absurd: 2500 where"),
        (quote(named(25_000), 12.0, spread=None), "absurd: 12 where"),
        (quote(named(25_000), 250.0, interest=Decimal(2**31)), "absurd: an open interest"),
        (quote(named(25_000), 3e7, spread=None), "more than can be stored"),
        (quote(named(25_000), float("nan"), spread=None), "no price"),
    ],
)
def test_what_is_wrong_is_named(changed: MarketQuote, reason: str) -> None:
    found = reasons(chain(**{named(25_000): changed}))
    assert list(found) == [named(25_000)]
    assert reason in found[named(25_000)]


def test_an_index_is_held_to_itself() -> None:
    ten_times = {"NIFTY": quote("NIFTY", 249_900.0, spread=None)}
    assert reasons(chain(**ten_times), {"NIFTY": 24_950.0})["NIFTY"].startswith("absurd: 249900")
    assert reasons(chain(), {"NIFTY": 24_950.0}) == {}
    late = {"NIFTY": quote("NIFTY", 24_990.0, age=91.0, spread=None)}
    assert "stale" in reasons(chain(**late))["NIFTY"]


def test_premiums_that_multiply_together_are_believed() -> None:
    before = {named(strike): last / 8.0 for strike, last in zip(STRIKES, PRICES, strict=True)}
    assert reasons(chain(), before) == {}


def test_what_lies_between_its_neighbours_may_jump_with_its_book() -> None:
    prices = (134.0, 84.0, 34.0, 6.0, 0.25)  # the last minutes of an expiry
    found = {
        named(strike): quote(named(strike), last, spread=0.05)
        for strike, last in zip(STRIKES, prices, strict=True)
    }
    assert reasons(found, {named(25_000): 3.4}) == {}


def test_small_premiums_may_multiply() -> None:
    cheap = {named(each): quote(named(each), 0.05, spread=None) for each in STRIKES}
    cheap[named(25_000)] = quote(named(25_000), 1.2, spread=None)
    assert reasons(cheap, {named(25_000): 0.05}) == {}


def test_all_calls_ten_times_are_not_believed() -> None:
    before = {named(strike): last for strike, last in zip(STRIKES, PRICES, strict=True)}
    wrong = {
        named(strike): quote(
            named(strike), 10 * last, bid=Decimal(str(last - 1)), ask=Decimal(str(last + 1))
        )
        for strike, last in zip(STRIKES, PRICES, strict=True)
    }
    assert set(reasons(wrong, before)) == set(wrong)
