"""The broker's venue on the simulated broker, through the unmodified client."""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from markets.calendar import NseCalendar, nse_sessions
from markets.simulator import credentials as held
from markets.venues import kite_errors
from markets.venues.base import (
    BookOrder,
    InsufficientFunds,
    NotListed,
    OrderRefused,
    OrderUncertain,
    RateLimited,
    Tick,
    TokenRefused,
    Venue,
    VenueTrade,
)
from markets.venues.kite import KiteVenue
from markets.venues.kite_rows import Directory
from markets.venues.kite_token import KiteConfig, TokenStore
from markets.venues.limiter import KINDS, KITE_RULES, RateLimiter, Rule
from tests.markets.simulator.broker import Broker, broker, ist
from tradingsite import clock
from tradingsite.errors import Degraded, Retry

FUTURE = "NIFTY 2026-06-30 FUT"
CALL = "NIFTY 2026-06-30 25000 CE"
TAG = "T1ABCDEFGHIJKLMNOP"
ANY_PACE = (Rule("all", 10_000, 1.0, KINDS),)


class Desk:
    """A broker, and the desk's venue on it."""

    def __init__(self, served: Broker, folder: Path, set_market: Callable[..., None]) -> None:
        self.broker = served
        self.tokens = TokenStore(folder / "token.json")
        self._folder = folder
        self._set_market = set_market
        self.go("2026-06-01 10:00")
        self.sign_in()
        self.venue = self.make(ANY_PACE)

    def make(self, rules: tuple[Rule, ...] = KITE_RULES, **changes: str) -> KiteVenue:
        """Return a venue of the desk's."""
        places = {"root": self.broker.url, "ws_root": self.broker.url.replace("http", "ws")}
        config = KiteConfig(held.KITE_API_KEY, held.KITE_API_SECRET, **(places | changes))
        limiter = RateLimiter(self._folder / f"limits-{len(rules)}", rules)
        return KiteVenue(config, self.tokens, limiter, NseCalendar(nse_sessions()))

    def go(self, at: str) -> None:
        """Set both sides' market time."""
        self.broker.go(at)
        self._set_market(clock.from_seconds(ist(at)))

    def sign_in(self) -> None:
        """Store a fresh token."""
        token = self.broker.kite.sessions.issue()
        self.tokens.save(token, held.KITE_USER_ID)
        self.broker.client.set_access_token(token)

    def fault(self, kind: str, **how: object) -> None:
        """Put a fault."""
        self.broker.fault(kind, **how)

    def place(self, lots: int = 1, tag: str = TAG, name: str = FUTURE) -> str:
        """Place an order of whole lots."""
        return self.venue.place(tag, name, Decimal(65 * lots), 1.0)

    def filled(self, tag: str = TAG) -> BookOrder:
        """Return an order once it is filled."""
        return self.seen(tag, "filled")

    def seen(self, tag: str, state: str) -> BookOrder:
        """Return an order once the book has it in a state."""
        self.broker.wait(lambda: [each.state for each in self.venue.orders([tag])] == [state])
        return self.venue.orders([tag])[0]


# The list of the day in which the tests begin: fetching it for each would be most of their time.
KNOWN: list[tuple[object, Directory]] = []


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[Desk]:
    with broker() as served:
        made = Desk(served, tmp_path, set_market)
        if not KNOWN:
            made.venue.instruments()
            assert made.venue._listed
            KNOWN.append(made.venue._listed)
        made.venue._listed = KNOWN[0]
        yield made


# --- Instruments and prices ----------------------------------------------------------------------


def test_instruments_have_the_desks_names(desk: Desk) -> None:
    listed = {each.name: each for each in desk.venue.instruments()}
    assert listed["NIFTY"].symbol == "NSE:NIFTY 50" and listed["NIFTY"].token == 256265
    assert {"BANKNIFTY", "INDIA VIX", "SENSEX"} <= set(listed)
    future = listed[FUTURE]
    assert (future.symbol, future.kind, future.underlying) == ("NFO:NIFTY26JUNFUT", "FUT", "NIFTY")
    assert (future.lot_size, future.expiry) == (Decimal(65), dt.date(2026, 6, 30))
    call = listed[CALL]
    assert (call.symbol, call.strike, call.kind) == ("NFO:NIFTY26JUN25000CE", Decimal(25000), "CE")
    assert "SENSEX 2026-06-25 FUT" in listed
    assert not any("RELIANCE" in name for name in listed)


