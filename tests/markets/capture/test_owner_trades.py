"""The owner's own orders and executions, fetched from the broker's book by its real client."""

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from markets import tasks
from markets.capture import owner_trades, token_refresh
from markets.models import OwnerOrder, OwnerTrade
from markets.simulator import owner
from markets.venues.base import TokenRefused
from markets.venues.configured import kite_token
from markets.venues.kite import account as kite_account
from markets.venues.kite.rows import Directory
from tests.histories import seed_days
from tests.markets.simulator.broker import broker
from tests.markets.venues.kite.desk import ANY_PACE, KNOWN, KiteDesk, kite_desk
from tradingsite import clock
from tradingsite.errors import Retry
from tradingsite.models import JobRun, Notice

pytestmark = pytest.mark.django_db(databases=["default", "nifty"])

FUTURE = "NIFTY 2026-06-30 FUT"
CONFIGURED = owner_trades._venue


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    with kite_desk(tmp_path, set_market) as made:
        yield made


def orders() -> list[OwnerOrder]:
    return list(OwnerOrder.on("nifty").objects.order_by("order_id"))


def trades() -> list[OwnerTrade]:
    return list(OwnerTrade.on("nifty").objects.order_by("trade_id"))


def test_a_day_without_trades(desk: KiteDesk) -> None:
    said = owner_trades.fetch(desk.venue)
    assert said == "by hand 0 orders and 0 executions; 0 new, 0 changed"
    assert not orders() and not trades()


def test_what_he_did_by_hand_is_told_from_the_bots_and_the_brokers(desk: KiteDesk) -> None:
    by_hand = desk.broker.sell(product="MIS")
    desk.broker.until(by_hand, "COMPLETE")
    desk.place(2)
    desk.filled()
    desk.fault("square_off")
    desk.broker.wait(lambda: len(desk.broker.client.trades()) == 3)
    said = owner_trades.fetch(desk.venue)
    assert said == (
        "by hand 1 orders and 1 executions; 2 new, 0 changed; "
        "not his: 1 orders and 1 executions, the broker's; "
        "not his: 1 orders and 1 executions, the bots'"
    )
    assert [(row.given_by, row.quantity, row.state) for row in orders()] == [
        ("owner", Decimal(-65), "COMPLETE"),
        ("broker", Decimal(65), "COMPLETE"),
    ]
    his, brokers = trades()
    assert (his.given_by, brokers.given_by) == ("owner", "broker")
    assert his.order_id == by_hand and his.product == "MIS" and his.came_by == "fetched"
    assert (his.exchange, his.symbol, his.instrument) == ("NFO", "NIFTY26JUNFUT", FUTURE)
    assert his.expiry == dt.date(2026, 6, 30) and his.traded_on == dt.date(2026, 6, 1)
    assert his.at == clock.market() and his.quantity == -65
    [filled] = [each for each in desk.broker.client.trades() if each["order_id"] == by_hand]
    assert his.price == Decimal(str(filled["average_price"]))


def test_the_same_minute_again_changes_nothing(desk: KiteDesk) -> None:
    desk.broker.until(desk.broker.buy(), "COMPLETE")
    owner_trades.fetch(desk.venue)
    before = list(OwnerTrade.on("nifty").objects.values())
    assert "0 new, 0 changed" in owner_trades.fetch(desk.venue)
    assert list(OwnerTrade.on("nifty").objects.values()) == before


def test_an_order_is_followed_to_its_end(desk: KiteDesk) -> None:
    price = round(desk.broker.last() * 0.97)
    order_id = desk.broker.buy(order_type="LIMIT", price=price, market_protection=0, product="NRML")
    desk.broker.until(order_id, "OPEN")
    owner_trades.fetch(desk.venue)
    [row] = orders()
    assert (row.state, row.price, row.filled_quantity) == ("OPEN", Decimal(price), 0)
    desk.go("2026-06-01 10:05")
    desk.broker.client.cancel_order("regular", order_id)
    owner_trades.fetch(desk.venue)
    [row] = orders()
    assert (row.state, row.order_type, row.instrument) == ("CANCELLED", "LIMIT", FUTURE)
    assert row.updated_at == clock.market()


def test_a_share_has_no_name_of_the_desks(desk: KiteDesk) -> None:
    share = desk.broker.buy(exchange="NSE", tradingsymbol="RELIANCE", quantity=3, product="CNC")
    desk.broker.until(share, "COMPLETE")
    owner_trades.fetch(desk.venue)
    [row] = trades()
    assert (row.exchange, row.symbol, row.instrument, row.expiry) == ("NSE", "RELIANCE", "", None)


