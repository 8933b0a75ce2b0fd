"""The command that loads a trade book, and that it meets what was fetched in the same row."""

import datetime as dt
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bots.models import Fill, Order
from markets.capture import own_executions, owner_trades
from markets.imports.tradebook import TradeBook, parse
from markets.models import Bar, CameBy, OwnerOrder, OwnerTrade, Source
from markets.simulator import history
from markets.venues.kite.account import AccountOrder, AccountTrade, DayBook
from tests.histories import seed_days
from tests.markets.imports.tradebooks import DERIVATIVES, SHARE, SHARES, line, write
from tests.markets.simulator.broker import ist, shared_world
from tests.markets.venues.kite.desk import KiteDesk, kite_desk
from tradingsite.clock import IST
from tradingsite.signals import market_replaced

pytestmark = pytest.mark.django_db(databases=["default", "nifty"])

COLUMNS = ("trade_id", "symbol", "exchange", "instrument", "expiry", "quantity", "price")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tradebook.csv"


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    with kite_desk(tmp_path, set_market) as made:
        yield made


def importtrades(*arguments: object) -> str:
    """Run the command and return what it says."""
    said = StringIO()
    call_command("importtrades", *map(str, arguments), stdout=said)
    return said.getvalue()


def stored(model: Any = OwnerTrade, leave: tuple[str, ...] = ("id",)) -> list[dict[str, Any]]:
    """Return a table's rows without some columns."""
    rows = model.on("nifty").objects.order_by("pk").values()
    found = [{name: row[name] for name in row if name not in leave} for row in rows]
    return sorted(found, key=str)


def test_a_trade_book_is_imported_once(path: Path) -> None:
    write(path, line(), line(trade_id="10000002", trade_type="sell"))
    said = importtrades(path)
    assert said.splitlines() == [
        "2 executions, 01 Jun 2026 10:15 to 01 Jun 2026 10:15 IST.",
        "2 new, 0 known as they are, 0 known and now with their instrument or expiry, 0 skipped.",
    ]
    assert OwnerTrade.on("nifty").objects.values_list(*COLUMNS).first() == (
        "10000001",
        *("NIFTY26JUNFUT", "NFO", "NIFTY 2026-06-30 FUT"),
        *(dt.date(2026, 6, 30), Decimal(65), Decimal("25101.3500")),
    )
    before = stored(leave=())
    assert "0 new, 2 known as they are" in importtrades(path)
    assert stored(leave=()) == before
    assert {row["came_by"] for row in before} == {"imported"}


def test_shares_and_derivatives_of_one_number_are_two(path: Path, tmp_path: Path) -> None:
    write(path, line())
    write(tmp_path / "shares.csv", line(SHARES, **SHARE), header=SHARES)
    importtrades(path)
    assert "1 new" in importtrades(tmp_path / "shares.csv")
    assert sorted(row["exchange"] for row in stored()) == ["NFO", "NSE"]


def test_a_dry_run_reports_and_changes_nothing(path: Path) -> None:
    write(path, line(), line())
    said = importtrades(path, "--dry-run")
    assert "1 new" in said and "1 skipped" in said
    assert "line 3: the same execution as in line 2" in said
    assert said.endswith("Dry run: nothing was changed.\n")
    assert not stored()


def test_a_bad_row_leaves_nothing_half_imported(path: Path) -> None:
    write(path, line(), line(trade_id="10000002", quantity="NaN"))
    with pytest.raises(CommandError, match=r"line 3: quantity is NaN.*Nothing was imported\."):
        importtrades(path)
    assert not stored()


def test_an_execution_that_is_stored_otherwise_is_refused(path: Path) -> None:
    importtrades(write(path, line()))
    write(path, line(trade_id="10000002"), line(price="25000"))
    with pytest.raises(CommandError) as refused:
        importtrades(path)
    assert str(refused.value) == (
        f"{path}, line 3: trade 10000001 of NIFTY26JUNFUT on 2026-06-01 is stored as "
        "+65.00000000 at 25101.3500, the file says +65.00000000 at 25000.0000. "
        "Nothing was imported."
    )
    assert len(stored()) == 1


def test_the_bots_own_executions_are_left_out(path: Path) -> None:
    at = dt.datetime(2026, 6, 1, 10, 15, tzinfo=IST)
    bot = {"bot": "nifty", "instrument": "NIFTY 2026-06-30 FUT", "quantity": 65, "mode": "live"}
    order = Order.on("nifty").objects.create(
        **bot,
        tag="T1",
        bar_closes_at=at,
        leg="open",
        reference_price=1,
        created_at=at,
        updated_at=at,
    )
    Fill.on("nifty").objects.create(
        **bot,
        order=order,
        trade_id="kite-260601-NFO-10000001",
        price=1,
        charges=0,
        slippage=0,
        at=at,
    )
    write(path, line(), line(trade_id="10000002"))
    said = importtrades(path)
    assert "1 new" in said and "1 executions are the bots' own" in said
    assert [row["trade_id"] for row in stored()] == ["10000002"]


