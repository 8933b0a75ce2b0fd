"""A job's work in a process of its own: what came of it comes back, whatever it was."""

import os

import pytest
from pytest_django import Settings

from tests.desk import ist
from tradingsite.errors import Degraded
from tradingsite.models import JobRun
from tradingsite.scheduling.child_process import apart
from tradingsite.scheduling.jobs import Fulfilled, Skipped

pytestmark = pytest.mark.django_db(transaction=True)


def says_who(run: JobRun) -> str:
    """Say which process does it, for which run."""
    return f"{os.getpid()} {run.job}"


def skips(run: JobRun) -> str:
    """Find nothing to do."""
    raise Skipped("nothing new")


def is_fulfilled(run: JobRun) -> str:
    """Find it done."""
    raise Fulfilled


def breaks(run: JobRun) -> str:
    """Fail as a fault of ours would."""
    raise KeyError("no such thing")


def dies(run: JobRun) -> str:
    """Die as one that had no memory would."""
    os._exit(9)


@pytest.fixture
def run_(settings: Settings) -> JobRun:
    settings.JOBS_APART = True
    return JobRun.objects.create(job="allocator", scheduled_for=ist("2026-06-01 05:00"))


def work(name: str) -> str:
    """Return the name by which another process finds a function of this module."""
    return f"tests.tradingsite.scheduling.test_child_process.{name}"


def test_what_was_done_comes_back_from_another_process(run_: JobRun) -> None:
    pid, job = apart(work("says_who"))(run_).split()
    assert int(pid) != os.getpid() and job == "allocator"


def test_what_was_raised_keeps_its_kind_and_its_cause(run_: JobRun) -> None:
    with pytest.raises(Skipped, match="nothing new"):
        apart(work("skips"))(run_)
    with pytest.raises(Fulfilled):
        apart(work("is_fulfilled"))(run_)
    with pytest.raises(Degraded, match="KeyError: 'no such thing'"):
        apart(work("breaks"))(run_)
    with pytest.raises(Degraded, match="it ended with exit code 9"):
        apart(work("dies"))(run_)
