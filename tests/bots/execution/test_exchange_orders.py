"""The order protocol at the simulated exchange, through ccxt."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bots.execution import kill_switch, ledger
from bots.models import Discrepancy, Fill, Order
from markets.simulator.credentials import EXCHANGE_PRIVATE_KEY, EXCHANGE_WALLET
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.world import World
from markets.venues.ccxt.client import ExchangeConfig
from markets.venues.ccxt.venue import ExchangeVenue
from tests.desk import Desk
from tests.markets.simulator.exchange_client import PLENTY, HandClock
from tests.markets.simulator.served import served
from tradingsite import clock
from tradingsite.errors import Retry

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["btc", "default"])
ORDERS, READS = "POST /exchange", "POST /info"


@pytest.fixture(scope="module")
def hand() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def world(hand: HandClock) -> World:
    return World.build(hand)


class AtExchange(Desk):
    """The BTC bot at the exchange."""

    def __init__(self, exchange: Hyperliquid, url: str, set_market: SetMarket, at: float) -> None:
        when = clock.from_seconds(at).astimezone(clock.IST)
        super().__init__("btc", set_market, f"{when:%Y-%m-%d %H:%M}")
        self.exchange = exchange
        self.config = ExchangeConfig(
            wallet=EXCHANGE_WALLET,
            private_key=EXCHANGE_PRIVATE_KEY,
            url=url,
            pause_ms=1.0,
            timeout_seconds=1.0,
        )
        venue = ExchangeVenue(self.config)
        # What is asked once is behind it.
        venue._set_leverage()
        self.venue = venue
        ledger.open_rows(self.bot, self.front, self.venue.name)

    def until(self, order: Order, state: str, seconds: float = 8.0) -> Order:
        """Reconcile until an order has come to a state."""
        end = time.monotonic() + seconds
        while order.state != state:
            assert time.monotonic() < end, f"{order.state}, wanted {state}"
            self.reconcile()
            order.refresh_from_db()
        return order

    def later(self, shares: dict[str, int], leg: str = "open") -> Order:
        """Write and send the order of the next bar."""
        self.go(self.now + dt.timedelta(minutes=1))
        order = self.order(shares, leg, bar=self.now)
        self.send(order)
        return order

    def there(self) -> list[str]:
        """Return the tag of every order that the exchange ever took."""
        account = self.exchange.engine.accounts[EXCHANGE_WALLET]
        return [str(order.cloid) for order in account.orders.values()]


@pytest.fixture
def desk(
    world: World, hand: HandClock, set_market: SetMarket, tmp_path: Path
) -> Iterator[AtExchange]:
    hand.reset()
    exchange = Hyperliquid(world, weight_per_minute=PLENTY)
    with served(exchange.app()) as url:
        yield AtExchange(exchange, url, set_market, hand.at)


def test_an_order_is_sent_filled_booked_with_its_fee_and_agrees(desk: AtExchange) -> None:
    order = desk.order({"btc-1h": 2, "btc-4h": 1})
    desk.send(order)
    assert order.state == "acked" and order.arrival_price and order.sent_at
    desk.until(order, "filled")
    assert desk.lots() == {"btc-1h": 2, "btc-4h": 1}
    assert desk.venue.positions() == {desk.front: Decimal("0.03")}
    assert desk.reconcile().differences == ()
    fill = Fill.on("btc").objects.get()
    [trade] = desk.venue.trades(order.created_at - dt.timedelta(minutes=5))
    [fee] = desk.venue.charges([trade])
    assert abs(fee - fill.charges) < Decimal("0.01")


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        *((kind, {}) for kind in ("server_error", "unavailable", "not_json", "reset")),
        ("timeout", {"seconds": 1.5}),
    ],
)
def test_what_is_lost_is_unknown_sent_once_and_ends_as_its_nonce_is_used_up(
    desk: AtExchange, fault: str, how: dict[str, float]
) -> None:
    desk.exchange.faults.put(fault, match=ORDERS, **how)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "unknown"
    second = desk.later({"btc-1h": 1})
    assert second.state == "denied" and "is unknown" in second.message
    assert desk.there() == []
    assert desk.reconcile().settled == 1, "a noop of the same nonce makes it impossible"
    order.refresh_from_db()
    assert order.state == "not_placed" and "rules out" in order.message
    third = desk.later({"btc-1h": 1})
    desk.until(third, "filled")
    assert len(desk.there()) == 1
    assert desk.reconcile().differences == ()


def test_a_proof_whose_own_answer_was_lost_is_a_proof_a_minute_later(desk: AtExchange) -> None:
    desk.exchange.faults.put("reset", match=ORDERS)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    desk.exchange.faults.put("timeout", match=ORDERS, seconds=1.5)  # of the noop
    with pytest.raises(Retry):
        desk.reconcile()
    assert desk.venue.rule_out(order.tag, order.sent_at), "that noop was never taken"
    assert not desk.venue.rule_out(order.tag, order.sent_at), "used by now: by our order, perhaps"
    old = clock.real() - dt.timedelta(minutes=2)
    assert desk.venue.rule_out(order.tag, old), "not used yet"
    assert desk.venue.rule_out(order.tag, old), "used, and the book has had the time to show it"


@pytest.mark.parametrize(
    ("fault", "how"),
    [("timeout_after_acceptance", {"seconds": 1.5})],
)
def test_what_arrived_without_an_answer_is_found_by_its_own_id(
    desk: AtExchange, fault: str, how: dict[str, float]
) -> None:
    desk.exchange.faults.put(fault, **how)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "unknown"
    # Started again: a process that never sent it finds it by its own id.
    desk.venue = ExchangeVenue(desk.config)
    desk.until(order, "filled")
    assert len(desk.there()) == 1
    assert desk.story(order)[:3] == ["intent", "submitting", "unknown"]
    assert desk.reconcile().differences == ()


def test_what_is_still_on_its_way_is_stopped_by_its_nonce(desk: AtExchange) -> None:
    desk.exchange.faults.put("late_acceptance", seconds=1.0)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "unknown"
    assert desk.reconcile().settled == 1
    time.sleep(1.5)  # it arrives now, and its nonce was used
    assert desk.there() == []
    assert desk.reconcile().differences == ()


def test_a_known_refusal_is_final_and_never_sent_again(desk: AtExchange) -> None:
    desk.exchange.faults.put("reject")
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "rejected"
    assert desk.reconcile().settled == 0
    assert desk.venue.positions() == {}


def test_what_fills_in_part_is_cancelled_and_the_rest_is_traded_with_the_next(
    desk: AtExchange,
) -> None:
    desk.exchange.faults.put("partial_fill", quantity=1_500)  # of 2,000 steps
    order = desk.order({"btc-1h": 2})
    desk.send(order)
    desk.until(order, "cancelled")
    assert desk.venue.positions() == {desk.front: Decimal("0.015")}
    assert desk.lots() == {"btc-1h": 1}
    following = desk.later({"btc-1h": 2})
    desk.until(following, "filled")
    assert following.quantity == Decimal("0.015")
    assert desk.venue.positions() == {desk.front: Decimal("0.03")}
    assert desk.lots() == {"btc-1h": 3}
    assert desk.reconcile().differences == ()


def test_an_exit_can_only_reduce(desk: AtExchange) -> None:
    entry = desk.order({"btc-1h": 1})
    desk.send(entry)
    desk.until(entry, "filled")
    # Somebody closed it meanwhile, and nothing says who: our exit must not open the other side.
    account = desk.exchange.engine.accounts[EXCHANGE_WALLET]
    account.positions.clear()
    leaving = desk.later({"btc-1h": -1}, "close")
    assert leaving.state == "denied" and "would open the other side" in leaving.message
    assert desk.venue.positions() == {}
    Order.on("btc").objects.update(sent_at=clock.real() - dt.timedelta(minutes=2))
    desk.reconcile()
    stopped = Discrepancy.on("btc").objects.get(closed_at=None)
    assert (stopped.ledger_quantity, stopped.venue_quantity) == (Decimal("0.01"), 0)


def test_a_book_that_cannot_be_read_proves_nothing(desk: AtExchange) -> None:
    desk.exchange.faults.put("reset", match=ORDERS)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    desk.exchange.faults.put("unavailable", match=READS, times=50)
    with pytest.raises(Exception, match="hyperliquid"):
        desk.reconcile()
    order.refresh_from_db()
    assert order.state == "unknown"


def test_a_halt_stops_what_was_intended(desk: AtExchange) -> None:
    order = desk.order({"btc-1h": 1})
    kill_switch.halt(desk.bot, "a test", "me")
    desk.send(order)
    assert order.state == "denied"
    assert desk.there() == []
