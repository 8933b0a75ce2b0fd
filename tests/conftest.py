"""What every test may use: fresh databases, a market time of its own, the real queue."""

import contextlib
import datetime as dt
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from pytest_django.plugin import blocking_manager_key

from tests.cloning import cloned
from tradingsite import clock
from tradingsite.postgresql import timeouts

# `make quick` wants an answer in seconds; `make test` tries as many examples as each test says.
hypothesis.settings.register_profile("quick", max_examples=10, deadline=None)
IS_QUICK = bool(os.environ.get("NIGHTDESK_QUICK"))
if IS_QUICK:
    hypothesis.settings.load_profile("quick")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the run left in the queue's server, and its data folder."""
    from tests.settings import PREFIX, REDIS_URL, TEST_FOLDER, TEST_FOLDER_IS_OURS

    if not IS_QUICK:  # where nothing listens, and the client would try for seconds
        with contextlib.suppress(redis.ConnectionError):
            server = redis.Redis.from_url(REDIS_URL)
            for key in server.scan_iter(match=f"{PREFIX}*"):
                server.delete(key)
    if TEST_FOLDER_IS_OURS:
        shutil.rmtree(TEST_FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Copy the databases from the migrated templates, in place of Django's own way."""
    from django.db import connections

    # A whole test is one transaction; what a service may wait for is tested where it matters.
    timeouts.choose(timeouts.LONG)
    with cloned(), django_db_blocker.unblock():  # type: ignore[attr-defined]  # untyped plugin
        yield
        connections.close_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Put the exchange's days back that a transactional test's flush has taken away.

    Else whichever test comes next in the same process finds a calendar without sessions.
    """
    yield
    marker = item.get_closest_marker("django_db")
    is_last = nextitem is None  # its databases are gone already
    if marker is None or is_last or not marker.kwargs.get("transaction"):
        return
    from tests.histories import WITH_DAYS, seed_days

    named = marker.kwargs.get("databases") or ["default"]
    with item.config.stash[blocking_manager_key].unblock():
        for alias in WITH_DAYS:
            if named == "__all__" or alias in named:
                seed_days(alias)


@pytest.fixture
def set_market(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Return a function that sets the market's time, `set_market(when, speed)`.

    Without a speed the market stands still at that time; with one it runs for five seconds.
    """
    simulated = clock.SimulatedClock(tmp_path / "clock.json")
    clock.simulate(simulated.path)

    def set_to(when: dt.datetime, speed: float | None = None) -> None:
        anchor = clock.Anchor(when.timestamp(), time.time(), speed or 48.0)
        if speed is None:  # as a simulator that stopped leaves it
            frozen = clock.FROZEN_AFTER_SECONDS
            anchor = clock.Anchor(anchor.market - frozen * 48.0, anchor.real - frozen, 48.0)
        simulated.write(anchor)

    yield set_to
    clock.simulate(None)


@pytest.fixture
def queue() -> Iterator[None]:
    """Send tasks through the real queue, which is emptied afterwards."""
    from tradingsite.celery import QUEUES, app

    app.conf.task_always_eager = False
    try:
        yield
    finally:
        app.conf.task_always_eager = True
        with app.connection_for_write() as connection:
            for name in QUEUES:
                connection.SimpleQueue(name).clear()
