"""A hostile PC with its real role in the control database: what it tries, and that it fails."""
# ruff: noqa: S608 - the statements are an attacker's

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connections
from psycopg import errors, sql

from bots.modelstore import services as modelstore
from monitoring import watch
from monitoring.dashboard import machine
from tests.training.pc_access.hostile import role, sign_in
from tests.training.pipeline.runs import SLOT, champion, fresh, make_run
from tradingsite import clock, notices
from tradingsite.errors import Degraded
from tradingsite.machines import pc_notices
from tradingsite.models import JobRun, Notice, PcHeartbeat, PcNotice
from tradingsite.scheduling import jobs
from tradingsite.supervision import heartbeat
from tradingsite.supervision.heartbeat import Beat
from training.models import TrainingRun
from training.pc_access import role as pc_role
from training.pipeline import folders, prod_steps
from training.pipeline import runs as pipeline_runs

pytestmark = pytest.mark.django_db(databases=["default", "btc", "pc_btc"], transaction=True)

DENIED = errors.InsufficientPrivilege
LONG_AGO, NEXT_YEAR = "1999-01-01Z", "now() + interval '1 year'"


@pytest.fixture(autouse=True)
def pc(tmp_path: Path, settings: Any) -> Iterator[None]:
    """Have the role, and a data folder of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    with role():
        yield


@pytest.fixture
def link() -> Iterator[psycopg.Connection[Any]]:
    """Sign in as PC."""
    with sign_in() as connection:
        yield connection


def refused(link: psycopg.Connection[Any], statement: str, error: Any = DENIED) -> None:
    """Hold that PC may not do a thing."""
    with pytest.raises(error):
        link.execute(statement.encode())


# --- A1: what PROD deletes -----------------------------------------------------------------------


def test_pc_cannot_name_the_folder_that_prod_deletes(link: psycopg.Connection[Any]) -> None:
    run = make_run()
    refused(link, f"UPDATE training_trainingrun SET slot = '../../..' WHERE id = {run.pk}")
    for column in ("until", "recipe", "created_at", "model_number", "trigger", "seed"):
        refused(link, f"UPDATE training_trainingrun SET {column} = {column}")
    with pytest.raises(IntegrityError, match="run_of_a_known_slot"):
        TrainingRun.objects.update(slot="../../..")


def test_pc_cannot_call_prods_steps_done(link: psycopg.Connection[Any]) -> None:
    run = make_run()
    add = (
        "INSERT INTO training_trainingstep (run_id, number, name, started_at, finished_at, detail) "
        f"VALUES ({run.pk}, %d, 'x', now(), now(), '')"
    )
    for number in (1, 2, 5, 7):
        refused(link, add % number)
    for number in (3, 4, 6):
        link.execute((add % number).encode())
    assert pipeline_runs._next_step(run) == 1, "the first that is missing, not how many there are"
    refused(link, "UPDATE training_trainingstep SET number = 5")
    refused(link, "DELETE FROM training_trainingstep")


@pytest.mark.parametrize("slot", ["../../..", "*", "btc-4h/..", "", "."])
def test_the_store_removes_nothing_but_versions(slot: str, tmp_path: Path) -> None:
    kept = tmp_path / "var" / "precious"
    kept.mkdir(parents=True)
    with pytest.raises(Degraded):
        modelstore.prune(slot)
    run = TrainingRun(pk=1, slot=slot, created_at=clock.real())
    for path in (folders.exports, folders.inbox, folders.work):
        with pytest.raises(KeyError):
            path(run)
    with pytest.raises(KeyError):
        prod_steps.clean_up(run)
    assert kept.is_dir()


def test_in_a_slots_folder_only_versions_are_pruned(tmp_path: Path) -> None:
    champion()
    place = modelstore.models_folder() / SLOT.slug
    outside = tmp_path / "outside"
    for folder in (place / "v1", place / "v7", place / "vault", place / "v2.bak", outside):
        folder.mkdir(parents=True)
    (place / "v9").symlink_to(outside)
    assert modelstore.prune(SLOT.slug) == [place / "v7"]
    assert {path.name for path in place.iterdir()} == {"v1", "vault", "v2.bak", "v9"}
    assert outside.is_dir()


def test_a_run_that_is_over_is_out_of_pcs_reach(link: psycopg.Connection[Any]) -> None:
    run = make_run()
    refused(link, "UPDATE training_trainingrun SET state = 'done'")
    TrainingRun.objects.update(state=TrainingRun.State.DONE)
    assert link.execute("UPDATE training_trainingrun SET state = 'queued'").rowcount == 0
    assert fresh(run).state == TrainingRun.State.DONE


# --- A3: what stops the bots ---------------------------------------------------------------------


def test_pc_signs_in_to_the_control_database_alone() -> None:
    for alias in connections:
        if alias != "default":
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                sign_in(alias)
    for name in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            sign_in(database=name)


def test_pc_takes_no_lock_by_which_prod_waits(link: psycopg.Connection[Any]) -> None:
    for call in (
        "pg_advisory_lock(7303)",
        "pg_advisory_xact_lock(7303)",
        "pg_try_advisory_lock(1, 2)",
        "pg_advisory_lock_shared(7303)",
    ):
        refused(link, f"SELECT {call}")
    for right in pc_role.RIGHTS:
        for mode in ("ROW SHARE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"):
            with pytest.raises(DENIED), link.transaction():
                name = sql.Identifier(right.table._meta.db_table)
                link.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(name, sql.SQL(mode)))
    # PROD still takes them: the functions are its own.
    assert make_run()


def test_a_row_that_pc_keeps_locked_stops_nobody(link: psycopg.Connection[Any]) -> None:
    run = make_run()
    TrainingRun.objects.update(lease_until=clock.real() - dt.timedelta(minutes=1), attempts=9)
    with link.transaction():
        link.execute("SELECT 1 FROM training_trainingrun FOR UPDATE")
        began = time.monotonic()
        pipeline_runs.recover_lapsed()
        assert time.monotonic() - began < 2.0
        assert fresh(run).state == TrainingRun.State.QUEUED, "the next look finds it"
    pipeline_runs.recover_lapsed()
    assert fresh(run).state == TrainingRun.State.FAILED


def test_what_pc_keeps_open_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pc_role, "LONGEST_SECONDS", 0.3)
    make_run()
    link = sign_in()
    link.execute("SET idle_in_transaction_session_timeout = 0")
    link.execute("BEGIN")
    link.execute("SELECT 1 FROM training_trainingrun FOR UPDATE")
    time.sleep(0.5)
    assert pc_role.end_overlong() == 1
    with pytest.raises(psycopg.OperationalError):
        link.execute("SELECT 1")


def test_pc_has_so_many_connections_and_no_more() -> None:
    held: list[psycopg.Connection[Any]] = []
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        for _ in range(pc_role.CONNECTIONS + 1):
            held.append(sign_in())
    assert len(held) == pc_role.CONNECTIONS
    for each in held:
        each.close()


def test_pc_fills_no_disk(link: psycopg.Connection[Any]) -> None:
    refused(link, "SELECT lo_from_bytea(0, 'x')")
    refused(link, "SELECT lo_creat(-1)")
    refused(link, "CREATE TEMPORARY TABLE t (n int)")
    refused(link, "CREATE TABLE t (n int)")
    refused(link, "SET temp_file_limit = -1")
    make_run()
    for statement in (
        "UPDATE training_trainingrun SET detail = repeat('x', 1000000)",
        "UPDATE training_trainingrun SET progress = jsonb_build_object('x', repeat('x', 1000000))",
        "INSERT INTO training_copy (slot, holding, archived, at) "
        "VALUES ('btc-4h', jsonb_build_object('x', repeat('x', 9000000)), '[]', now())",
        "INSERT INTO training_copy (slot, holding, archived, at) VALUES ('x', '{}', '[]', now())",
        "UPDATE training_trainingrun SET finished_at = 'infinity'",
        "UPDATE training_trainingrun SET started_at = '9999-12-31Z'",
    ):
        refused(link, statement, errors.CheckViolation)
    refused(link, f"UPDATE training_trainingrun SET lease_until = {NEXT_YEAR}")
    many = (
        "INSERT INTO tradingsite_pcnotice (key, severity, text, is_over, at) "
        "SELECT n, 'critical', 'x', false, now() FROM generate_series(1, 100000) n"
    )
    refused(link, many, errors.RaiseException)


# --- A8: what PC may call done, hide, or keep alive ----------------------------------------------


def test_pc_has_no_part_in_prods_own_records(link: psycopg.Connection[Any]) -> None:
    notices.notify("trading", "critical", "a:key", "money is at stake")
    Beat("btc-bot").beat("running")
    jobs.find_or_create("backups", dt.datetime(2026, 6, 1, 15, tzinfo=dt.UTC))
    for table in ("jobrun", "notice", "heartbeat"):
        refused(link, f"SELECT * FROM tradingsite_{table}")
        refused(link, f"DELETE FROM tradingsite_{table}")
    refused(
        link,
        "INSERT INTO tradingsite_jobrun (job, scheduled_for, state, detail, lease_owner, fence) "
        "VALUES ('token-refresh', now(), 'done', 'signed in as SIM001', '', 0)",
    )
    refused(link, "UPDATE tradingsite_jobrun SET state = 'done'")
    refused(link, "UPDATE tradingsite_notice SET resolved_at = now()")
    refused(link, f"UPDATE tradingsite_heartbeat SET beat_at = {NEXT_YEAR}")
    refused(link, "UPDATE training_recipe SET state = 'approved'")
    refused(link, "UPDATE modelstore_modelversion SET state = 'active'")
    refused(link, "SELECT * FROM auth_user")
    refused(link, "SELECT * FROM django_session")
    assert Notice.objects.get().resolved_at is None
    assert JobRun.objects.get().state == JobRun.State.PENDING


def test_pc_keeps_no_service_alive(link: psycopg.Connection[Any], settings: Any) -> None:
    said = (
        "INSERT INTO tradingsite_pcheartbeat (service, pid, started_at, beat_at, state, detail, "
        f"code, config) VALUES ('%s', 1, now(), {NEXT_YEAR}, 'running', 'fine', '', '')"
    )
    refused(link, said % "btc-bot", errors.CheckViolation)
    link.execute((said % "gpu-worker").encode())
    settings.MACHINE = "prod"
    word = heartbeat.last_words()["gpu-worker"]
    assert (word.state, word.detail) == ("failed", "PC says: its beat lies in the future")
    assert word.beat_at <= clock.real()
    row = next(
        row for row in machine.services("paper", clock.real()) if row.service.name == "gpu-worker"
    )
    assert row.level == "ended", "and the page says so"
    PcHeartbeat.objects.update(beat_at=clock.real() - dt.timedelta(minutes=5))
    assert not heartbeat.is_alive("gpu-worker")


def test_pcs_notices_are_its_word_at_a_bounded_rate(
    link: psycopg.Connection[Any], settings: Any
) -> None:
    settings.MACHINE = "prod"
    notices.notify("trading", "critical", "a:key", "money is at stake")
    link.execute(
        "INSERT INTO tradingsite_pcnotice (key, severity, text, is_over, at) "
        "SELECT 'n' || n, 'critical', E'sell all\\n\\x1b[31m', false, now() "
        "FROM generate_series(1, 150) n"
    )
    link.execute(
        "INSERT INTO tradingsite_pcnotice (key, severity, text, is_over, at) "
        "VALUES ('a:key', 'info', 'over', true, now())"
    )
    refused(
        link,
        "UPDATE tradingsite_pcnotice SET text = repeat('x', 601)",
        errors.StringDataRightTruncation,
    )
    while pc_notices.take_over():
        pass
    assert PcNotice.objects.count() == 0
    assert Notice.objects.get(key="a:key").resolved_at is None, "PROD's own stays open"
    taken = Notice.objects.filter(key__startswith="pc:")
    assert taken.count() == pc_notices.NEW_AN_HOUR
    assert taken[0].text == "PC says: sell all  [31m"
    assert "PC leaves more than 30" in Notice.objects.get(key=pc_notices.FLOOD_KEY).text


def test_a_notice_that_pc_keeps_locked_holds_up_no_other(
    link: psycopg.Connection[Any], settings: Any
) -> None:
    settings.MACHINE = "prod"
    PcNotice.objects.create(key="a", severity="info", text="a", at=clock.real())
    PcNotice.objects.create(key="b", severity="info", text="b", at=clock.real())
    with link.transaction():
        link.execute("SELECT 1 FROM tradingsite_pcnotice WHERE key = 'a' FOR UPDATE")
        watch.hear_pc()
        assert list(Notice.objects.values_list("key", flat=True)) == ["pc:b"]


def test_a_page_shows_what_pc_wrote_as_progress(link: psycopg.Connection[Any]) -> None:
    make_run()
    for said in ('"x"', "[1]", '{"timesteps": "x"}', '{"timesteps": 1e400}', "null", "7"):
        link.execute(
            b"UPDATE training_trainingrun SET state = 'running', progress = %s::jsonb", [said]
        )
        (row,) = machine.training_runs(clock.real())
        assert row.steps_done == 0 and row.now_doing