def test_an_execution_without_its_order_waits_for_it(desk: KiteDesk) -> None:
    desk.broker.until(desk.broker.buy(), "COMPLETE")
    real = desk.venue._read

    def without_orders(kind: str, method: str, *arguments: Any) -> Any:
        return [] if arguments == ("orders",) else real(kind, method, *arguments)

    desk.venue._read = without_orders  # type: ignore[method-assign]
    said = owner_trades.fetch(desk.venue)
    assert "1 executions wait for their orders" in said and not trades()
    desk.venue._read = real  # type: ignore[method-assign]
    assert "1 new" in owner_trades.fetch(desk.venue)
    assert len(trades()) == 1


def test_an_empty_book_removes_nothing_and_is_said(desk: KiteDesk) -> None:
    desk.broker.until(desk.broker.buy(), "COMPLETE")
    owner_trades.fetch(desk.venue)
    desk.fault("empty_book", times=2)
    said = owner_trades.fetch(desk.venue)
    assert "the book no longer shows 1 orders of today that it had before" in said
    assert len(orders()) == len(trades()) == 1


def test_a_row_that_makes_no_sense_is_named_and_the_others_are_taken() -> None:
    row = {
        "order_id": "1",
        "placed_by": "AB1234",
        "exchange": "NFO",
        "tradingsymbol": "NIFTY26JUNFUT",
        "transaction_type": "BUY",
        "quantity": 65,
        "order_type": "MARKET",
        "status": "COMPLETE",
        "order_timestamp": dt.datetime(2026, 6, 1, 10),  # noqa: DTZ001 - as the client gives it
    }
    rows: list[Any] = [row, row | {"order_id": "2", "quantity": "NaN"}, row | {"status": ""}, {}]
    rows += [row | {"order_id": "3", "transaction_type": "HOLD"}]
    book = kite_account.day_book(rows, [], Directory({}, {}), "AB1234")
    assert [order.order_id for order in book.orders] == ["1"]
    assert book.unread == [
        "order 2: ValueError NaN is no number",
        "order 1: ValueError its status is empty",
        "order without an id: KeyError 'exchange'",
        "order 3: KeyError 'HOLD'",
    ]


def test_whose_hand_an_order_was() -> None:
    hand = kite_account.hand_of
    assert hand({"tag": "T1ABCDEFGHIJKLMNOP", "placed_by": "AB1234"}, "AB1234") == "bot"
    assert hand({"tag": "mine", "placed_by": "AB1234"}, "AB1234") == "owner"
    assert hand({"tag": None, "placed_by": "ADMINSQF"}, "AB1234") == "broker"
    assert hand({"tag": None, "placed_by": "DEALER7"}, "AB1234") == "broker"
    assert hand({"placed_by": "ADMINSQF"}, "") == "broker"
    assert hand({"placed_by": "AB1234"}, "") == "owner"


@pytest.mark.parametrize(
    "fault, how, reaction",
    [
        ("token_expired", {}, TokenRefused),
        ("not_json", {"match": "/trades"}, Retry),
        ("timeout", {"match": "/trades", "seconds": 0.1}, Retry),
        ("reset", {"match": "/orders"}, Retry),
    ],
)
def test_a_book_that_cannot_be_read_changes_nothing(
    desk: KiteDesk, fault: str, how: dict[str, Any], reaction: type[Exception]
) -> None:
    desk.broker.until(desk.broker.buy(), "COMPLETE")
    desk.fault(fault, **how)
    with pytest.raises(reaction):
        owner_trades.fetch(desk.venue)
    assert not orders() and not trades()


# --- The job -------------------------------------------------------------------------------------


class Minutes:
    """The job, fired at minutes of a day on the simulated broker."""

    def __init__(self, desk: KiteDesk) -> None:
        self.desk = desk

    def fire(self, time: str) -> JobRun:
        """Fire the job of a minute; return its record."""
        self.desk.go(f"2026-06-01 {time}")
        at = dt.datetime.fromisoformat(f"2026-06-01T{time}+05:30")
        tasks.fetch_trades(at.isoformat())
        return JobRun.objects.get(scheduled_for=at)


