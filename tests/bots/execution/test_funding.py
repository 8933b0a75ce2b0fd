"""Funding in the ledger: once a payment and slot, on what was held then, however late it comes."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

from bots.decision import accounting
from bots.execution import funding
from bots.models import FundingPayment, Position
from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.domain.bars import Bars
from markets.models import Source
from tests.desk import Desk, ist
from tradingsite import clock

pytestmark = pytest.mark.django_db(databases=["btc", "nifty", "default"])
SetMarket = Callable[..., None]
HOUR = dt.timedelta(hours=1)
# Half past the hour here is the full hour of the exchange.
NINE = ist("2026-06-01 09:30")


@pytest.fixture
def desk(set_market: SetMarket) -> Desk:
    """Return a flat bot half an hour before the first payment, with closes at 60,000."""
    put_closes(NINE, [60_000.0] * 6)
    made = Desk("btc", set_market, "2026-06-01 09:00")
    made.quote(60_000.0)
    return made


def put_closes(first: dt.datetime, closes: list[float]) -> None:
    """Store hourly bars that close from an instant on."""
    at = clock.epoch(first) + 3_600 * np.arange(len(closes), dtype=np.int64)
    price = np.array(closes)
    bars = Bars(at - 3_600, at, price, price, price, price, np.ones(len(closes)))
    store.save_bars("btc", "1h", bars, Source.VENUE)


def pay(at: dt.datetime, rate: str) -> None:
    """Have the collector know a payment."""
    exogenous_capture.upsert(
        exogenous_capture.FUNDING, [(clock.epoch(at), Decimal(rate))], Source.VENUE
    )


def book(desk: Desk, at: dt.datetime) -> int:
    """Look for payments at an instant."""
    desk.go(at)
    return funding.book(desk.bot, at)


def paid(desk: Desk) -> dict[str, list[tuple[str, Decimal]]]:
    """Return each slot's payments."""
    found: dict[str, list[tuple[str, Decimal]]] = {}
    for row in FundingPayment.on("btc").objects.order_by("slot", "at"):
        found.setdefault(row.slot, []).append(
            (f"{row.at + dt.timedelta(hours=5.5):%H:%M}", row.amount)
        )
    return found


def test_longs_pay_and_shorts_receive_each_on_its_own_slot(desk: Desk) -> None:
    desk.trade({"btc-1h": 4})
    desk.trade({"btc-4h": -1})
    before = {slot: row.cash for slot, row in desk.positions().items()}
    pay(NINE, "0.0001")
    assert book(desk, NINE + HOUR / 2) == 2
    # Four lots of a hundredth at 60,000 are 2,400, and a basis point of that 24 cents.
    assert paid(desk) == {
        "btc-1h": [("09:30", Decimal("0.24"))],
        "btc-4h": [("09:30", Decimal("-0.06"))],
    }
    rows = desk.positions()
    assert rows["btc-1h"].cash == before["btc-1h"] - Decimal("0.24")
    assert rows["btc-4h"].cash == before["btc-4h"] + Decimal("0.06")
    assert (rows["btc-1h"].funding, rows["btc-4h"].funding) == (Decimal("0.24"), Decimal("-0.06"))
    per_unit = accounting.funding_per_unit(Decimal(60_000), Decimal("0.0001"))
    assert accounting.pay_funding(Decimal(0), Decimal("0.04"), per_unit) == Decimal("-0.24")


def test_a_payment_is_booked_once_and_a_flat_slot_pays_nothing(desk: Desk) -> None:
    pay(NINE, "0.0001")
    assert book(desk, NINE + HOUR / 2) == 0
    desk.trade({"btc-1h": 4})
    pay(NINE + HOUR, "0.0002")
    assert [book(desk, NINE + HOUR * hours) for hours in (1, 2, 3)] == [1, 0, 0]
    # What the exchange says otherwise later does not change what was booked.
    pay(NINE + HOUR, "0.0009")
    assert book(desk, NINE + 3 * HOUR) == 0
    assert paid(desk) == {"btc-1h": [("10:30", Decimal("0.48"))]}


def test_what_comes_late_is_paid_on_what_was_held_then(desk: Desk) -> None:
    desk.trade({"btc-1h": 4})
    desk.go(NINE + HOUR / 2)
    desk.trade({"btc-1h": -6}, leg="flip")
    desk.go(NINE + 3 * HOUR / 2)
    desk.trade({"btc-1h": 2}, leg="close")
    assert desk.lots() == {}
    for hours, rate in enumerate(("0.0001", "0.0001", "0.0001")):
        pay(NINE + hours * HOUR, rate)
    assert book(desk, NINE + 4 * HOUR) == 2
    # Long four, then short two, then flat.
    assert paid(desk) == {"btc-1h": [("09:30", Decimal("0.24")), ("10:30", Decimal("-0.12"))]}
    assert desk.positions()["btc-1h"].funding == Decimal("0.12")


def test_what_was_bought_at_the_very_instant_came_after_the_payment(desk: Desk) -> None:
    desk.go(NINE - dt.timedelta(seconds=1))
    desk.trade({"btc-1h": 4})
    desk.go(NINE)
    assert desk.positions()["btc-1h"].opened_at == NINE
    pay(NINE, "0.0001")
    assert book(desk, NINE + HOUR) == 0


def test_a_market_without_funding_books_none(set_market: SetMarket) -> None:
    desk = Desk("nifty", set_market)
    assert funding.book(desk.bot, desk.now) == 0
    assert not Position.on("nifty").objects.exclude(funding=0).exists()


def test_the_price_is_the_close_before_and_without_one_nothing_is_made_up(desk: Desk) -> None:
    desk.trade({"btc-1h": 4})
    put_closes(NINE + HOUR, [66_000.0])
    pay(NINE + HOUR, "0.0001")
    pay(NINE + HOUR * 40, "0.0001")
    assert book(desk, NINE + HOUR * 41) == 1
    assert paid(desk) == {"btc-1h": [("10:30", Decimal("0.264"))]}
    put_closes(NINE + HOUR * 40, [60_000.0])
    assert book(desk, NINE + HOUR * 41) == 1


def test_what_slots_traded_with_each_other_since_then_is_taken_back(desk: Desk) -> None:
    desk.trade({"btc-1h": 1})
    desk.go(NINE + dt.timedelta(seconds=2))
    desk.quote(60_000.0)
    desk.send(desk.order({"btc-1h": -1, "btc-4h": 1}, "cross"))
    assert desk.lots() == {"btc-4h": 1}
    pay(NINE, "0.0001")
    assert book(desk, NINE + dt.timedelta(minutes=5)) == 1
    assert list(paid(desk)) == ["btc-1h"]
