"""Models bound to one database."""

from typing import Any

import pytest
from django.db import connections

from bots.models import Order, OrderEvent
from markets.models import Bar, Quote
from tradingsite import clock

pytestmark = pytest.mark.django_db(databases=["nifty", "btc"])


def order(alias: str, tag: str) -> Order:
    """Store an order."""
    now = clock.real()
    values: dict[str, Any] = {
        "bot": alias,
        "tag": tag,
        "instrument": "X",
        "quantity": 1,
        "bar_closes_at": now,
        "leg": "only",
        "reference_price": 1,
        "created_at": now,
        "updated_at": now,
        "mode": "simulated",
    }
    return Order.on(alias).objects.create(**values)


def test_a_bound_model_reads_and_writes_its_own_database_only() -> None:
    Quote.on("nifty").objects.create(instrument="NIFTY-FUT", price=1, at=clock.real())
    assert Quote.on("nifty").objects.count() == 1
    assert Quote.on("btc").objects.count() == 0
    with connections["nifty"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM markets_quote")
        assert cursor.fetchone() == (1,)


def test_a_row_of_another_database_is_refused_as_a_relation() -> None:
    of_btc = order("btc", "a")
    now = clock.real()
    with pytest.raises(ValueError, match="router prevents this relation"):
        OrderEvent.on("nifty").objects.create(order=of_btc, state="x", at=now, market_at=now)


def test_relations_inside_one_database_work_both_ways() -> None:
    one = order("nifty", "a")
    now = clock.real()
    event = OrderEvent.on("nifty").objects.create(order=one, state="x", at=now, market_at=now)
    found = OrderEvent.on("nifty").objects.select_related("order").get()
    assert (found, found.order.tag) == (event, "a")
    assert one.events.get() == event
    assert one.events.get()._state.db == "nifty"


def test_uniqueness_holds_in_each_database_apart() -> None:
    order("nifty", "same")
    order("btc", "same")
    assert Order.on("nifty").objects.count() == Order.on("btc").objects.count() == 1


def test_an_unknown_database_is_named_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match="not in 'options'; it lives in nifty, btc, pc_nifty"):
        Bar.on("options")


def test_the_same_proxy_is_given_every_time() -> None:
    assert Bar.on("nifty") is Bar.on("nifty")
    assert Bar.on("nifty") is not Bar.on("btc")
    assert Bar.on("pc_nifty").__name__ == "PcNiftyBar"