@pytest.fixture
def minutes(
    desk: KiteDesk, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Minutes:
    seed_days("nifty")
    settings.KITE_ROOT = desk.broker.url
    settings.DATA_DIR = tmp_path / "desk"
    kite_token().save(desk.tokens.current(), "SIM001")
    monkeypatch.setattr(owner_trades, "_venue", lambda *where: desk.venue)
    monkeypatch.setattr(owner_trades, "pause", lambda seconds: None)
    return Minutes(desk)


def test_the_job_says_what_it_found(minutes: Minutes) -> None:
    minutes.desk.broker.until(minutes.desk.broker.buy(), "COMPLETE")
    run = minutes.fire("10:01")
    assert (run.state, run.detail) == (
        "done",
        "by hand 1 orders and 1 executions; 1 new, 0 changed",
    )


def test_the_job_finds_the_broker_by_the_settings(
    minutes: Minutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_trades, "_venue", CONFIGURED)
    assert minutes.fire("09:15").detail == "by hand 0 orders and 0 executions; 0 new, 0 changed"
    assert minutes.fire("09:16").state == "done"


def test_a_minute_without_an_answer_is_skipped_and_five_are_an_alarm(minutes: Minutes) -> None:
    assert minutes.fire("10:01").state == "done"
    minutes.desk.fault("reset", times=1_000)
    run = minutes.fire("10:05")
    assert run.state == "skipped"
    assert run.detail == (
        "not read: the broker did not answer: ConnectionError; the next minute reads the whole day"
    )
    assert not Notice.objects.exists()
    with pytest.raises(Retry):
        minutes.fire("10:07")
    assert Notice.objects.get().key == "job:trade-fetcher"


def test_a_token_that_is_refused_is_renewed_once_a_day(
    minutes: Minutes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_trades, "_venue", CONFIGURED)
    settings.KITE_LOGIN, settings.KITE_LOGIN_ROOT = "headless", minutes.desk.broker.url
    minutes.desk.broker.kite.sessions.expire()
    run = minutes.fire("11:16")
    assert run.state == "skipped"
    assert "the broker refuses the token" in run.detail and "signed in as SIM001" in run.detail
    assert minutes.fire("11:17").state == "done"
    assert Notice.objects.get().key == "kite:renewed"
    # Whoever ends it again is at it himself: the desk does not fight him for the account.
    minutes.desk.broker.kite.sessions.expire()
    refused = kite_token().current()
    assert "it had signed in again today before" in minutes.fire("11:18").detail
    assert kite_token().current() == refused
    notice = Notice.objects.get(key="kite:refused")
    assert notice.severity == "critical" and "no order is sent" in notice.text
    token_refresh.save_token(minutes.desk.broker.kite.sessions.issue(), "SIM001")
    assert minutes.fire("11:19").state == "done"
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_a_token_that_is_refused_calls_for_a_person(minutes: Minutes, settings: Settings) -> None:
    settings.KITE_LOGIN = "interactive"
    minutes.desk.broker.kite.sessions.expire()
    run = minutes.fire("09:16")
    assert run.state == "skipped" and "the broker refuses the token" in run.detail
    assert "/kite/" in Notice.objects.get(key="kite:refused").text


@pytest.mark.parametrize("fault", ["reset", "server_error", "not_json"])
def test_the_reading_at_the_close_is_tried_again(minutes: Minutes, fault: str) -> None:
    minutes.desk.fault(fault, times=2, match="/trades")
    assert minutes.fire("15:30").state == "done"


def test_without_an_account_there_is_nothing_to_fetch(minutes: Minutes, settings: Settings) -> None:
    settings.KITE_API_KEY = ""
    run = minutes.fire("10:00")
    assert run.state == "skipped" and "KITE_API_KEY is not set" in run.detail


def test_the_simulated_owner_is_fetched(tmp_path: Path, set_market: Callable[..., None]) -> None:
    with broker(at="2026-06-01 09:15", owner_trades=True) as served:
        desk = KiteDesk(served, tmp_path, set_market)
        day = dt.date(2026, 6, 1)
        plan = [look for look in owner.intents(served.kite.world, day, day) if look.lots]
        served.hand.at = plan[0].at + 1.0
        set_market(clock.from_seconds(served.hand.at))
        served.wait(lambda: bool(served.client.trades()))
        venue = desk.make(ANY_PACE)
        venue._listed = KNOWN[0] if KNOWN else None
        owner_trades.fetch(venue)
        his = trades()
        assert sum(row.quantity for row in his) == plan[0].lots * 65
        assert {row.given_by for row in his} == {"owner"}
