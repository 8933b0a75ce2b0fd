"""What a test does with the pages: read their words, confirm an act, cut a database off."""

import contextlib
import datetime as dt
import html
import re
from decimal import Decimal
from typing import Any

from django.db import OperationalError, connections
from django.http import HttpResponseBase
from django.test import Client

from bots.models import AccountHolding, Discrepancy, Order
from tests.desk import Desk
from tests.monitoring import desks
from tradingsite.format import GLUE

PASSWORD = "correct horse battery"


def words(answer: HttpResponseBase) -> str:
    """Return a page without its markup."""
    text = re.sub(r"<[^>]+>", " ", answer.content.decode())  # type: ignore[attr-defined]
    return re.sub(r"\s+", " ", html.unescape(text).replace(GLUE, " "))


def act(client: Client, address: str, **changes: str) -> Any:
    """Open a page that asks, and confirm it as a person would."""
    page = client.get(f"/trading/{address}/").content.decode()
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    asked = {"password": PASSWORD, "reason": "looked at the venue"}
    if seen:
        asked["seen"] = html.unescape(seen[1])
    return client.post(f"/trading/{address}/", asked | changes)


def lost(desk: Desk) -> Order:
    """Write an order that nobody knows of."""
    order = desk.order({"btc-1h": 1}, bar=desk.now + dt.timedelta(hours=1))
    Order.on("btc").objects.filter(pk=order.pk).update(state="unknown", message="no answer")
    return order


def stopped(ledger: str = "0.02", venue: str = "0.05") -> Discrepancy:
    """Write a discrepancy."""
    return Discrepancy.on("btc").objects.create(
        venue="paper",
        instrument="BTC-PERP",
        ledger_quantity=Decimal(ledger),
        venue_quantity=Decimal(venue),
        seen_at=desks.NOW,
    )


def seen(
    alias: str,
    venue: str,
    instrument: str,
    quantity: str,
    product: str = "",
    at: dt.datetime = desks.NOW,
) -> None:
    """Write what an account held at the last look."""
    AccountHolding.on(alias).objects.create(
        venue=venue,
        instrument=instrument,
        product=product,
        quantity=Decimal(quantity),
        seen_at=at,
    )


def cut_off(alias: str) -> None:
    """Have the server end a database's connection, as it does when it goes down."""
    with contextlib.suppress(OperationalError), connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
