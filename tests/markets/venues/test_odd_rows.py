"""One odd row costs one row, at both venues: named, counted, told once, and the rest is used."""

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from markets.venues import odd_row_notices
from markets.venues.base import Holding
from markets.venues.ccxt import venue as exchange_venue
from markets.venues.ccxt.client import ExchangeConfig
from markets.venues.ccxt.venue import ExchangeVenue
from markets.venues.odd_rows import OddRows
from tests.markets.venues.kite.desk import CALL, FUTURE, KiteDesk, kite_desk
from tradingsite.errors import Degraded
from tradingsite.models import Notice

SYMBOL = "BTC/USDC:USDC"


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    with kite_desk(tmp_path, set_market) as made:
        yield made


class Answered(ExchangeVenue):
    """An exchange that answers what a test wants."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(ExchangeConfig(wallet="0x" + "1" * 40, private_key="2" * 64))
        self.answers = answers

    def _signed(self, method: str, *arguments: Any) -> Any:
        return self.answers[method]

    def _market(self, wire: Any) -> dict[str, Any]:
        return {"settle": "USDC", "contractSize": 1}

    def _size(self, symbol: str) -> Decimal:
        return Decimal("0.001") if symbol == SYMBOL else Decimal(1)


def row(**changes: Any) -> dict[str, Any]:
    whole = {
        "symbol": SYMBOL,
        "side": "long",
        "contracts": 5.0,
        "contractSize": 1.0,
        "entryPrice": 60_000.0,
    }
    return whole | changes


def test_a_reason_is_told_once_and_each_row_is_counted() -> None:
    odd, told = OddRows("kite"), []
    odd.tell_people = lambda key, text: told.append((key, text))
    for _ in range(3):
        assert odd.read("quote", [{"a": 1}, {"b": 2}], lambda each: each["a"]) == [1]
    assert odd.count == 3
    [(key, text)] = told
    assert key == "odd-row:kite:quote" and "the other rows were used" in text.lower()


@pytest.mark.django_db
def test_people_hear_of_it_by_a_notice() -> None:
    odd_row_notices.tell("odd-row:kite:quote", "a row that makes no sense")
    assert Notice.objects.get().channel == "infrastructure"


def test_a_quote_without_a_time_costs_that_quote(desk: KiteDesk) -> None:
    desk.fault("odd_rows", match=f"/quote {desk.venue._directory().find(CALL).symbol}")
    found = desk.venue.quotes([FUTURE, CALL])
    assert set(found) == {FUTURE}
    assert desk.venue.odd_rows.count == 1
    assert set(desk.venue.quotes([FUTURE, CALL])) == {FUTURE, CALL}


@pytest.mark.parametrize("what", ["/orders", "/trades"])
@pytest.mark.parametrize("fault", ["odd_rows", "null_quantities"])
def test_an_odd_row_of_the_book_costs_that_row(desk: KiteDesk, what: str, fault: str) -> None:
    desk.broker.buy(65)
    desk.broker.buy(65)
    desk.broker.wait(lambda: desk.venue.positions() == {FUTURE: 130})
    since = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    desk.fault(fault, match=what)
    if what == "/orders":
        assert len(desk.venue._book()) == 1
        assert len(desk.venue._book()) == 2
    else:
        assert len(desk.venue.trades(since)) == 1
        assert len(desk.venue.trades(since)) == 2


def test_both_sides_of_an_account_that_hedges_are_added() -> None:
    both = [row(contracts=50.0), row(contracts=20.0, side="short")]
    venue = Answered(fetch_positions=both)
    assert venue.positions() == {"BTC-PERP": Decimal(30)}


def test_the_size_of_a_contract_is_the_markets_where_a_position_has_none() -> None:
    venue = Answered(fetch_positions=[row(contracts=10.0, contractSize=None)])
    assert venue.holdings() == [
        Holding("BTC-PERP", Decimal("0.010"), average_price=Decimal("60000.0"))
    ]


def test_a_foreign_position_that_makes_no_sense_is_left_out_and_our_own_is_not() -> None:
    odd = row(symbol="ETH/USDC:USDC", contracts="none")
    venue = Answered(fetch_positions=[odd, row(contracts=2.0)])
    assert venue.positions() == {"BTC-PERP": Decimal(2)}
    assert venue.odd_rows.count == 1
    with pytest.raises(Degraded, match="cannot be read"):
        Answered(fetch_positions=[row(contracts="none")]).positions()


def test_an_execution_without_an_amount_costs_that_execution() -> None:
    whole = {
        "id": "1",
        "order": "7",
        "symbol": SYMBOL,
        "timestamp": 1_780_000_000_000,
        "side": "buy",
        "amount": 3.0,
        "price": 60_000.0,
        "info": {"cloid": "0x" + "0" * 32},
        "fee": None,
    }
    trades = [whole, {**whole, "id": "2", "amount": None}, {**whole, "id": "3", "side": None}]
    venue = Answered(fetch_my_trades=trades)
    found = venue.trades(dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
    assert [trade.trade_id for trade in found] == ["1"]
    assert found[0].quantity == Decimal("0.003")
    assert venue.odd_rows.count == 2


@pytest.mark.parametrize(
    "odd",
    [
        *({"amount": each} for each in (float("nan"), float("inf"), 0.0, -3.0, "three")),
        *({"price": each} for each in (float("nan"), 0.0, -1.0, None)),
        {"timestamp": None},
        {"symbol": SYMBOL, "side": "both"},
    ],
)
def test_an_execution_that_is_none_costs_itself_on_a_full_page_too(
    odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_venue, "FILLS_PER_PAGE", 2)
    whole = {
        "id": "1",
        "order": "7",
        "symbol": SYMBOL,
        "timestamp": 1_780_000_000_000,
        "side": "buy",
        "amount": 3.0,
        "price": 60_000.0,
        "info": {"cloid": "0x" + "0" * 32},
        "fee": None,
    }
    venue = Answered(fetch_my_trades=[whole, {**whole, "id": "2", **odd}])
    found = venue.trades(dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
    assert ([trade.trade_id for trade in found], venue.odd_rows.count) == (["1"], 1)


@pytest.mark.parametrize("contracts", [float("nan"), float("inf")])
def test_a_position_that_is_no_number_is_not_taken_for_one(contracts: float) -> None:
    with pytest.raises(Degraded, match="cannot be read"):
        Answered(fetch_positions=[row(contracts=contracts)]).positions()


@pytest.mark.parametrize(
    ("raw", "forced"),
    [
        ({"dir": "Liquidated Cross Long"}, True),
        ({"dir": "Auto-Deleveraging"}, True),
        ({"dir": "Settlement"}, True),
        ({"dir": "Close Long", "liquidation": {"liquidatedUser": "0x" + "1" * 40}}, True),
        ({"dir": "Open Short", "liquidation": {"liquidatedUser": "0x" + "9" * 40}}, False),
        ({"dir": "Close Long"}, False),
    ],
)
def test_whose_hand_an_execution_was(raw: dict[str, Any], forced: bool) -> None:
    trade = {
        "id": "1",
        "order": "7",
        "symbol": SYMBOL,
        "timestamp": 1_780_000_000_000,
        "side": "sell",
        "amount": 1.0,
        "price": 60_000.0,
        "info": {"cloid": "0x" + "0" * 32, **raw},
    }
    [found] = Answered(fetch_my_trades=[trade]).trades(dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
    assert found.by_venue is forced