def test_ids_without_their_zeros_are_refused_where_they_are_known_with_them(path: Path) -> None:
    importtrades(write(path, line(trade_id="0512233")))
    write(path, line(trade_id="512233"))
    with pytest.raises(CommandError, match=r"line 2: .* is known as 0512233: Excel has taken"):
        importtrades(path)
    # Another execution may well have that number.
    write(path, line(trade_id="512233", price="25000.000000"))
    assert "1 new" in importtrades(path)
    importtrades(write(path, line(trade_id="0512233")))


def test_an_execution_of_a_bots_is_known_without_its_zeros(path: Path) -> None:
    asked = []

    class Ledger:
        def among(self, market: str, trade_ids: Collection[str]) -> set[str]:
            asked.append(market)
            return set(trade_ids) & {"kite-260601-NFO-0010000001"}

    before = own_executions.provide(Ledger())
    assert before is not None  # the bots' app has filled it
    try:
        with pytest.raises(CommandError, match="is known as 0010000001: Excel has taken zeros off"):
            importtrades(write(path, line()))
    finally:
        own_executions.provide(before)
    assert asked == ["nifty"] and not stored()


def test_derivatives_without_an_expiry_are_told_of(path: Path) -> None:
    write(path, line(expiry_date=""), line(trade_id="10000002"))
    said = importtrades(path)
    assert "2 new" in said
    assert "1 executions of derivatives have no expiry_date" in said and "NIFTY26JUNFUT" in said
    said = importtrades(write(path, line(SHARES, **SHARE), header=SHARES))
    assert "expiry_date" not in said


def test_a_real_trade_book_does_not_go_into_a_generated_market(path: Path) -> None:
    write(path, line())
    opens_at = dt.datetime(2026, 6, 1, 9, 15, tzinfo=IST)
    bar = Bar.on("nifty").objects.create(
        timeframe="1d",
        opens_at=opens_at,
        closes_at=opens_at + dt.timedelta(hours=6),
        source=Source.GENERATED,
        **dict.fromkeys(("open", "high", "low", "close", "volume"), 1),
    )
    for words in ([], ["--dry-run"]):
        with pytest.raises(CommandError, match=r"nifty is a generated market.*importbars nifty"):
            importtrades(path, *words)
    assert not stored()
    bar.source = Source.IMPORTED
    bar.save()
    assert "1 new" in importtrades(path)


def test_the_same_execution_fetched_and_imported_is_one_row(desk: KiteDesk, path: Path) -> None:
    desk.broker.until(desk.broker.buy(), "COMPLETE")
    desk.broker.until(desk.broker.sell(130), "COMPLETE")
    owner_trades.fetch(desk.venue)
    path.write_text(requests.get(f"{desk.broker.url}/_sim/tradebook?years=0.1", timeout=9).text)
    fetched = since_the_opening()
    assert len(fetched) == len(desk.broker.client.trades()) >= 2
    assert "0 new" not in importtrades(path)  # what he did before the account was opened
    assert since_the_opening() == fetched
    assert {row["came_by"] for row in fetched} == {"fetched"}
    assert "0 new" in importtrades(path)
    # And the other way round.
    OwnerTrade.on("nifty").objects.all().delete()
    importtrades(path)
    assert {row["came_by"] for row in since_the_opening()} == {"imported"}
    assert "0 new" in owner_trades.fetch(desk.venue)
    assert without(since_the_opening(), "came_by") == without(fetched, "came_by")


def since_the_opening() -> list[dict[str, Any]]:
    return [row for row in stored() if row["at"].timestamp() >= ist("2026-06-01 10:00")]


def without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name not in names} for row in rows]


