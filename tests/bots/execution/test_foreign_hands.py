"""What the exchange or the owner does to a bot's position, and what is left of it."""

from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from bots.execution import kill_switch
from bots.live.decisions import Decider
from bots.live.policies import Policies
from bots.models import AccountHolding, Discrepancy, Order
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.world import World
from tests.bots.execution.test_exchange_orders import AtExchange, SetMarket, hand, world
from tests.markets.simulator.exchange_client import HandClock
from tests.markets.simulator.served import served
from tradingsite import clock, owner_limits
from tradingsite.models import Notice

__all__ = ["hand", "world"]
pytestmark = pytest.mark.django_db(databases=["nifty", "btc", "default"])
LOT = Decimal("0.01")


@pytest.fixture
def desk(
    world: World, hand: HandClock, set_market: SetMarket, tmp_path: Path
) -> Iterator[AtExchange]:
    hand.reset()
    exchange = Hyperliquid(world, weight_per_minute=10**9)
    with served(exchange.app()) as url:
        yield AtExchange(exchange, url, set_market, hand.at)


def holding(desk: AtExchange, shares: dict[str, int]) -> Order:
    """Let the bot hold something."""
    order = desk.order(shares)
    desk.send(order)
    return desk.until(order, "filled")


@pytest.mark.parametrize("how", ["liquidate", "adl", "backstop"])
def test_what_the_exchange_closed_by_force_is_booked_and_the_bot_halted(
    desk: AtExchange, how: str
) -> None:
    holding(desk, {"btc-1h": 2, "btc-4h": 1})
    desk.exchange.faults.put(how)
    assert desk.venue.positions() == {}
    outcome = desk.reconcile()
    assert (outcome.closed > 0, outcome.differences) == (True, ())
    closing = Order.on("btc").objects.filter(leg="by_venue")
    assert sum(each.quantity for each in closing) == -3 * LOT
    assert desk.lots() == {}
    assert desk.risk().halted and "closed for it by the venue" in desk.risk().halt_reason
    assert Notice.objects.filter(key__startswith="closed:btc", severity="critical").exists()
    # What was halted so has nothing to close, and says so to nobody's loss.
    kill_switch.halt(desk.bot, "again", "me", flatten=True)
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))
    assert decider.flatten(clock.epoch(desk.now)) == []
    assert desk.venue.positions() == {}


def test_a_part_that_was_deleveraged_leaves_the_rest_to_the_bot(desk: AtExchange) -> None:
    holding(desk, {"btc-1h": 2, "btc-4h": 1})
    desk.exchange.faults.put("adl", quantity=1_370)  # 0.0137 BTC
    assert desk.venue.positions() == {desk.front: Decimal("0.0163")}
    assert desk.reconcile().closed == 1
    held = {slot: row.quantity for slot, row in desk.positions().items()}
    assert sum(held.values()) == Decimal("0.0163")
    assert desk.reconcile().differences == ()
    # All of it can be closed, what is less than a lot too.
    kill_switch.halt(desk.bot, "again", "me", flatten=True)
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))
    [leaving] = decider.flatten(clock.epoch(desk.now))
    desk.send(leaving)
    desk.until(leaving, "filled")
    assert desk.venue.positions() == {}
    assert {row.quantity for row in desk.positions().values()} == {0}
    assert desk.reconcile().differences == ()


def test_what_is_left_of_an_order_filled_in_part_is_closed_by_a_flatten(desk: AtExchange) -> None:
    desk.exchange.faults.put("partial_fill", quantity=900)  # 0.009 of 0.02
    order = desk.order({"btc-1h": 2})
    desk.send(order)
    desk.until(order, "cancelled")
    assert desk.lots() == {} and desk.venue.positions() == {desk.front: Decimal("0.009")}
    kill_switch.halt(desk.bot, "a test", "me", flatten=True)
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))
    [leaving] = decider.flatten(clock.epoch(desk.now))
    desk.send(leaving)
    desk.until(leaving, "filled")
    assert (desk.venue.positions(), desk.reconcile().differences) == ({}, ())


def test_a_partly_filled_order_that_is_told_as_filled_is_over(desk: AtExchange) -> None:
    desk.exchange.faults.put("ioc_as_filled")
    desk.exchange.faults.put("partial_fill", quantity=1_000)
    order = desk.order({"btc-1h": 3})
    desk.send(order)
    desk.until(order, "cancelled", 15.0)
    assert order.filled_quantity == LOT
    assert order.message == "over at the venue (filled) with 0.01 of 0.03"
    assert (desk.lots(), desk.reconcile().differences) == ({"btc-1h": 1}, ())


