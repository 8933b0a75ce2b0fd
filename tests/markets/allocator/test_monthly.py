"""The month's run in its own database, its command and its job."""

import datetime as dt
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from markets import store, tasks
from markets.allocator import assets, monthly, weights
from markets.allocator.models import AssetBar, AssetMetric, Correlation, MonthlyRun, Weight
from markets.allocator.weights import Choice, Targets
from markets.domain.bars import Bars
from markets.domain.calendar import DAY_SECONDS
from markets.models import Source
from tests import histories
from tests.markets.allocator.pasts import AS_OF, walk
from tradingsite import clock
from tradingsite.models import JobRun

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "btc", "allocator"])

WEIGH = weights.weigh
NOW = dt.datetime(2026, 6, 1, 6, tzinfo=clock.IST)


@pytest.fixture(autouse=True)
def june(
    set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Stand on the first of June, with weights that cost nothing."""
    set_market(NOW)
    histories.seed_days("nifty")
    settings.ALLOCATOR_CURRENT = ""

    def equal(choice: Choice) -> Targets:
        if choice.note:
            return Targets(note=choice.note)
        names = choice.weekly.names
        return Targets(dict.fromkeys(names, 1.0 / len(names)), "equal")

    monkeypatch.setattr(weights, "weigh", equal)


def allocator(*arguments: object) -> str:
    """Run the command and return what it says."""
    said = StringIO()
    call_command("allocator", *map(str, arguments), stdout=said)
    return said.getvalue()


def put_nifty(days: int = 800) -> None:
    """Store daily bars of weekdays up to the end of May."""
    calendar = store.load_calendar("nifty")
    sessions = calendar.sessions(AS_OF - dt.timedelta(days=days), AS_OF - dt.timedelta(days=1))
    close = walk(len(sessions), seed=3)
    opens_at, closes_at = (
        np.array([getattr(session, name) for session in sessions], dtype=np.int64)
        for name in ("opens_at", "closes_at")
    )
    bars = Bars(opens_at, closes_at, close, close, close, close, np.zeros(len(close)))
    store.save_bars("nifty", "1d", bars, Source.GENERATED)


def put_btc(days: int = 800, later: int = 0) -> None:
    """Store 4h bars up to now, or to some days later."""
    last = clock.epoch(NOW) // 14_400 * 14_400
    bars = histories.four_hours((days + later) * 6, first=last - days * DAY_SECONDS)
    store.save_bars("btc", "4h", bars, Source.GENERATED)


def gold(path: Path, days: int = 800, last: dt.date = dt.date(2026, 5, 31)) -> Path:
    """Write a file of daily gold."""
    first = last - dt.timedelta(days=days - 1)
    dates = [first + dt.timedelta(days=number) for number in range(days)]
    lines = [
        f"{date},{close},{close},{close},{close}"
        for date, close in zip(dates, walk(days, 0.005, seed=4), strict=True)
        if date.weekday() < 5
    ]
    path.write_text("\n".join(["date,open,high,low,close", *lines]) + "\n")
    return path


def targets() -> dict[str, float | None]:
    return dict(Weight.objects.order_by("id").values_list("asset", "target"))


def test_three_assets_are_measured_and_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "weigh", WEIGH)  # in a process of its own
    put_nifty()
    put_btc()
    said = allocator("import", "gold", gold(tmp_path / "gold.csv"))
    assert said.startswith("570 closes of gold, 25 Mar 2024 to 29 May 2026: 570 new or changed.")
    said = allocator("run")
    found = targets()
    assert list(found) == ["nifty", "btc", "gold"]
    assert sum(weight or 0.0 for weight in found.values()) == pytest.approx(1.0)
    assert (found["gold"] or 0.0) > (found["nifty"] or 0.0) > 0.0
    assert "Allocation as of 01 Jun 2026" in said and "gold (INR)" in said
    assert "Target: hierarchical risk parity of weekly returns, skfolio" in said
    assert "nifty and gold move together by" in said
    assert "Current: the simulated accounts' worth before charges" in said
    metric = AssetMetric.objects.get(asset="btc")
    assert (metric.first_on, metric.last_on) == (dt.date(2024, 3, 23), dt.date(2026, 5, 31))
    assert metric.volatility == pytest.approx(0.004 * (6 * 365.25) ** 0.5, rel=0.15)
    assert Correlation.objects.count() == 3


def test_current_weights_are_the_accounts_worth_or_what_the_owner_wrote(
    settings: Settings,
) -> None:
    names = {"nifty", "btc", "gold"}
    found = assets.current_weights(names)
    btc = 10_000 * settings.USDC_INR
    assert found.weights["btc"] == pytest.approx(btc / (btc + 5_000_000))
    assert found.weights["gold"] == 0.0 and sum(found.weights.values()) == pytest.approx(1.0)
    settings.ALLOCATOR_CURRENT = "nifty=0.5, btc=0.2, gold=0.3"
    assert assets.current_weights(names) == assets.Current(
        {"nifty": 0.5, "btc": 0.2, "gold": 0.3}, "ALLOCATOR_CURRENT"
    )
    settings.ALLOCATOR_CURRENT = ""
    settings.MODE = "live"
    assert assets.current_weights(names).weights == {}


@pytest.mark.parametrize(
    "written, reason",
    [
        ("nifty", "'nifty' is not like nifty=0.5"),
        ("nifty=half", "'nifty=half' is not like nifty=0.5"),
        ("nifty=nan", "nifty=nan is not between 0 and 1"),
        ("nifty=1.5,btc=-0.5", "nifty=1.5 is not between 0 and 1"),
        ("nifty=0.5,btc=0.2", "adds up to 0.7, not to 1"),
        ("nifty=0.5,silver=0.5", "names silver; the assets are btc, nifty"),
    ],
)
def test_wrong_current_weights_are_refused(written: str, reason: str, settings: Settings) -> None:
    settings.ALLOCATOR_CURRENT = written
    with pytest.raises(CommandError) as refused:
        allocator("run")
    assert reason in str(refused.value)
    assert not MonthlyRun.objects.exists()


def test_the_same_month_again_is_the_same_run(set_market: Callable[..., None]) -> None:
    put_nifty()
    put_btc()
    allocator("run")
    set_market(NOW + dt.timedelta(days=20))
    put_btc(later=20)  # what came since the month began is of the next one
    assert "Nothing has changed since it was made." in allocator("run")
    assert MonthlyRun.objects.count() == 1
    set_market(NOW + dt.timedelta(days=30))
    _, is_new = monthly.make(dt.date(2026, 7, 1))
    assert is_new and MonthlyRun.objects.count() == 2


def test_few_data_give_metrics_and_no_weights() -> None:
    put_nifty()
    put_btc(days=200)
    said = allocator("run")
    assert targets() == {"nifty": None, "btc": None}
    assert "btc gets no weight: it has fewer than 12 months of closes" in said
    assert "nifty gets no weight: one asset only: no weights." in said
    assert AssetMetric.objects.get(asset="btc").return_3m is not None


def test_without_anything_it_says_so() -> None:
    assert "No month was run yet" in allocator()
    said = allocator("run")
    assert "btc gets no weight: it has no closes." in said
    assert "Allocation as of 01 Jun 2026" in allocator("show")


def test_closes_are_imported_once_and_whole(tmp_path: Path) -> None:
    path = gold(tmp_path / "gold.csv", days=30)
    allocator("import", "gold", path)
    assert "0 new or changed" in allocator("import", "gold", path)
    text = path.read_text()
    path.write_text(text.replace("2026-05-29,", "2026-05-29,1"))
    with pytest.raises(CommandError, match=r"line \d+: .*Nothing was changed"):
        allocator("import", "gold", path)
    path.write_text(text.rsplit("\n", 2)[0] + "\n2026-05-29,90,90,90,90\n")
    assert "1 new or changed" in allocator("import", "gold", path)
    assert AssetBar.objects.count() == len(text.splitlines()) - 1
    with pytest.raises(CommandError, match="btc is a market of the desk's own"):
        allocator("import", "btc", path)


def test_the_job_runs_once_a_month_on_the_first_day_that_it_can(
    set_market: Callable[..., None],
) -> None:
    put_nifty()
    put_btc()
    third, july = NOW.replace(day=3), NOW.replace(month=7)
    set_market(july)
    tasks.allocate(third.isoformat())
    run = JobRun.objects.get()
    assert run.state == "done" and run.detail.startswith("made: June 2026, nifty ")
    tasks.allocate((third + dt.timedelta(days=1)).isoformat())
    assert JobRun.objects.count() == 1
    tasks.allocate(july.isoformat())
    assert JobRun.objects.get(scheduled_for=july).detail.startswith("made: July 2026")


def test_the_months_are_shown_in_the_admin(client: Client, tmp_path: Path) -> None:
    put_nifty()
    allocator("import", "gold", gold(tmp_path / "gold.csv"))
    allocator("run")
    client.force_login(User.objects.create_superuser("owner"))
    for model in ("monthlyrun", "importedasset", "assetbar"):
        assert client.get(reverse(f"admin:allocator_{model}_changelist")).status_code == 200
    row = MonthlyRun.objects.get()
    page = client.get(reverse("admin:allocator_monthlyrun_change", args=[row.pk]))
    assert page.status_code == 200 and "equal" in page.content.decode()
    assert client.get(reverse("admin:allocator_monthlyrun_add")).status_code == 403
