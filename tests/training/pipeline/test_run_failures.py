"""What is known when a step of a run goes wrong, and that the model in use trades on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import OperationalError

from bots.modelstore import services as modelstore
from bots.modelstore.bundle import ENCODER
from bots.modelstore.models import ModelVersion
from tests.training.pipeline.runs import (
    SLOT,
    champion,
    finished,
    fresh,
    make_run,
    sealed_run,
    the_notice,
)
from tradingsite import clock
from training.models import Copy, TrainingRun
from training.pipeline import dataset, prod_steps
from training.pipeline import runs as pipeline_runs

pytestmark = [
    pytest.mark.django_db(databases=["default", "btc", "nifty"]),
    pytest.mark.usefixtures("desk"),
]

State = TrainingRun.State


def test_a_failure_tells_its_cause_and_not_the_last_line_of_what_postgresql_says(
    steps: Callable[..., list[int]],
) -> None:
    def full(run: TrainingRun) -> str:
        raise OperationalError(
            "could not extend file: No space left on device\nHINT:  Check free disk space.\n"
            "CONTEXT:  COPY markets_bar, line 3010"
        )

    steps(export=full)
    run = make_run()
    with pytest.raises(OperationalError):
        pipeline_runs.advance(run.pk, 1)
    assert (
        f"run {run.pk} failed: OperationalError: could not extend file: No space left on device. "
    ) in the_notice().text
    assert "CONTEXT" in fresh(run).detail


def test_a_model_file_corrupted_before_activation_is_refused_and_quarantined(
    desk: Path, steps: Callable[..., list[int]]
) -> None:
    old = champion()
    run = sealed_run(steps)
    graph = desk / "pc" / "link" / "outbox" / f"{SLOT.slug}-run{run.pk}" / ENCODER
    body = bytearray(graph.read_bytes())
    body[len(body) // 2] ^= 1
    graph.write_bytes(body)
    pipeline_runs.run_in_place(run)
    stored = fresh(run)
    assert stored.state == State.REFUSED
    assert "encoder.onnx: its sha256 is not the one in the manifest" in stored.detail
    assert finished(run) == [1, 2, 3, 4]
    (quarantined,) = (desk / "prod" / "quarantine").iterdir()
    assert (quarantined / ENCODER).read_bytes() == bytes(body)
    assert f"The files are in {quarantined}" in stored.detail
    assert the_notice().severity == "critical"
    assert the_notice().text.endswith("Nothing was activated; v1 keeps trading.")
    assert modelstore.active(SLOT.slug) == old
    assert ModelVersion.objects.count() == 1
    assert not (desk / "prod" / "models").exists()


def test_a_model_that_hangs_in_its_load_test_is_refused(
    desk: Path, steps: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(run: TrainingRun) -> str:
        prod_steps._load_test(desk)
        return "it ended after all"

    steps(verify=verify)
    monkeypatch.setattr(prod_steps, "LOAD_TEST_SECONDS", 0.01)
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.REFUSED
    assert "the load test did not end within 0.01 s" in run.detail


def test_no_disk_space_for_the_export_is_told_and_nothing_changes(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = champion()
    monkeypatch.setattr(dataset, "RESERVE_MB", 10**9)
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.REFUSED
    text = the_notice().text
    assert "was refused: no disk space for the export:" in text and "Make room" in text
    assert text.endswith("run it again. Nothing was activated; v1 keeps trading.")
    assert modelstore.active(SLOT.slug) == old
    assert not list((desk / "prod").glob("exports/*"))


def test_an_unforeseen_error_fails_the_run_with_its_traceback(
    steps: Callable[..., list[int]],
) -> None:
    def breaks(run: TrainingRun) -> str:
        raise RuntimeError("nobody thought of this")

    steps(archive=breaks)
    champion()
    run = make_run()
    with pytest.raises(RuntimeError, match="nobody thought"):
        pipeline_runs.run_in_place(run)
    stored = fresh(run)
    assert stored.state == State.FAILED and stored.lease_until is None
    assert "Traceback" in stored.detail
    assert the_notice().text == (
        f"btc-4h training run {run.pk} failed: RuntimeError: nobody thought of this. "
        "Nothing was activated; v1 keeps trading."
    )


def test_a_failure_after_activation_does_not_say_that_nothing_was_activated(
    steps: Callable[..., list[int]],
) -> None:
    def verify(run: TrainingRun) -> str:
        ModelVersion.objects.filter(pk=champion().pk).update(run_id=run.pk)
        return "active"

    def breaks(run: TrainingRun) -> str:
        raise OSError("the archive is away")

    steps(verify=verify, archive=breaks)
    with pytest.raises(OSError, match="archive is away"):
        pipeline_runs.run_in_place(make_run())
    assert the_notice().text.endswith("was activated before: v1 trades.")


def test_a_copy_that_was_lost_is_sent_anew_once_and_then_refused(
    steps: Callable[..., list[int]],
) -> None:
    def stale(run: TrainingRun) -> str:
        raise dataset.StaleCopy("PC has other rows")

    steps(train=stale)
    Copy.objects.create(slot=SLOT.slug, holding={"4h": []}, at=clock.real())
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    pipeline_runs.advance(run.pk, 3)
    assert (fresh(run).state, finished(run)) == (State.RUNNING, []), "it begins again"
    pipeline_runs.advance(run.pk, 1)
    pipeline_runs.advance(run.pk, 3)
    assert fresh(run).state == State.REFUSED, "a whole export that does not fit ends it"