def test_the_list_is_fetched_once_a_day(desk: Desk) -> None:
    def fetched() -> int:
        return sum(path.startswith("GET /instruments/") for path in desk.broker.kite.requests)

    desk.venue._listed = None
    before = fetched()
    desk.venue.instruments()
    desk.venue.instruments()
    assert fetched() == before + 4
    desk.go("2026-06-02 07:00")
    desk.sign_in()
    desk.venue.instruments()
    desk.go("2026-06-02 09:00")  # the morning's list is out
    assert FUTURE in {each.name for each in desk.venue.instruments()}
    assert fetched() == before + 12


def test_bars_are_closed_and_inside_the_span(desk: Desk) -> None:
    start, end = int(ist("2026-05-29 10:00")), int(ist("2026-06-02 00:00"))
    bars = desk.venue.bars("NIFTY", "15m", start, end)
    bars.validate()
    assert bars.opens_at[0] == start
    assert bars.closes_at[-1] == int(ist("2026-06-01 10:00"))  # of now; the next one is forming
    assert len(bars) == 22 + 3
    hours = desk.venue.bars("NIFTY", "1h", start, end)
    assert hours.opens_at[0] == int(ist("2026-05-29 10:15"))
    assert hours.closes_at[5] - hours.opens_at[5] == 900  # cut off at the close
    assert len(desk.venue.bars(FUTURE, "1m", start, start + 600)) == 10


def test_a_day_is_named_by_its_session(desk: Desk) -> None:
    bars = desk.venue.bars(
        "NIFTY", "1d", int(ist("2026-05-25 09:15")), int(ist("2026-06-05 00:00"))
    )
    assert bars.opens_at[0] == int(ist("2026-05-25 09:15"))
    assert bars.closes_at[-1] == int(ist("2026-05-29 15:30"))  # today's has not closed


def test_long_spans_are_asked_for_in_pieces(desk: Desk) -> None:
    bars = desk.venue.bars(
        "NIFTY", "15m", int(ist("2025-06-02 09:15")), int(ist("2026-06-01 10:00"))
    )
    calls = [path for path in desk.broker.kite.requests if "historical" in path]
    assert len(calls) == 2
    assert np.all(np.diff(bars.opens_at) > 0) and bars.opens_at[0] == int(ist("2025-06-02 09:15"))
    whole = desk.venue.bars(
        "NIFTY", "15m", int(ist("2025-12-15 09:15")), int(ist("2025-12-24 00:00"))
    )
    place = int(np.searchsorted(bars.opens_at, whole.opens_at[0]))
    assert np.array_equal(bars.close[place : place + len(whole)], whole.close)


def test_there_are_no_four_hours_and_no_unknown_names(desk: Desk) -> None:
    with pytest.raises(ValueError, match="no '4h' bars; it has 1m"):
        desk.venue.bars("NIFTY", "4h", 0, 1)
    with pytest.raises(NotListed, match="no 'NIFTY 2019-01-31 FUT'"):
        desk.venue.bars("NIFTY 2019-01-31 FUT", "1h", 0, 1)


def test_quotes_are_in_pieces_and_what_is_missing_is_absent(desk: Desk) -> None:
    listed = [each.name for each in desk.venue.instruments() if each.underlying == "NIFTY"]
    names = sorted({"NIFTY", FUTURE, CALL, *listed[:600]})
    desk.fault("missing_quotes", match="NIFTY26JUN25000CE")
    found = desk.venue.quotes([*names, "NIFTY 1999-01-01 FUT"])
    assert set(found) == set(names) - {CALL}
    future = found[FUTURE]
    assert 0 < future.bid < future.ask and future.volume > 0 and future.interest > 0
    assert abs((future.at - clock.market()).total_seconds()) < 60 and future.at.tzinfo
    index = found["NIFTY"]
    assert index.last > 0 and (index.bid, index.ask, index.interest) == (0, 0, 0)
    assert desk.venue.quote(FUTURE) == future.last
    desk.fault("missing_quotes", match="NIFTY26JUNFUT")
    assert desk.venue.quote(FUTURE) is None


