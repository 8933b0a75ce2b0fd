"""The owner who trades by hand: the same person in history and live, and one who can be learnt."""

import csv
import datetime as dt
import io
from decimal import Decimal

import numpy as np
import pytest
import requests

from markets.domain.calendar import trading_date
from markets.simulator import owner
from markets.simulator.world import World
from tests.markets.simulator.broker import Broker, broker, ist, shared_world
from tradingsite.clock import Epoch

LAST = dt.date(2026, 5, 29)


@pytest.fixture(scope="module")
def world() -> World:
    found, hand = shared_world()
    hand.at = ist("2026-06-01 10:00")
    return found


@pytest.fixture(scope="module")
def two_years(world: World) -> list[owner.Intent]:
    return owner.intents(world, LAST - dt.timedelta(days=730), LAST)


def test_he_is_one_person_however_he_is_asked(world: World, two_years: list[owner.Intent]) -> None:
    for first, days in ((dt.date(2025, 3, 5), 9), (dt.date(2026, 1, 1), 40)):
        last = first + dt.timedelta(days=days)
        part = owner.intents(world, first, last)
        assert part == [look for look in two_years if first <= trading_date(Epoch(look.at)) <= last]
        assert part


def test_he_trades_a_few_times_a_week_within_his_limits(
    world: World, two_years: list[owner.Intent]
) -> None:
    held = 0
    for look in two_years:
        assert look.held == held + look.lots or held == 0, look
        held = look.held
        assert abs(look.held) <= owner.MOST_LOTS
        assert abs(look.lots) <= owner.MOST_LOTS
        assert world.prices.nse.is_open(Epoch(look.at))
    trades = [look for look in two_years if look.lots]
    assert 300 < len(trades) < 1_000
    sides = np.sign([look.held for look in two_years])
    assert (sides > 0).sum() > 100 and (sides < 0).sum() > 100, "he is on both sides"


def test_his_rule_can_be_found_in_what_he_did(world: World, two_years: list[owner.Intent]) -> None:
    at = np.array([look.at for look in two_years])
    held = np.array([look.held for look in two_years])
    price = np.log(world.prices.spot("NIFTY", at))
    before = np.log(world.prices.spot("NIFTY", at - 5 * 86_400.0))
    assert np.corrcoef(price - before, held)[0, 1] < -0.4, "he sells what has run up"


def test_he_is_flat_when_his_contract_expires(world: World, two_years: list[owner.Intent]) -> None:
    holds: dict[str, int] = {}
    for look in two_years:
        row = owner.near_future(world, trading_date(Epoch(look.at)))
        holds[row.symbol] = holds.get(row.symbol, 0) + look.lots
    ended = list(holds.values())[1:-1]
    assert len(ended) > 20 and not any(ended)


def test_the_trade_book_has_the_brokers_columns_and_prices_of_its_market(world: World) -> None:
    text = owner.tradebook(world, years=0.5)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == owner.TRADEBOOK_COLUMNS
    assert len({row["trade_id"] for row in rows}) == len(rows) > 80
    for row in rows[::20]:
        at = dt.datetime.fromisoformat(row["order_execution_time"])
        seconds = ist(f"{at:%Y-%m-%d %H:%M:%S}")
        near = world.prices.spot_at("NIFTY", seconds)
        assert abs(float(row["price"]) / near - 1.0) < 0.01
        assert Decimal(row["quantity"]) % 25 == 0 or Decimal(row["quantity"]) % 65 == 0
        assert row["trade_date"] == f"{at:%Y-%m-%d}"


def test_he_trades_the_account_without_a_tag(world: World) -> None:
    with broker(at="2026-06-01 09:15", owner_trades=True) as desk:
        plan = [look for look in owner.intents(world, *[dt.date(2026, 6, 1)] * 2) if look.lots]
        assert plan, "the seed makes him trade on this day"
        desk.hand.at = plan[0].at + 1.0
        _wait_for_trade(desk)
        [order] = desk.client.orders()
        assert order["tag"] is None
        assert order["placed_by"] == "SIM001"
        side = 1 if order["transaction_type"] == "BUY" else -1
        assert side * order["quantity"] == plan[0].lots * 65
        answer = requests.get(f"{desk.url}/_sim/tradebook?years=0.1", timeout=5)
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert "2026-06-01" in answer.text


def _wait_for_trade(desk: Broker) -> None:
    desk.wait(lambda: bool(desk.client.orders()))


def test_a_new_account_holds_what_he_bought_before_it_was_opened(world: World) -> None:
    before = owner.intents(world, dt.date(2026, 5, 27), LAST)
    assert before[-1].held, "the seed leaves him with something over that night"
    with broker(at="2026-06-01 09:00", owner_trades=True) as desk:
        [row] = desk.client.positions()["net"]
        assert row["quantity"] == row["overnight_quantity"] == before[-1].held * 65
        rows = list(
            csv.DictReader(io.StringIO(owner.tradebook(world, 0.1, desk.kite.account.book)))
        )
        in_june = [each for each in rows if each["symbol"] == row["tradingsymbol"]]
        sides = {"buy": 1, "sell": -1}
        booked = sum(sides[each["trade_type"]] * int(float(each["quantity"])) for each in in_june)
        assert booked == row["quantity"], "his book of trades says the same"
