"""Leases with fencing numbers, on real rows."""

import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connections

from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.scheduling import leases

NOW = dt.datetime(2026, 6, 1, 9, 0, tzinfo=clock.UTC)


@pytest.fixture
def run(db: None) -> JobRun:
    """Return a row to claim."""
    return JobRun.objects.create(job="backups", scheduled_for=NOW)


def lapse(run: JobRun) -> None:
    """Let the row's lease be over."""
    past = clock.real() - dt.timedelta(seconds=1)
    JobRun.objects.filter(pk=run.pk).update(lease_until=past)


def test_one_claims_and_the_next_is_refused(run: JobRun) -> None:
    first = leases.claim(run)
    assert first is not None and first.fence == 1
    assert first.lease_owner == leases.owner()
    assert leases.claim(run) is None


def test_a_lapsed_lease_goes_to_the_next_with_a_higher_number(run: JobRun) -> None:
    first = leases.claim(run)
    assert first is not None
    lapse(run)
    second = leases.claim(run)
    assert second is not None and second.fence == 2
    with pytest.raises(leases.LeaseLost, match="fence 1"):
        leases.write(first, detail="from the dead")
    leases.write(second, detail="from the living")
    run.refresh_from_db()
    assert run.detail == "from the living"


def test_a_claim_can_ask_for_more(run: JobRun) -> None:
    assert leases.claim(run, state="done") is None
    assert leases.claim(run, state="pending") is not None


def test_a_released_row_is_free_and_keeps_what_was_written(run: JobRun) -> None:
    claimed = leases.claim(run)
    assert claimed is not None
    leases.release(claimed, state=JobRun.State.DONE, detail="all of it")
    run.refresh_from_db()
    assert (run.state, run.detail, run.lease_until) == ("done", "all of it", None)
    assert leases.claim(run) is not None


@pytest.mark.django_db(transaction=True)
def test_a_kept_lease_is_renewed_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    run = JobRun.objects.create(job="backups", scheduled_for=NOW)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
    claimed = leases.claim(run)
    assert claimed is not None
    with leases.kept(claimed):
        time.sleep(1.3)
        assert leases.claim(run) is None
    names = [thread.name for thread in threading.enumerate()]
    assert f"lease {run.pk}" not in names


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_exactly_one_claims() -> None:
    run = JobRun.objects.create(job="backups", scheduled_for=NOW)

    def claim(_: int) -> bool:
        try:
            return leases.claim(run) is not None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(claim, range(12))) == 1


@pytest.mark.parametrize("minutes", [-5, 5])
def test_a_worker_whose_clock_is_off_keeps_its_lease_and_takes_no_other(
    run: JobRun, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    real = clock.real
    monkeypatch.setattr(clock, "real", lambda: real() + dt.timedelta(minutes=minutes))
    first = leases.claim(run)
    assert first is not None
    monkeypatch.setattr(clock, "real", real)
    assert leases.claim(run) is None, "by the clock of the others it is held"
    monkeypatch.setattr(clock, "real", lambda: real() + dt.timedelta(minutes=minutes))
    assert leases.claim(run) is None, "and by its own"


def test_what_must_be_said_is_said_again_until_the_database_answers(
    run: JobRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PAUSE_SECONDS", 0.01)
    claimed = leases.claim(run)
    assert claimed is not None
    tries = []

    def act() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("the connection was lost")
        leases.release(claimed, detail="said")

    # The test's own transaction must outlive what a worker closes.
    monkeypatch.setattr(leases.connections, "close_all", lambda: None)
    leases.patiently(act)
    run.refresh_from_db()
    assert (len(tries), run.detail) == (3, "said")

    def never() -> None:
        raise OperationalError("still lost")

    with pytest.raises(OperationalError, match="still lost"):
        leases.patiently(never, seconds=0.0)
