"""The simulated venue: one order a tag, filled at the next quote, and what it refuses."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal

import pytest

from markets.domain.calendar import NseCalendar, Session, nse_sessions
from markets.domain.charges import itemise
from markets.domain.instruments import BadInstrument, Instruments
from markets.venues.base import OrderRefused
from markets.venues.paper import PaperVenue
from tests.desk import Desk, calendar_of, ist
from tradingsite import clock
from tradingsite.clock import Epoch

nifty = pytest.mark.django_db(databases=["nifty", "default"])
btc = pytest.mark.django_db(databases=["btc", "default"])
SetMarket = Callable[..., None]
LOT = Decimal("0.01")


def test_front_contract_changes_at_the_open_of_the_expiring_ones_last_day() -> None:
    instruments = Instruments("nifty", calendar_of("nifty"))
    before, after = (
        instruments.front(clock.epoch(ist(when)))
        for when in ("2026-06-29 15:29", "2026-06-30 09:15")
    )
    assert before.name == "NIFTY 2026-06-30 FUT"
    assert after.name == "NIFTY 2026-07-28 FUT"
    assert before.lot_size == 65


def test_contract_prices_carry_the_front_and_settle_the_expired() -> None:
    instruments = Instruments("nifty", calendar_of("nifty"))
    at = int(ist("2026-06-30 10:00").timestamp())
    old, new = instruments.parse("NIFTY 2026-06-30 FUT"), instruments.front(Epoch(at))
    assert instruments.price(old, 20_000.0, Epoch(at)) == 20_000.0
    assert instruments.price(new, 20_000.0, Epoch(at)) == pytest.approx(
        20_000 * (1 + 0.065 * 28 / 365)
    )
    day_before = int(ist("2026-06-29 10:00").timestamp())
    assert instruments.price(new, 20_000.0, Epoch(day_before)) is None


@pytest.mark.parametrize("name", ["NIFTY-FUT", "NIFTY 2026-06-31 FUT", "BTC-PERP", "NIFTY"])
def test_a_name_that_is_no_contract_is_refused(name: str) -> None:
    with pytest.raises(BadInstrument):
        Instruments("nifty", calendar_of("nifty")).parse(name)


@btc
def test_an_order_fills_at_the_first_quote_after_it_with_slippage_against_us(
    set_market: SetMarket,
) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    desk.venue.place("T1A", "BTC-PERP", LOT, 10.0)
    desk.venue.place("T1B", "BTC-PERP", -LOT, 10.0)
    assert desk.quote(61_000.0, after_seconds=0.0) == 0  # the quote of the very same instant
    assert desk.quote(62_000.0) == 2
    bought, sold = desk.venue.trades(ist("2026-06-01 00:00"))
    assert (bought.price, sold.price) == (Decimal("62062"), Decimal("61938"))
    assert desk.quote(63_000.0) == 0
    assert desk.venue.positions() == {}


@btc
def test_a_tag_is_one_order_for_ever(set_market: SetMarket) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    first = desk.venue.place("T1A", "BTC-PERP", LOT, 1.0)
    desk.quote(60_000.0)
    assert desk.venue.place("T1A", "BTC-PERP", LOT, 1.0) == first
    assert desk.quote(60_000.0) == 0
    assert desk.venue.positions() == {"BTC-PERP": LOT}


@btc
def test_an_order_ruled_out_can_never_arrive(set_market: SetMarket) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    assert desk.venue.rule_out("T1A")
    with pytest.raises(OrderRefused, match="never arrived"):
        desk.venue.place("T1A", "BTC-PERP", LOT, 1.0)
    desk.venue.place("T1B", "BTC-PERP", LOT, 1.0)
    assert not desk.venue.rule_out("T1B")
    assert [each.state for each in desk.venue.orders(["T1A", "T1B"])] == ["rejected", "open"]


@nifty
def test_an_order_taken_after_the_close_waits_for_the_next_sessions_first_quote(
    set_market: SetMarket,
) -> None:
    desk = Desk("nifty", set_market, "2026-06-05 15:20")  # a Friday
    desk.quote(24_000.0)
    desk.go(ist("2026-06-05 15:30"))
    desk.venue.place("T1A", desk.front, Decimal(65), 1.0)
    assert desk.venue.orders(["T1A"])[0].state == "open"
    desk.go(ist("2026-06-08 09:15"))
    assert desk.quote(24_100.0) == 1


@btc
@pytest.mark.parametrize(
    ("instrument", "quantity", "reason"),
    [
        ("BTC-PERP", Decimal(0), "quantity is zero"),
        ("BTC-PERP", Decimal("0.015"), "whole number of lots"),
        ("ETH-PERP", LOT, "no instrument"),
    ],
)
def test_refusals_are_in_the_book_too(
    set_market: SetMarket, instrument: str, quantity: Decimal, reason: str
) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    with pytest.raises(OrderRefused, match=reason):
        desk.venue.place("T1A", instrument, quantity, 1.0)
    assert desk.venue.orders(["T1A"])[0].state == "rejected"
    assert desk.quote(60_000.0) == 0


@nifty
def test_more_than_the_freeze_quantity_is_refused(set_market: SetMarket) -> None:
    desk = Desk("nifty", set_market)
    desk.quote(24_000.0)
    desk.venue.place("T1A", desk.front, Decimal(65 * 27), 1.0)
    with pytest.raises(OrderRefused, match="freeze quantity of 1800"):
        desk.venue.place("T1B", desk.front, Decimal(65 * 28), 1.0)


@nifty
def test_an_unverified_day_takes_no_orders(set_market: SetMarket) -> None:
    days = [each for each in nse_sessions() if each.date.year == 2026]
    doubtful = [
        Session(d.date, d.opens_at, d.closes_at, d.kind, d.date < dt.date(2026, 6, 8), d.source)
        for d in days
    ]
    desk = Desk("nifty", set_market, "2026-06-05 15:20")
    desk.quote(24_000.0)
    venue = PaperVenue("nifty", NseCalendar(doubtful))
    venue.place("T1A", desk.front, Decimal(65), 1.0)
    desk.go(ist("2026-06-05 15:30"))
    with pytest.raises(OrderRefused, match="2026-06-08 is not verified"):
        venue.place("T1B", desk.front, Decimal(65), 1.0)


@nifty
def test_without_any_price_no_order_is_taken(set_market: SetMarket) -> None:
    desk = Desk("nifty", set_market)
    with pytest.raises(OrderRefused, match="no price yet"):
        desk.venue.place("T1A", desk.front, Decimal(65), 1.0)


@btc
def test_an_order_that_has_not_filled_can_be_cancelled_and_one_that_has_cannot(
    set_market: SetMarket,
) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    for tag in ("T1KEPT", "T1GONE"):
        desk.venue.place(tag, "BTC-PERP", LOT, 0.0)
    [gone] = desk.venue.orders(["T1GONE"])
    desk.venue.cancel(gone)
    desk.venue.cancel(gone)
    assert desk.quote(61_000.0) == 1
    [kept] = desk.venue.orders(["T1KEPT"])
    desk.venue.cancel(kept)
    assert {each.tag: each.state for each in desk.venue.orders(["T1KEPT", "T1GONE"])} == {
        "T1KEPT": "filled",
        "T1GONE": "cancelled",
    }
    assert desk.venue.positions() == {"BTC-PERP": LOT}


@nifty
def test_margins_and_charges_of_a_paper_account(set_market: SetMarket) -> None:
    desk = Desk("nifty", set_market)
    desk.quote(24_000.0)
    before = desk.venue.margins()
    assert (before.currency, before.available, before.used) == ("INR", Decimal(5_000_000), 0)
    desk.venue.place("T1A", desk.front, Decimal(65), 0.0)
    desk.quote(24_000.0)
    [trade] = desk.venue.trades(ist("2026-06-01 00:00"))
    desk.quote(24_100.0)
    price = desk.venue.quote(desk.front)
    assert price is not None
    after = desk.venue.margins()
    assert after.used == Decimal("0.15") * 65 * price
    gain = 65 * (price - trade.price)
    assert after.available == pytest.approx(5_000_000 + gain - after.used, abs=Decimal("0.01"))
    [charges] = desk.venue.charges([trade])
    assert charges == itemise("nifty", ist("2026-06-01").date(), "buy", 65 * trade.price).total > 0
