"""The command that loads bars: all of a file or nothing of it."""

import datetime as dt
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bots.models import Decision, Order, Position, RiskState
from bots.modelstore.models import Activation, ModelVersion
from markets import store
from markets.models import Bar, Feature, Quote, Source
from tests import histories
from tradingsite import clock
from tradingsite.registry import SLOTS
from tradingsite.supervision.heartbeat import Beat
from training.models import TrainingRun
from training.pipeline import runs as pipeline_runs

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "btc"])

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
# Enough 4h bars for feature rows: 200 to warm up, then a new quarter.
BARS = 600


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, settings: Any) -> Path:
    """Give the desk a data folder of its own and return where it keeps models."""
    settings.PROD_DIR = tmp_path / "prod"
    return Path(settings.PROD_DIR / "models")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of 4h bars."""
    path = tmp_path / "btc_4h.csv"
    histories.write_csv(path, histories.four_hours(BARS, seed=2))
    return path


def importbars(*arguments: object) -> str:
    """Run the command and return what it says."""
    said = StringIO()
    call_command("importbars", *map(str, arguments), stdout=said)
    return said.getvalue()


def activate(slot: str, folder: Path) -> ModelVersion:
    """Store a model that trades."""
    version = ModelVersion.objects.create(
        slot=slot,
        number=1,
        run_id=1,
        state=ModelVersion.State.ACTIVE,
        path=f"{slot}/v1",
        manifest_sha256="0" * 64,
        trained_from=NOW,
        trained_until=NOW,
        created_at=NOW,
    )
    Activation.objects.create(slot=slot, model=version, at=NOW, market_at=NOW, by="a test")
    (folder / version.path).mkdir(parents=True)
    (folder / version.path / "encoder.onnx").write_bytes(b"graph")
    return version


def trade(market: str, slot: str) -> None:
    """Store an order, the decision for it and what came of it."""
    order = Order.on(market).objects.create(
        bot=market,
        tag="one",
        instrument="BTC-PERP",
        quantity=1,
        bar_closes_at=NOW,
        leg="open",
        reference_price=1,
        created_at=NOW,
        updated_at=NOW,
        mode="simulated",
    )
    Decision.on(market).objects.create(
        slot=slot,
        bar_closes_at=NOW,
        decided_at=NOW,
        action="buy",
        lots_before=0,
        lots_after=1,
        price=1,
        order=order,
    )
    Position.on(market).objects.create(
        slot=slot, bot=market, instrument="BTC-PERP", lots=1, updated_at=NOW
    )


def test_a_file_is_imported_with_its_features(file: Path) -> None:
    said = importbars("btc", "4h", file)
    assert Bar.on("btc").objects.filter(source=Source.IMPORTED, timeframe="4h").count() == BARS
    rows = Feature.on("btc").objects.filter(timeframe="4h").count()
    assert rows > 0
    assert "600 btc 4h bars, 20 Nov 2024 05:30 to 28 Feb 2025 01:30 IST." in said
    assert "No gaps against the calendar." in said
    assert "600 bars new or changed, 0 as they were." in said
    assert "btc has no funding yet, so its rows hold 0 for it: manage.py importreadings" in said
    assert f"{rows} feature rows of btc 4h." in said
    assert "0 feature rows of btc 1h: they need 200 bars and more of 1h and 4h." in said


def test_a_second_import_changes_nothing(file: Path) -> None:
    importbars("btc", "4h", file)
    histories.put_funding(histories.four_hours(20))
    assert "has no funding" not in importbars("btc", "4h", file)
    before = list(Bar.on("btc").objects.order_by("pk").values())
    features = list(Feature.on("btc").objects.order_by("opens_at").values_list("opens_at"))
    assert "0 bars new or changed, 600 as they were." in importbars("btc", "4h", file)
    assert list(Bar.on("btc").objects.order_by("pk").values()) == before
    assert list(Feature.on("btc").objects.order_by("opens_at").values_list("opens_at")) == features


def test_a_bad_row_near_the_end_leaves_nothing_of_the_file(file: Path) -> None:
    lines = file.read_text().splitlines()
    cells = lines[-2].split(",")
    cells[2] = "1"
    lines[-2] = ",".join(cells)
    file.write_text("\n".join(lines))
    with pytest.raises(CommandError, match=r"btc_4h.csv, line 600: high 1 .* Nothing was imported"):
        importbars("btc", "4h", file)
    assert not Bar.on("btc").objects.exists()
    assert not Feature.on("btc").objects.exists()


def test_the_gaps_are_told_largest_first(file: Path) -> None:
    lines = file.read_text().splitlines()
    for row in (400, 301, 300, 200):
        del lines[row]
    file.write_text("\n".join(lines))
    said = importbars("btc", "4h", file)
    assert "3 gaps against the calendar, 4 bars missing:" in said
    shown = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert shown[0] == "09 Jan 2025 01:30 to 09 Jan 2025 05:30, 2 bars"
    assert [line.rpartition(", ")[2] for line in shown] == ["2 bars", "1 bar", "1 bar"]


def test_a_dry_run_reads_and_reports_and_changes_nothing(file: Path) -> None:
    said = importbars("btc", "4h", file, "--dry-run")
    assert "600 btc 4h bars" in said and "Dry run: nothing was changed." in said
    assert not Bar.on("btc").objects.exists()


@pytest.fixture
def generated(models_folder: Path) -> None:
    """Have a market that was generated, learned from and traded, beside another one."""
    store.save_bars("btc", "4h", histories.four_hours(BARS), Source.GENERATED)
    store.rebuild_features("btc", "4h")
    Quote.on("btc").objects.create(instrument="BTC-PERP", price=60_000, at=NOW)
    trade("btc", "btc-4h")
    trade("nifty", "nifty-1h")
    activate("btc-4h", models_folder)
    activate("nifty-1h", models_folder)
    RiskState.on("btc").objects.create(
        bot="btc", halted=True, halt_reason="the owner said so", loss_latched=True, updated_at=NOW
    )
    for slot in ("btc-4h", "nifty-1h"):
        run = pipeline_runs.enqueue(SLOTS[slot], "a test", clock.real(), timesteps=1, send=False)
        assert run is not None


@pytest.mark.usefixtures("generated")
def test_generated_bars_give_way_only_with_replace(file: Path, models_folder: Path) -> None:
    with pytest.raises(CommandError, match=r"btc holds generated bars.*--replace removes them"):
        importbars("btc", "4h", file)
    assert store.sources("btc") == {Source.GENERATED}
    assert Position.on("btc").objects.count() == 1
    assert ModelVersion.objects.filter(slot="btc-4h").exists()
    assert (models_folder / "btc-4h" / "v1").is_dir()


@pytest.mark.usefixtures("generated")
def test_replace_removes_what_came_of_the_generated_bars_and_nothing_else(
    file: Path,
    models_folder: Path,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        importbars("btc", "4h", file, "--replace")
    assert store.sources("btc") == {Source.IMPORTED}
    assert Bar.on("btc").objects.count() == BARS
    assert store.last_quote("btc") is None
    for model in (Decision, Order, Position):
        assert not model.on("btc").objects.exists(), model
        assert model.on("nifty").objects.count() == 1, model
    assert set(ModelVersion.objects.values_list("slot", flat=True)) == {"nifty-1h"}
    assert set(Activation.objects.values_list("slot", flat=True)) == {"nifty-1h"}
    assert not (models_folder / "btc-4h" / "v1").exists()
    assert (models_folder / "nifty-1h" / "v1").is_dir()


@pytest.mark.usefixtures("generated")
def test_replace_ends_the_trainings_on_generated_bars(file: Path) -> None:
    before = TrainingRun.objects.get(slot="btc-4h")
    importbars("btc", "4h", file, "--replace")
    run = TrainingRun.objects.get(slot="btc-4h")
    assert run.state == TrainingRun.State.REFUSED
    assert "generated bars gave way" in run.detail
    assert run.fence == before.fence + 1  # whoever works on it may write no more
    assert TrainingRun.objects.get(slot="nifty-1h").state == TrainingRun.State.QUEUED


@pytest.mark.usefixtures("generated")
def test_replace_does_not_resume_what_the_owner_halted(file: Path) -> None:
    importbars("btc", "4h", file, "--replace")
    state = RiskState.on("btc").objects.get(bot="btc")
    assert state.halted and state.halt_reason == "the owner said so"
    assert not state.loss_latched


@pytest.mark.usefixtures("generated")
def test_an_import_that_breaks_half_way_leaves_everything_as_it_was(
    file: Path,
    models_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    features = Feature.on("btc").objects.count()

    def breaks(alias: str, timeframe: str) -> int:
        raise OSError("the machine went away")

    monkeypatch.setattr(store, "rebuild_features", breaks)
    with (
        django_capture_on_commit_callbacks(execute=True),
        pytest.raises(OSError, match="went away"),
    ):
        importbars("btc", "4h", file, "--replace")
    assert store.sources("btc") == {Source.GENERATED}
    assert Feature.on("btc").objects.count() == features > 0
    assert Position.on("btc").objects.count() == 1
    assert ModelVersion.objects.filter(slot="btc-4h").exists()
    assert (models_folder / "btc-4h" / "v1" / "encoder.onnx").exists()
    assert TrainingRun.objects.get(slot="btc-4h").state == TrainingRun.State.QUEUED


def test_naive_times_need_a_zone(tmp_path: Path) -> None:
    path = tmp_path / "naive.csv"
    path.write_text(
        "date,open,high,low,close\n2024-06-03 09:15,100,102,99,101\n"
        "2024-06-03 10:15,101,102,100,101\n"
    )
    histories.seed_days()
    with pytest.raises(CommandError, match=r"line 2: 2024-06-03 09:15 has no time zone.*--tz Asia"):
        importbars("nifty", "1h", path)
    with pytest.raises(CommandError, match="--tz Asia/Culcutta is not a time zone"):
        importbars("nifty", "1h", path, "--tz", "Asia/Culcutta")
    assert "03 Jun 2024 09:15 to 03 Jun 2024 10:15 IST" in importbars(
        "nifty", "1h", path, "--tz", "Asia/Kolkata"
    )


def test_a_timeframe_or_market_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(CommandError, match="btc has no 7m bars; its timeframes are 1h, 4h"):
        importbars("btc", "7m", file)
    with pytest.raises(CommandError, match="invalid choice: 'gold'"):
        importbars("gold", "1d", file)
    with pytest.raises(CommandError, match=r"nothing.csv: no such file. Nothing was imported."):
        importbars("btc", "4h", file.parent / "nothing.csv")


def test_bars_are_not_replaced_under_a_running_bot(file: Path) -> None:
    store.save_bars("btc", "4h", histories.four_hours(5), Source.GENERATED)
    Beat("btc-bot").beat("running")
    with pytest.raises(CommandError, match=r"the btc bot is running .* stop `make run`"):
        importbars("btc", "4h", file, "--replace")
    assert Bar.on("btc").objects.count() == 5
