"""An honest PC does its work by the role that a hostile one is held by, and doctor knows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from psycopg import sql

from bots.modelstore import services as modelstore
from monitoring import watch
from monitoring.doctor import checks as doctor
from tests.training.pc_access.hostile import on_pc, role
from tests.training.pipeline.runs import SLOT, finished, fresh, make_run
from tradingsite import clock, notices
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision import heartbeat
from tradingsite.supervision.heartbeat import Beat
from training import recipes
from training.models import Copy, Evaluation, TrainingRun
from training.pc_access import audit as pc_audit
from training.pipeline import pc_copy, pc_steps
from training.pipeline import runs as pipeline_runs
from training.pipeline.runs import STAGES
from training.selection import evaluations

pytestmark = pytest.mark.django_db(databases=["default", "btc", "pc_btc"], transaction=True)


@pytest.fixture(autouse=True)
def pc(tmp_path: Path, settings: Any) -> Iterator[None]:
    """Have the role, and a data folder of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    with role():
        yield


def light(run: TrainingRun) -> str:
    return "done"


def trains(run: TrainingRun) -> str:
    pc_steps.leases.write(run, progress={"timesteps": 1}, metrics={}, charts={})
    pc_copy.record(run.slot, holding={"4h": []})
    return "trained"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have steps that take no time; return the list of the stages that are asked for."""
    bodies = {1: (light, light), 3: (trains, light), 5: (light,), 6: (light,), 7: (light,)}
    for first, steps in bodies.items():
        monkeypatch.setitem(STAGES, first, (STAGES[first][0], steps))
    asked: list[int] = []
    monkeypatch.setattr(
        pipeline_runs, "send_next", lambda run: asked.append(pipeline_runs._next_step(run))
    )
    return asked


def test_an_honest_pc_does_its_work_by_that_role(sent: list[int], settings: Any) -> None:
    settings.MACHINE = "prod"
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    with on_pc():
        pipeline_runs.advance_and_send(run.pk, 3)
        Beat("gpu-worker").beat("running", "takes tasks")
        notices.notify("infrastructure", "warning", "training:btc-4h", "a first try failed")
        notices.notify("infrastructure", "warning", "training:btc-4h", "a second try failed")
        assert heartbeat.is_alive("gpu-worker")
    assert sent == [], "PC asks for nothing"
    watch.hear_pc()
    watch.hear_pc()
    assert sent == [5], "PROD goes on by itself, and asks once"
    assert Notice.objects.get().text == "PC says: a second try failed"
    assert heartbeat.is_alive("gpu-worker")
    pipeline_runs.advance(run.pk, 5)
    with on_pc():
        pipeline_runs.advance_and_send(run.pk, 6)
        pc_copy.record(run.slot, archived=[run.pk])
    watch.hear_pc()
    assert sent == [5, 7]
    pipeline_runs.advance(run.pk, 7)
    assert (fresh(run).state, finished(run)) == ("done", [1, 2, 3, 4, 5, 6, 7])
    assert Notice.objects.get().resolved_at, "what PC said is over with the run"
    assert modelstore.archived_runs(run.slot) == {run.pk}
    assert Heartbeat.objects.count() == 0


def test_an_honest_pc_may_let_a_run_begin_again_fail_and_evaluate(settings: Any) -> None:
    settings.MACHINE = "prod"
    Copy.objects.create(slot=SLOT.slug, holding={"4h": []}, at=clock.real())
    run = make_run()
    run.steps.create(number=1, name="export", started_at=clock.real(), finished_at=clock.real())
    recipe = recipes.register(recipes.settings_of(SLOT, 1_000))
    row = evaluations.enqueue(recipe, 2, 1, clock.real(), send=False)
    with on_pc():
        assert pc_copy.forget_holding(run)
        assert not pc_copy.forget_holding(run)
        assert pipeline_runs._next_step(run) == 1
        assert pipeline_runs.fail_unleased(fresh(run), "it broke")
        assert evaluations.perform(row.pk) is not None  # of an empty market: it fails, by name
    assert fresh(run).state == TrainingRun.State.FAILED
    row.refresh_from_db()
    assert row.state == Evaluation.State.FAILED
    watch.hear_pc()
    assert "it broke" in Notice.objects.get().text


def test_doctor_knows_the_role_and_says_what_it_may_do_too_much() -> None:
    def said() -> str:
        # Other runs make databases on this very server while this one looks.
        return "; ".join(each for each in pc_audit.faults() or () if "sign in to" not in each)

    assert said() == ""
    found = {each.name: each for each in doctor._pc()}
    assert found["PC's queue"].level == doctor.OK
    for statement, complaint in (
        ("GRANT UPDATE ON tradingsite_jobrun TO {}", "UPDATE on tradingsite_jobrun"),
        ("GRANT UPDATE (slot) ON training_trainingrun TO {}", "training_trainingrun.slot"),
        ("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO {}", "advisory locks"),
        ("ALTER ROLE {} CONNECTION LIMIT -1", "not limited"),
        ("ALTER ROLE {} CREATEDB", "powers over the whole server"),
        ("REVOKE SELECT ON training_recipe FROM {}", "lacks what it needs: SELECT on"),
    ):
        with connections["default"].cursor() as cursor:
            name = sql.Identifier(doctor.settings.PC_ROLE)
            cursor.execute(sql.SQL(statement).format(name).as_string(None))
        assert complaint in said()
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE training_copy DISABLE ROW LEVEL SECURITY")
    assert "not told apart in training_copy" in said()
    assert next(iter(doctor._pc())).level == doctor.FAIL
