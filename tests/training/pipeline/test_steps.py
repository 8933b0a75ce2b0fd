"""The seven steps on real databases, with the real trainer on a small history."""

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from bots.decision.observation import WINDOW
from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from markets import store
from markets.models import Source
from tests import histories
from tests.training.pipeline.runs import (
    SLOT,
    TIMESTEPS,
    UNTIL,
    finished,
    fresh,
    make_run,
    the_notice,
    work_off,
)
from tests.waiting import wait_for
from tradingsite import clock
from tradingsite.models import Notice
from tradingsite.registry import BOTS
from tradingsite.scheduling import leases
from training.models import TrainingRun
from training.pipeline import folders, pc_steps
from training.pipeline import runs as pipeline_runs
from training.pipeline.runs import STEPS

# Exports read a snapshot, leases are renewed by threads, workers are processes: all of them must
# see what is committed.
pytestmark = pytest.mark.django_db(databases=["default", "btc", "pc_btc"], transaction=True)

State = TrainingRun.State
PLACES = ("prod/exports", "pc/link/inbox", "pc/link/outbox", "pc/work", "prod/incoming")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, settings: Any) -> Path:
    """Have a market to learn from and a data folder of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    store.save_bars("btc", "4h", histories.four_hours(1_100), Source.IMPORTED)
    store.rebuild_features("btc", "4h")
    return tmp_path


def test_the_seven_steps_lead_from_bars_to_a_model_that_trades(desk: Path) -> None:
    for place in PLACES:  # what runs that ended badly left, of this slot and of another
        (desk / place / f"{SLOT.slug}-run0").mkdir(parents=True)
        (desk / place / "btc-1h-run0").mkdir()
    pipeline_runs.fail_unleased(make_run(), "an earlier one broke")
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.DONE, run.detail
    records = list(run.steps.all())
    assert [(record.number, record.name) for record in records] == list(enumerate(STEPS, start=1))
    steps = [at for record in records for at in (record.started_at, record.finished_at)]
    times = [at for at in (run.created_at, run.started_at, *steps, run.finished_at) if at]
    assert len(times) == 3 + 2 * len(STEPS) and times == sorted(times)
    assert all(record.detail for record in records)
    assert run.progress["timesteps"] == TIMESTEPS
    assert run.lease_until is None

    version = modelstore.active(SLOT.slug)
    assert version is not None and version.run_id == run.pk
    assert run.model_number == version.number == 1
    folder = modelstore.folder(version)
    manifest = modelstore.verify(folder, SLOT.slug)
    assert manifest.hyperparameters["timesteps"] == TIMESTEPS
    assert manifest.training_span.closes_at < manifest.holdout_span.opens_at
    assert manifest.holdout_span.closes_at <= UNTIL.timestamp()
    features = store.load_features("btc", "4h").values
    codes = bundle.load(folder, manifest).encode(features[np.newaxis, -WINDOW:])
    assert np.isfinite(codes).all()

    kept = list((desk / "pc" / "archive" / SLOT.slug).iterdir())
    assert [path.name.endswith(f"-run{run.pk}") for path in kept] == [True]
    for place in PLACES:
        assert [path.name for path in (desk / place).iterdir()] == ["btc-1h-run0"], place
    assert the_notice().resolved_at is not None
    assert Notice.objects.get(key=f"model:{SLOT.slug}:1").channel == "trading"


def test_a_slot_may_be_of_another_network(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOTS, "btc", replace(BOTS["btc"], network="tft"))
    told: list[dict[str, Any]] = []
    write = leases.write

    def watch(run: TrainingRun, **values: Any) -> None:
        told.append(values)
        write(run, **values)

    monkeypatch.setattr(leases, "write", watch)
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.DONE, run.detail
    epochs = [
        values["progress"]["forecast_epoch"]
        for values in told
        if values.get("progress", {}).get("phase") == "forecast"
    ]
    assert epochs[:4] == [1, 2, 3, 4]
    assert run.progress["phase"] == "policy" and run.progress["timesteps"] == TIMESTEPS
    version = modelstore.active(SLOT.slug)
    assert version is not None
    manifest = modelstore.verify(modelstore.folder(version), SLOT.slug)
    assert manifest.hyperparameters["network"] == "tft"
    assert manifest.hyperparameters["freeze_encoder"] is True
    assert not list((desk / "pc" / "work").iterdir())


WORKER = """
import sys, django
django.setup()
from pathlib import Path
from django.conf import settings
from tradingsite.scheduling import leases
from training.pipeline import runs as pipeline
settings.PROD_DIR, settings.PC_DIR = Path(sys.argv[2], "prod"), Path(sys.argv[2], "pc")
leases.LEASE_SECONDS = 3.0
pipeline.advance(int(sys.argv[1]), 3)
"""


@pytest.mark.usefixtures("queue")
def test_a_killed_worker_is_replaced_and_the_run_goes_on(desk: Path) -> None:
    run = make_run(timesteps=100_000_000)
    pipeline_runs.advance(run.pk, 1)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(run.pk), str(desk)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    try:
        until = time.monotonic() + 60
        while not fresh(run).progress.get("timesteps"):
            assert worker.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        assert pipeline_runs.recover_lapsed() == 0  # it is alive: its lease was renewed all along
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    lapsed = TrainingRun.objects.filter(pk=run.pk)
    # A lease that is renewed after its worker's death would else be waited for without an end.
    assert wait_for(lambda: lapsed.filter(lease_until__lt=clock.real()).exists(), 60.0)
    assert fresh(run).state == State.RUNNING and finished(run) == [1, 2]
    TrainingRun.objects.filter(pk=run.pk).update(
        timesteps=TIMESTEPS, recipe={}
    )  # this time it may end
    assert pipeline_runs.recover_lapsed() == 1
    assert work_off() == ["train_on_pc", "verify_and_activate", "archive_on_pc", "clean_up"]
    done = fresh(run)
    assert done.state == State.DONE and done.attempts == 1
    assert finished(run) == [1, 2, 3, 4, 5, 6, 7]
    version = modelstore.active(SLOT.slug)
    assert version is not None and version.run_id == run.pk


def test_a_history_too_short_is_refused_in_words() -> None:
    run = pipeline_runs.run_in_place(
        make_run(until=clock.from_seconds(histories.FIRST + 900 * 14_400))
    )
    assert run.state == State.REFUSED
    assert "to train on, at least 500 are needed" in run.detail
    assert "holds flat" in the_notice().text


def test_a_lease_is_kept_through_an_outage_of_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.6)
    claimed = leases.claim(run)
    assert claimed is not None and claimed.lease_until is not None
    with leases.kept(claimed):
        time.sleep(0.3)
        with connections["default"].cursor() as cursor:  # as a restart of PostgreSQL does
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        wanted = claimed.lease_until + dt.timedelta(seconds=0.5)
        assert wait_for(lambda: (fresh(run).lease_until or claimed.created_at) > wanted)


def test_an_old_bundle_that_is_whole_and_signed_does_not_trade_again(desk: Path) -> None:
    """Somebody, or a mixed-up transfer, brings an old model in the place of the new one."""
    pipeline_runs.run_in_place(make_run())
    champion = modelstore.active(SLOT.slug)
    assert champion is not None
    old = desk / "old"
    shutil.copytree(modelstore.folder(champion), old)
    run = make_run()
    for first_step in (1, 3):
        pipeline_runs.advance(run.pk, first_step)
    outbox = folders.outbox(fresh(run))
    shutil.rmtree(outbox)
    shutil.copytree(old, outbox)
    pipeline_runs.advance(run.pk, 5)
    run = fresh(run)
    assert run.state == State.REFUSED and f"it is of run {champion.run_id}" in run.detail
    assert modelstore.active(SLOT.slug) == champion
    assert "keeps trading" in the_notice().text


def test_a_run_is_cancelled_while_it_trains(desk: Path) -> None:
    run = make_run(timesteps=400 * 64 * 128)
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(pipeline_runs.run_in_place(run))
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    assert wait_for(lambda: fresh(run).progress, 30.0), "it never began to train"
    out = StringIO()
    call_command("trainbot", "--cancel", str(run.pk), stdout=out)
    assert "is cancelled" in out.getvalue()
    thread.join(10.0)
    assert not thread.is_alive(), "its worker goes on"
    run = fresh(run)
    assert run.state == State.CANCELLED and "cancelled by" in run.detail
    assert modelstore.active(SLOT.slug) is None and not Notice.objects.exists()
    with pytest.raises(CommandError, match="is cancelled already"):
        call_command("trainbot", "--cancel", str(run.pk))
    with pytest.raises(CommandError, match="no training run"):
        call_command("trainbot", "--cancel", "999999")
    # The slot is free for the next one.
    assert pipeline_runs.run_in_place(make_run()).state == State.DONE


def test_what_trades_is_pushed_and_a_push_that_fails_costs_nothing(
    desk: Path, settings: Any
) -> None:
    remote = desk / "models.git"
    settings.MODELS_GIT_REMOTE = str(remote)
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.DONE
    assert "not pushed: git ls-remote" in run.steps.get(number=6).detail
    notice = Notice.objects.get(key=pc_steps.PUSH_KEY)
    assert f"{SLOT.slug} v1 trades and is archived" in notice.text
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    run = pipeline_runs.run_in_place(make_run())
    assert "; pushed to models-" in run.steps.get(number=6).detail
    notice.refresh_from_db()
    assert notice.resolved_at is not None
    branch = run.steps.get(number=6).detail.rpartition(" ")[2]
    listed = subprocess.run(
        ["git", "-C", str(remote), "ls-tree", "-r", "--name-only", branch],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(listed.stdout.split()) == [
        f"{SLOT.slug}/{name}"
        for name in (
            "encoder.onnx",
            "head.onnx",
            "manifest.json",
            "manifest.sig",
            "weights.safetensors",
        )
    ]


def test_a_rollback_stays_until_a_newer_model_is_let_trade(desk: Path) -> None:
    for _ in range(2):
        pipeline_runs.run_in_place(make_run())
    modelstore.roll_back(SLOT.slug, "the owner", "it lost too much")
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.DONE
    first = modelstore.active(SLOT.slug)
    assert first is not None and first.number == 1
    waiting = modelstore.challenger(SLOT.slug)
    assert waiting is not None and waiting.number == 3
    assert "the owner went back to v1" in waiting.reason
    modelstore.choose(SLOT.slug, 3, "the owner", "try again")
    assert modelstore.rollback_lock(SLOT.slug) is None
    pipeline_runs.run_in_place(make_run())
    now = modelstore.active(SLOT.slug)
    assert now is not None and now.number == 4
