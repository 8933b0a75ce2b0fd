"""Charges as booked against the broker's own contract note, at the simulated broker."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bots import daily_review
from bots.execution import charge_reconciliation
from bots.models import Fill
from markets.venues.base import Venue
from tests.bots.execution.test_kite_orders import AtBroker, SetMarket
from tests.desk import calendar_of, ist
from tests.markets.venues.kite.desk import kite_desk
from tradingsite.models import Notice
from tradingsite.registry import Bot
from tradingsite.scheduling.jobs import find_or_create

pytestmark = pytest.mark.django_db(databases=["nifty", "btc", "default"])
NIGHT = ist("2026-06-02 00:20")


@pytest.fixture
def desk(tmp_path: Path, set_market: SetMarket) -> Iterator[AtBroker]:
    with kite_desk(tmp_path, set_market) as kite:
        made = AtBroker(kite, set_market)
        for lots, leg in ((2, "open"), (-1, "close")):
            bar = ist(f"2026-06-01 10:{15 * (1 + (leg == 'close'))}")
            order = made.order({"nifty-15m": lots}, leg, bar=bar)
            made.send(order)
            made.until(order, "filled")
        yield made


def test_our_table_agrees_with_the_brokers_note(desk: AtBroker) -> None:
    found = charge_reconciliation.reconcile(desk.bot, desk.venue, NIGHT.date().replace(day=1))
    assert found.fills == 2 and found.booked > 50
    assert abs(found.difference) < Decimal("0.05")


def test_a_table_out_of_date_is_told_and_taken_back(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def venue_of(bot: Bot, calendar: object) -> Venue:
        return desk.venue

    monkeypatch.setattr(daily_review, "venue_of", venue_of)
    monkeypatch.setattr(daily_review, "BOTS", {"nifty": desk.bot})
    monkeypatch.setattr(daily_review, "load_calendar", calendar_of)
    first = Fill.on("nifty").objects.order_by("id").first()
    assert first is not None
    Fill.on("nifty").objects.filter(pk=first.pk).update(charges=first.charges - 20)
    run = find_or_create("trade-review", NIGHT)
    assert "nifty 2 fills, +19.9" in daily_review.run_for_job(run)
    notice = Notice.objects.get(key="charges:nifty")
    assert "bring markets/domain/charges.py up to date" in notice.text
    Fill.on("nifty").objects.filter(pk=first.pk).update(charges=first.charges)
    assert "nifty 2 fills" in daily_review.run_for_job(run)
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_a_broker_that_does_not_answer_is_no_failure(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily_review, "venue_of", lambda bot, calendar: desk.venue)
    monkeypatch.setattr(daily_review, "BOTS", {"nifty": desk.bot})
    monkeypatch.setattr(daily_review, "load_calendar", calendar_of)
    desk.kite.fault("server_error", match="/charges/orders")
    said = daily_review.run_for_job(find_or_create("trade-review", NIGHT))
    assert said.startswith("charges not compared: ") and "no slot pays more" in said