def test_ticks_carry_the_desks_names(desk: Desk) -> None:
    taken: list[Tick] = []
    stream = desk.venue.ticks(["NIFTY", FUTURE], taken.extend)
    try:
        desk.broker.wait(lambda: {each.instrument for each in taken} == {"NIFTY", FUTURE})
        desk.broker.wait(stream.is_alive)
    finally:
        stream.close()


# --- Orders --------------------------------------------------------------------------------------


def test_an_order_goes_out_is_found_by_its_tag_and_fills(desk: Desk) -> None:
    venue: Venue = desk.venue  # it is one
    started = clock.market()
    venue_id = desk.place(2)
    order = desk.filled()
    assert (order.venue_id, order.instrument) == (venue_id, FUTURE)
    assert (order.quantity, order.filled_quantity) == (Decimal(130), Decimal(130))
    assert order.accepted_at >= started.replace(microsecond=0)
    row = desk.broker.order(venue_id)
    assert (row["product"], row["order_type"], row["variety"]) == ("NRML", "MARKET", "regular")
    assert venue.orders(["T1NOSUCHTAGATALLXY"]) == []
    assert [each.tag for each in venue.strangers(started)] == [TAG]
    assert venue.strangers(started + dt.timedelta(hours=1)) == []
    assert venue.rule_out("T1NOSUCHTAGATALLXY") is False
    assert venue.positions() == {FUTURE: Decimal(130)}
    trades = venue.trades(started)
    assert sum(each.quantity for each in trades) == Decimal(130)
    assert {each.tag for each in trades} == {TAG}
    assert all(each.at.tzinfo and each.trade_id.startswith("kite-260601-NFO-") for each in trades)
    margins = venue.margins()
    assert margins.currency == "INR" and margins.used > 0 and margins.available > 0


def test_sales_are_negative_and_trades_by_hand_have_no_tag(desk: Desk) -> None:
    desk.place(-1)
    assert desk.filled().filled_quantity == Decimal(-65)
    desk.broker.sell(65, tradingsymbol="NIFTY26JUN25000CE")
    desk.broker.wait(lambda: len(desk.venue.positions()) == 2)
    assert desk.venue.positions() == {FUTURE: Decimal(-65), CALL: Decimal(-65)}
    tags = {each.instrument: each.tag for each in desk.venue.trades(clock.market())}
    assert tags == {FUTURE: TAG, CALL: ""}
    assert len(desk.venue.strangers(clock.market())) == 1


def test_an_instrument_the_desk_does_not_deal_in_keeps_its_symbol(desk: Desk) -> None:
    desk.broker.buy(10, exchange="NSE", tradingsymbol="INFY", product="CNC")
    desk.broker.wait(lambda: "NSE:INFY" in desk.venue.positions())
    trades = desk.venue.trades(clock.market())
    assert {each.instrument for each in trades} == {"NSE:INFY"}
    assert min(desk.venue.charges(trades)) > 0


def test_charges_are_the_brokers_and_by_order(desk: Desk) -> None:
    desk.place(1)
    desk.filled()
    whole = desk.venue.trades(clock.market())[0]
    (cost,) = desk.venue.charges([whole])
    assert Decimal(60) < cost < Decimal(400)
    part = Decimal(20)
    parts = [
        VenueTrade("a", TAG, FUTURE, part, whole.price, whole.at),
        VenueTrade("b", TAG, FUTURE, whole.quantity - part, whole.price, whole.at),
    ]
    shares = desk.venue.charges(parts)
    assert sum(shares) == cost  # one brokerage, not two
    assert shares[0] == pytest.approx(cost * part / whole.quantity, abs=Decimal("0.01"))
    assert desk.venue.charges([]) == []


