"""The tables of scheduled jobs."""

import ast

import pytest
from celery.schedules import crontab
from django.conf import settings

from tradingsite.celery import QUEUES
from tradingsite.scheduling import jobs
from tradingsite.scheduling.schedules import ALL, HOUSEKEEPING, JOBS, Job


def test_there_are_thirteen_jobs() -> None:
    assert len(JOBS) == 13
    assert len(ALL) == len(JOBS) + len(HOUSEKEEPING)


@pytest.mark.parametrize("job", ALL.values(), ids=list(ALL))
def test_every_row_can_be_scheduled(job: Job) -> None:
    cron = crontab(minute=job.minute, hour=job.hour, day_of_month=job.day_of_month)
    assert cron.minute and cron.hour and cron.day_of_month
    assert job.expires_seconds > 0
    assert job.queue in QUEUES
    assert callable(jobs.asks(job))


def test_no_task_asks_past_the_schedule_whether_it_is_wanted() -> None:
    performed = [
        (path, call)
        for path in settings.BASE_DIR.glob("*/tasks.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "jobs.perform"
    ]
    assert len(performed) >= 20
    assert [(path, call.lineno) for path, call in performed if len(call.args) > 3] == []


@pytest.mark.parametrize("job", JOBS, ids=[job.name for job in JOBS])
def test_what_people_read_is_what_is_scheduled(job: Job) -> None:
    if job.when[0].isdigit():
        hour, minute = job.when.split(":")
        assert (int(job.hour), int(job.minute)) == (int(hour), int(minute))


def test_jobs_that_follow_the_session_fire_at_the_minute_that_says_there_is_none() -> None:
    for name in ("options-collector", "trade-fetcher", "straddle-start", "straddle-stop"):
        job = ALL[name]
        cron = crontab(minute=job.minute, hour=job.hour)
        assert 15 in cron.minute and 9 in cron.hour
