"""The admin over all databases."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from bots.models import Order, Position
from markets.models import TradingDay
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import PASSWORD
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling import beat
from training.models import TrainingRun

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", password=PASSWORD))
    return client


def change(client: Client, path: str, fields: dict[str, str]) -> Any:
    """Post a form of the admin after saying once more that one wants to."""
    refused = client.post(path, fields)
    assert (refused.status_code, refused["Location"].split("?")[0]) == (302, "/you/confirm/")
    said = {"password": PASSWORD, "reason": "a circular"}
    assert client.post(refused["Location"], said)["Location"] == path
    return client.post(path, fields)


def address(model: type[Model], action: str, *args: object) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{action}", args=args)


def test_every_table_of_the_admin_opens_with_rows_in_it(
    owner: Client, set_market: Callable[..., None]
) -> None:
    set_market(desks.NOW)
    desks.whole_desk()
    beat.sync()
    run = TrainingRun.objects.create(
        slot="btc-4h", trigger="t", scheduled_for=desks.NOW, timesteps=1, created_at=desks.NOW
    )
    run.steps.create(number=1, name="export", started_at=desks.NOW)
    JobRun.objects.create(job="backups", scheduled_for=desks.NOW, state="not_built")
    opened = 0
    for model in admin.site._registry:
        assert owner.get(address(model, "changelist")).status_code == 200, model
        row = model._default_manager.first()
        if row is not None:
            edited = issubclass(model, (User, Group, PeriodicTask, TradingDay))
            page = owner.get(address(model, "change", row.pk))
            assert page.status_code == (302 if edited else 200), model
            opened += 1
    assert opened >= 15


def test_each_market_shows_its_own_rows(owner: Client) -> None:
    desks.position("nifty-15m", "130", "1", "0", 2, "0")
    desks.position("btc-1h", "-0.03", "1", "0", -3, "0")
    slots = {"nifty": "nifty-15m", "btc": "btc-1h"}
    for alias, elsewhere in (("nifty", "btc"), ("btc", "nifty")):
        page = owner.get(address(Position.on(alias), "changelist")).content.decode()
        assert slots[alias] in page
        assert slots[elsewhere] not in page


def test_the_ledger_can_be_looked_at_but_not_edited(owner: Client) -> None:
    desks.fill("btc", desks.NOW, "-0.03", "b1")
    model = Order.on("btc")
    row = model.objects.get()
    assert owner.get(address(model, "add")).status_code == 403
    assert owner.post(address(model, "change", row.pk), {"state": "rejected"}).status_code == 403
    assert owner.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model.objects.get().state == Order.State.FILLED


def day_fields(date: str, **changed: str) -> dict[str, str]:
    return {
        "date": date,
        "kind": "special",
        "opens_at_0": date,
        "opens_at_1": "18:00",
        "closes_at_0": date,
        "closes_at_1": "19:00",
        "name": "Mock session",
        "source": "a circular",
        "verified": "on",
        **changed,
    }


def test_a_trading_day_is_added_and_changed_in_its_own_market(owner: Client) -> None:
    model = TradingDay.on("nifty")
    model.objects.filter(date="2026-06-06").delete()
    before = TradingDay.on("btc").objects.count()
    wrong = change(owner, address(model, "add"), day_fields("2026-06-06", closes_at_1="17:00"))
    assert "A session closes after it opens." in wrong.content.decode()
    # What was refused in the form used nothing up.
    assert owner.post(address(model, "add"), day_fields("2026-06-06")).status_code == 302
    again = change(owner, address(model, "add"), day_fields("2026-06-06"))
    assert "in the calendar already" in again.content.decode()
    day = model.objects.get(date="2026-06-06")
    assert day.opens_at == dt.datetime(2026, 6, 6, 18, tzinfo=desks.NOW.tzinfo)
    fields = day_fields("2026-06-06", kind="holiday", name="Cancelled")
    for field in ("opens_at_0", "opens_at_1", "closes_at_0", "closes_at_1"):
        fields[field] = ""
    assert change(owner, address(model, "change", day.pk), fields).status_code == 302
    assert model.objects.get(date="2026-06-06").kind == "holiday"
    assert TradingDay.on("btc").objects.count() == before


def test_an_operator_may_pause_a_job_and_nothing_else(owner: Client) -> None:
    beat.sync()
    job = PeriodicTask.objects.get(name="btc-training")
    changes = {"name": "other", "task": "os.system", "queue": "gpu"}
    assert change(owner, address(PeriodicTask, "change", job.pk), changes).status_code == 302
    after = PeriodicTask.objects.get(pk=job.pk)
    assert after.enabled is False
    assert (after.name, after.task, after.queue) == (job.name, job.task, job.queue)
    assert (
        change(owner, address(PeriodicTask, "delete", job.pk), {"post": "yes"}).status_code == 403
    )


def test_a_notice_can_be_marked_as_over(owner: Client) -> None:
    notice = Notice.objects.create(
        channel="trading",
        severity="warning",
        key="k",
        text="t",
        created_at=desks.NOW,
        last_at=desks.NOW,
        market_at=desks.NOW,
    )
    form = {"action": "mark_as_over", "_selected_action": notice.pk}
    owner.post(address(Notice, "changelist"), form)
    notice.refresh_from_db()
    assert notice.resolved_at is not None