def test_what_is_left_of_an_order_can_be_cancelled(desk: Desk) -> None:
    desk.fault("partial_fill", quantity=65, seconds=600)
    desk.place(3)
    desk.broker.wait(lambda: desk.venue.orders([TAG])[0].filled_quantity == Decimal(65))
    order = desk.venue.orders([TAG])[0]
    assert order.state == "open"
    desk.venue.cancel(order)
    order = desk.seen(TAG, "cancelled")
    assert (order.quantity, order.filled_quantity) == (Decimal(195), Decimal(65))
    with pytest.raises(Degraded, match="cannot be changed as it is cancelled"):
        desk.venue.cancel(order)


def test_an_order_that_the_exchange_rejects_is_in_the_book(desk: Desk) -> None:
    desk.fault("reject")
    desk.place()
    order = desk.seen(TAG, "rejected")
    assert order.message and order.filled_quantity == 0


@pytest.mark.parametrize(
    "tag, name, quantity, reason",
    [
        (TAG, FUTURE, "64", "no whole number of lots of 65"),
        (TAG, FUTURE, "0", "no whole number of lots"),
        ("T1-WITH-HYPHENS", FUTURE, "65", "is no tag"),
        ("T" * 21, FUTURE, "65", "is no tag"),
        (TAG, "NIFTY 2019-01-31 FUT", "65", "not sent: the broker's list of the day has no"),
        (TAG, "NIFTY", "65", "NIFTY is an index, which cannot be traded"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    desk: Desk, tag: str, name: str, quantity: str, reason: str
) -> None:
    with pytest.raises(OrderRefused, match=reason):
        desk.venue.place(tag, name, Decimal(quantity), 1.0)
    assert desk.venue.orders([tag]) == []


def test_over_the_freeze_quantity_nothing_is_sliced(desk: Desk) -> None:
    with pytest.raises(OrderRefused, match="freeze limit"):  # the broker's word
        desk.place(28)
    sent = desk.broker.kite.trading.placements
    desk.venue.quotes([FUTURE])
    with pytest.raises(OrderRefused, match="1820 is over the freeze quantity of 1800"):
        desk.place(28)
    assert desk.broker.kite.trading.placements == sent


def test_known_refusals_end_an_order(desk: Desk) -> None:
    desk.fault("no_funds")
    with pytest.raises(InsufficientFunds, match="Required margin is"):
        desk.place()
    desk.fault("forbidden_address")
    with pytest.raises(OrderRefused, match="static IP"):
        desk.place()
    desk.go("2026-06-01 18:00")
    with pytest.raises(OrderRefused, match="Markets are closed"):
        desk.place()
    assert desk.venue.orders([TAG]) == []


def test_without_a_token_the_order_was_never_there(desk: Desk) -> None:
    desk.broker.kite.sessions.expire()
    with pytest.raises(TokenRefused) as caught:
        desk.place()
    assert isinstance(caught.value, OrderRefused)
    desk.tokens.forget()
    with pytest.raises(OrderRefused, match="not sent: there is no token of the day"):
        desk.place()


@pytest.mark.parametrize(
    "fault",
    ["ambiguous_400", "lost_400", "reset_after_acceptance", "error_after_acceptance", "not_json"],
)
def test_what_may_have_arrived_is_uncertain_and_sent_once(desk: Desk, fault: str) -> None:
    desk.fault(fault, seconds=0.2, match="" if fault != "not_json" else "POST")
    with pytest.raises(OrderUncertain, match="not known whether the order arrived"):
        desk.place()
    posts = [path for path in desk.broker.kite.requests if path == "POST /orders/regular"]
    assert len(posts) <= 1
    if fault not in ("lost_400", "not_json"):
        assert desk.filled().quantity == Decimal(65)


def test_a_silent_broker_leaves_the_order_uncertain(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.venue.margins()  # so that there is a client
    desk.venue._local.kite.timeout = 0.3
    desk.fault("timeout_after_acceptance", seconds=1.0)
    with pytest.raises(OrderUncertain, match="Read timed out"):
        desk.place()
    assert desk.filled().venue_id


def test_an_order_that_found_no_connection_never_left(desk: Desk) -> None:
    desk.venue.margins()  # so that there is a client
    desk.venue._local.kite.root = "http://127.0.0.1:1"
    with pytest.raises(OrderRefused, match="not sent, as there was no connection"):
        desk.place()


def test_too_fast_is_a_refusal_and_everybody_slows_down(desk: Desk) -> None:
    desk.fault("rate_limit", match="/orders/regular")
    with pytest.raises(RateLimited) as caught:
        desk.place()
    assert isinstance(caught.value, OrderRefused)
    began = time.monotonic()
    with pytest.raises(OrderRefused, match="not sent: the limits of this account"):
        desk.place()
    assert time.monotonic() - began < 1.0  # it would be too old when its turn came


# --- Reading what fails --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault, reaction",
    [
        ("unavailable", Degraded),  # a page, which the client cannot read
        ("not_json", Degraded),
        ("reset", Retry),
        ("rate_limit", RateLimited),
        ("token_expired", TokenRefused),
    ],
)
def test_reading_says_what_to_do(desk: Desk, fault: str, reaction: type[Exception]) -> None:
    desk.fault(fault)
    with pytest.raises(reaction):
        desk.venue.orders([TAG])


def test_errors_by_their_status() -> None:
    from kiteconnect import exceptions as ex

    assert isinstance(kite_errors.of_reading(ex.GeneralException("x", code=500)), Retry)
    assert isinstance(kite_errors.of_reading(ex.NetworkException("x", code=503)), Retry)
    assert isinstance(kite_errors.of_reading(ex.InputException("x")), Degraded)
    assert isinstance(kite_errors.of_reading(KeyError("content-type")), Degraded)
    for unsure in (
        ex.OrderException("Order request timed out. Please check the order book", code=400),
        ex.InputException("Invalid `x`: check the order book", code=400),
        ex.InputException("Something new", code=400),
        ex.OrderException("RMS: circuit limit", code=500),
        ex.NetworkException("x", code=503),
        KeyError("content-type"),
    ):
        assert isinstance(kite_errors.of_placing(unsure), OrderUncertain), unsure


def test_a_new_token_is_used_without_a_restart(desk: Desk) -> None:
    desk.venue.margins()
    desk.broker.kite.sessions.expire()
    with pytest.raises(TokenRefused, match=r"Sign in again at /kite/"):
        desk.venue.margins()
    desk.sign_in()
    assert desk.venue.margins().currency == "INR"
    assert desk.venue.profile()["user_id"] == held.KITE_USER_ID


def test_each_thread_has_a_client_of_its_own(desk: Desk) -> None:
    desk.venue.margins()
    clients = [desk.venue._client()]
    thread = threading.Thread(target=lambda: clients.append(desk.venue._client()))
    thread.start()
    thread.join()
    assert clients[0] is desk.venue._client() and clients[0] is not clients[1]


def test_by_the_real_rules_the_broker_refuses_nothing(
    tmp_path: Path, set_market: Callable[..., None]
) -> None:
    with broker(has_limits=True) as served:
        served.kite.limits._counts.clear()
        desk = Desk(served, tmp_path, set_market)
        venue = desk.make()
        venue.instruments()
        threads = [threading.Thread(target=venue.margins) for _ in range(14)]
        threads += [threading.Thread(target=venue.quote, args=(FUTURE,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert served.kite.limits.refused == 0
        assert served.kite.limits.most_in_a_second <= 10


def test_no_token_reaches_a_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, "urllib3", "kiteconnect"):
        caplog.set_level(logging.DEBUG, name)
    desk.place()
    desk.filled()
    desk.venue.trades(clock.market())
    token = desk.tokens.current()
    desk.broker.kite.sessions.expire()
    with pytest.raises(TokenRefused):
        desk.venue.margins()
    assert "GET /orders" in caplog.text
    assert token not in caplog.text and held.KITE_API_SECRET not in caplog.text