@pytest.mark.parametrize(
    "how", ["cancel_scheduled", "cancel_liquidated", "cancel_margin", "cancel_self_trade"]
)
def test_a_status_nobody_maps_ends_the_order_all_the_same(desk: AtExchange, how: str) -> None:
    desk.exchange.faults.put(how, match="BTC", quantity=1_000)
    order = desk.order({"btc-1h": 2})
    desk.send(order)
    desk.until(order, "cancelled", 15.0)
    assert (order.filled_quantity, desk.lots()) == (LOT, {"btc-1h": 1})


def test_own_fills_behind_many_foreign_ones_are_found(desk: AtExchange) -> None:
    desk.exchange.faults.put("foreign_fills", quantity=2_100)
    desk.venue.positions()
    order = holding(desk, {"btc-1h": 1})
    assert order.filled_quantity == LOT
    assert [trade.tag for trade in desk.venue.trades(order.created_at)] == [order.tag]


def test_the_owners_own_sale_closes_the_bots_position_and_the_rest_is_his(
    desk: AtExchange,
) -> None:
    holding(desk, {"btc-1h": 2})
    desk.exchange.faults.put("owner_trade", quantity=-5_000)
    assert desk.venue.positions() == {desk.front: Decimal("-0.03")}
    outcome = desk.reconcile()
    assert outcome.closed == 1 and desk.lots() == {}
    assert outcome.differences == (f"{desk.front}: the ledger has 0, the venue has -0.03",)
    said = StringIO()
    call_command("adopt", "btc", stdout=said)
    assert "Books -0.03 BTC-PERP as yours" in said.getvalue()
    call_command("adopt", "btc", desk.front, "--yes", stdout=said)
    assert desk.reconcile().differences == ()
    kept = AccountHolding.on("btc").objects.get()
    assert (kept.instrument, kept.quantity) == (desk.front, Decimal("-0.03"))


def test_where_the_venue_has_less_a_person_says_who_closed_it_and_at_what_price(
    desk: AtExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(desk, {"btc-1h": 2})
    monkeypatch.setattr(desk.venue, "trades", lambda since: [])
    desk.exchange.faults.put("liquidate")
    Order.on("btc").objects.update(sent_at=None)
    assert desk.reconcile().differences == (f"{desk.front}: the ledger has 0.02, the venue has 0",)
    with pytest.raises(CommandError, match=r"by_owner: I closed 0.02 of it by hand; --as by_venue"):
        call_command("adopt", "btc", desk.front, "--yes", stdout=StringIO())
    with pytest.raises(CommandError, match="does not fit"):
        call_command("adopt", "btc", desk.front, "--as", "owners", "--yes", stdout=StringIO())
    said = StringIO()
    how = ("--as", "by_venue", "--price", "59000", "--yes")
    call_command("adopt", "btc", desk.front, *how, stdout=said)
    assert "booked the closing of 0.02 with the btc bot at USDC 59000" in said.getvalue()
    assert (desk.lots(), desk.reconcile().differences) == ({}, ())
    assert not Discrepancy.on("btc").objects.filter(closed_at=None).exists()
    assert not Discrepancy.on("btc").objects.exclude(adopted_by="").exists(), "nothing is adopted"


@pytest.mark.parametrize(
    "how",
    ["reject_oracle", "reject_post_only", "reject_halted", "err_deposit", "err_halted", "http_422"],
)
def test_a_plain_refusal_blocks_nothing(desk: AtExchange, how: str) -> None:
    match = "BTC" if how.startswith("reject") else "exchange order" if "http" in how else "order"
    desk.exchange.faults.put(how, match=match)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "rejected", order.message
    following = desk.later({"btc-1h": 1})
    desk.until(following, "filled")
    assert desk.exchange.unasked == []


def test_a_leverage_that_cannot_be_set_keeps_no_exit(desk: AtExchange) -> None:
    holding(desk, {"btc-1h": 1})
    desk.venue._leverage_is_set = False  # type: ignore[attr-defined]
    desk.exchange.faults.put("leverage_refused", times=5)
    leaving = desk.later({"btc-1h": -1}, "close")
    desk.until(leaving, "filled")
    assert desk.venue.positions() == {}
    entry = desk.later({"btc-1h": 1})
    assert entry.state == "rejected" and "leverage" in entry.message


def test_with_a_broken_file_of_limits_a_bot_only_reduces(desk: AtExchange, tmp_path: Path) -> None:
    holding(desk, {"btc-1h": 2})
    kept = owner_limits.in_force.path
    path = tmp_path / "limits.toml"
    path.write_text("[bots.btc]\nlimit_lots = 40\n")
    owner_limits.apply(path)
    try:
        entry = desk.later({"btc-1h": 1})
        assert entry.state == "denied" and "limit_lots = 40 is more than" in entry.message
        assert "takes no new risk" in Notice.objects.get(key="limits:btc").text
        leaving = desk.later({"btc-1h": -1}, "close")
        desk.until(leaving, "filled")
    finally:
        owner_limits.apply(kept)