def test_a_generated_market_has_the_owners_two_years(set_market: Callable[..., None]) -> None:
    seed_days("nifty")
    until = int(ist("2026-06-01 09:00"))
    path = shared_world()[0].prices._paths["NIFTY"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(history.YEARS, "15m", 0.25)
        made = history.import_simulated_history("nifty", until, path)  # type: ignore[arg-type]
        assert history.import_simulated_history("nifty", until, path) == 0  # type: ignore[arg-type]
    rows = stored()
    assert made == len(rows) > 30
    assert {(row["came_by"], row["given_by"]) for row in rows} == {("generated", "owner")}
    assert all(row["instrument"].endswith(" FUT") and row["expiry"] for row in rows)
    assert max(row["at"] for row in rows).timestamp() < until


def test_the_generated_owner_goes_with_his_market(path: Path) -> None:
    made = parse("made", iter([DERIVATIVES, line()]))
    owner_trades.import_tradebook("made", made, came_by=CameBy.GENERATED)
    owner_trades.fetch(Canned(reading(LAST)))
    importtrades(write(path, line(trade_id="10000002")))
    market_replaced.send(sender=None, market="nifty")
    assert [row["trade_id"] for row in stored()] == ["10000002"]
    assert not stored(OwnerOrder)


# --- Any order of readings -----------------------------------------------------------------------

AT = dt.datetime(2026, 6, 1, 10, tzinfo=IST)
STATES = ("PUT ORDER REQ RECEIVED", "OPEN", "OPEN", "COMPLETE")


class Canned:
    """A venue that shows one reading of its book."""

    def __init__(self, book: DayBook) -> None:
        self.book = book

    def whole_book(self) -> DayBook:
        """Return the reading."""
        return self.book


def reading(minute: int) -> DayBook:
    """Return what the book of three orders shows at a minute; the last is the day's end."""
    orders, trades = [], []
    for number, given_by in enumerate(("owner", "broker", "bot")):
        step = min(max(minute - number, 0), 3)
        if minute < number:
            continue
        filled = Decimal((0, 0, 65, 130)[step])
        order = AccountOrder(
            order_id=f"{number}",
            given_by=given_by,
            tag="",
            exchange="NFO",
            symbol="NIFTY26JUNFUT",
            instrument="NIFTY 2026-06-30 FUT",
            quantity=Decimal(130),
            filled_quantity=filled,
            order_type="MARKET",
            product="NRML",
            price=None,
            state=STATES[step],
            message="",
            placed_at=AT,
            # Two states within one second, as the broker's whole seconds have it.
            updated_at=AT + dt.timedelta(seconds=step // 2),
        )
        orders.append(order)
        for part in range(int(filled) // 65):
            trades.append(
                AccountTrade(
                    trade_id=f"{number}{part}",
                    traded_on=AT.date(),
                    order_id=order.order_id,
                    given_by=given_by,
                    exchange="NFO",
                    symbol=order.symbol,
                    instrument=order.instrument,
                    expiry=dt.date(2026, 6, 30),
                    quantity=Decimal(65),
                    price=Decimal("25101.35"),
                    product="NRML",
                    at=AT,
                    ordered_at=AT,
                )
            )
    return DayBook(orders, trades, [])


LAST = 6


def book_of_the_day() -> list[str]:
    rows = [
        line(trade_id=trade.trade_id, order_id=f"13{trade.order_id}")
        for trade in reading(LAST).trades
        if trade.given_by != "bot"
    ]
    return [DERIVATIVES, *rows]


def empty() -> None:
    for model in (OwnerTrade, OwnerOrder):
        model.on("nifty").objects.all().delete()


@pytest.fixture
def whole(db: None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    owner_trades.fetch(Canned(reading(LAST)))
    return stored(leave=("id", "came_by")), stored(OwnerOrder)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    readings=st.lists(st.one_of(st.integers(0, LAST), st.just("import")), max_size=6),
    last_at=st.integers(0, 6),
)
def test_any_order_of_repeated_and_missed_minutes_ends_in_the_same_table(
    whole: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    readings: list[int | str],
    last_at: int,
) -> None:
    empty()
    readings.insert(min(last_at, len(readings)), LAST)
    for each in readings:
        if isinstance(each, int):
            owner_trades.fetch(Canned(reading(each)))
        else:
            owner_trades.import_tradebook("day", parse("day", iter(book_of_the_day())))
    assert (stored(leave=("id", "came_by")), stored(OwnerOrder)) == whole
    assert len(whole[0]) == 4 and len(whole[1]) == 2


def test_a_later_correction_of_the_brokers_is_taken() -> None:
    book = reading(LAST)
    owner_trades.fetch(Canned(book))
    wrong = replace(book.trades[0], price=Decimal("25099.5"))
    said = owner_trades.fetch(Canned(replace(book, trades=[wrong, *book.trades[1:]])))
    assert "0 new, 1 changed" in said
    assert OwnerTrade.on("nifty").objects.get(trade_id=wrong.trade_id).price == wrong.price


@pytest.mark.django_db(transaction=True, databases=["default", "nifty"])
def test_several_at_once_store_each_execution_once() -> None:
    book = parse("day", iter(book_of_the_day()))
    backwards = DayBook(reading(LAST).orders[::-1], reading(LAST).trades[::-1], [])
    failed: list[BaseException] = []
    jobs: list[Callable[[], object]] = [
        lambda: owner_trades.fetch(Canned(reading(LAST))),
        lambda: owner_trades.fetch(Canned(backwards)),
        lambda: owner_trades.import_tradebook("day", book),
        lambda: owner_trades.import_tradebook("day", TradeBook(book.trades[::-1], [])),
    ]

    def often(job: Callable[[], object]) -> None:
        try:
            for _ in range(10):
                job()
        except Exception as error:  # noqa: BLE001 - whatever it is fails the test
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=often, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(stored()) == 4 and len(stored(OwnerOrder)) == 2
    assert {row["product"] for row in stored()} == {"NRML"}
