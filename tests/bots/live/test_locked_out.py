"""A lock between an order and what became of it: waited for, sent once, and never lost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections

from bots.execution import ledger, postgres_ledger
from markets.venues.paper import PaperVenue
from tests.desk import Desk
from tradingsite.postgresql import timeouts
from tradingsite.postgresql.timeouts import Timeouts
from tradingsite.supervision.serving import is_slow

pytestmark = pytest.mark.django_db(transaction=True, databases=["btc", "nifty", "default"])
QUICK = Timeouts(statement=2.0, lock=0.3, idle=15.0)


@contextmanager
def stranger() -> Iterator[psycopg.Connection[Any]]:
    """Hold the events' lock from a connection of one's own: no order changes its state."""
    one = connections["btc"].settings_dict
    with psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname=one["NAME"],
        autocommit=True,
    ) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [ledger._EVENTS_LOCK])
        yield connection


class Interrupted(PaperVenue):
    """Let a stranger take the lock while the order is on its way, for some seconds."""

    sent = 0
    seconds = 1.5

    def place(self, *args: Any, **how: Any) -> str:
        """Place the order; nobody can write down that it is."""
        self.sent += 1
        answer = super().place(*args, **how)
        has_it = threading.Event()

        def hold() -> None:
            with stranger():
                has_it.set()
                time.sleep(self.seconds)

        self.hand = threading.Thread(target=hold)
        self.hand.start()
        assert has_it.wait(10)
        return answer


@pytest.fixture
def desk(set_market: Callable[..., None]) -> Iterator[Desk]:
    made = Desk("btc", set_market)
    made.quote(60_000.0)
    made.venue = Interrupted("btc", made.calendar)
    with timeouts.during(QUICK):
        yield made


def test_what_became_of_an_order_waits_for_the_lock(desk: Desk) -> None:
    venue = desk.venue
    assert isinstance(venue, Interrupted)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    venue.hand.join()
    assert desk.story(order) == ["intent", "submitting", "acked"]
    assert venue.sent == 1


def test_a_lock_that_stays_loses_no_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_ledger, "MOVE_PATIENCE_SECONDS", 0.2)
    venue = desk.venue
    assert isinstance(venue, Interrupted)
    order = desk.order({"btc-1h": 1})
    with pytest.raises(OperationalError) as ended:
        desk.send(order)
    assert is_slow(ended.value)
    assert desk.story(order) == ["intent", "submitting"]
    venue.hand.join()
    desk.quote(60_100.0)
    desk.reconcile()
    desk.take_fills()
    assert desk.story(order)[-1] == "filled" and venue.sent == 1
    assert desk.lots() == {"btc-1h": 1}


def test_a_lock_before_an_order_delays_it(desk: Desk) -> None:
    venue = desk.venue
    assert isinstance(venue, Interrupted)
    venue.seconds = 0.0
    order = desk.order({"btc-1h": 1})
    has_it = threading.Event()

    def hold() -> None:
        with stranger():
            has_it.set()
            time.sleep(1.0)

    hand = threading.Thread(target=hold)
    hand.start()
    assert has_it.wait(10)
    desk.send(order)
    hand.join()
    venue.hand.join()
    assert desk.story(order) == ["intent", "submitting", "acked"] and venue.sent == 1
