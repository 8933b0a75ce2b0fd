"""The parent: when it has a child, and what it does when the child fails or is not wanted."""

import datetime as dt
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.db import OperationalError, connections

from markets.domain.calendar import NseCalendar, nse_sessions
from markets.straddle import child, keeper
from markets.straddle.keeper import Keeper, session_to_follow
from markets.straddle.models import TrackerState, Wanted
from tests.histories import seed_days
from tests.test_architecture import load
from tests.waiting import wait_for
from tradingsite import clock
from tradingsite.clock import IST, Epoch
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision.heartbeat import Beat

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "straddle"])

# It reports as the real child does, and leaves when told or left alone.
OBEDIENT = """
import json, select, sys
state = sys.argv[-1] if sys.argv[1] == "says" else "connected"
while True:
    print(json.dumps({"state": state, "sentence": "follows NIFTY 25000", "stored": 7}), flush=True)
    if select.select([sys.stdin], [], [], 0.05)[0]:
        sys.exit(0)
"""
SILENT = """
import json, select, sys
while True:
    told = {"state": "connected", "silent": open(sys.argv[1]).read()}
    print(json.dumps(told), flush=True)
    if select.select([sys.stdin], [], [], 0.05)[0]:
        sys.exit(0)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
DYING = "raise SystemExit(3)"


def ist(text: str) -> dt.datetime:
    """Return a time in India."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST)


def python(text: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a child that is no tracker."""
    return (sys.executable, "-S", "-c", text, *arguments)


@pytest.fixture
def make(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Keeper]]:
    """Return a function that makes a parent; its child ends with the test."""
    seed_days("nifty")
    made: list[Keeper] = []

    def build(command: tuple[str, ...] = python(OBEDIENT)) -> Keeper:
        made.append(Keeper(Beat(keeper.SERVICE), command))
        return made[-1]

    # The test's transaction is on these connections.
    monkeypatch.setattr(connections, "close_all", lambda: None)
    yield build
    for each in made:
        each.close()


def want(since: str = "2026-06-01 09:15", is_wanted: bool = True) -> None:
    """Write down what the jobs want."""
    values = {"is_wanted": is_wanted, "since": ist(since), "job": "straddle-start", "job_run": 1}
    Wanted.objects.update_or_create(pk=1, defaults=values)


def stepped(parent: Keeper, condition: Callable[[], object]) -> bool:
    """Return whether steps of the parent bring something about in time."""

    def step() -> bool:
        parent.step()
        return bool(condition())

    return wait_for(step)


def says() -> tuple[str, str]:
    """Return the service's last heartbeat."""
    row = Heartbeat.objects.get(service=keeper.SERVICE)
    return row.state, row.detail


@pytest.mark.parametrize(
    ("since", "is_wanted", "now", "is_followed"),
    [
        ("2026-06-01 09:15", True, "2026-06-01 09:15", True),
        ("2026-06-01 09:15", True, "2026-06-01 15:29", True),
        ("2026-06-01 09:15", True, "2026-06-01 15:30", False),  # the stop never came
        ("2026-06-01 09:15", True, "2026-06-02 09:20", False),  # nor this morning's start
        ("2026-06-01 09:15", True, "2026-06-01 09:00", False),
        ("2026-06-01 09:15", False, "2026-06-01 10:00", False),
    ],
)
def test_a_wish_is_good_for_its_own_session(
    since: str, is_wanted: bool, now: str, is_followed: bool
) -> None:
    calendar = NseCalendar(nse_sessions())
    wanted = Wanted(is_wanted=is_wanted, since=ist(since))
    found = session_to_follow(wanted, calendar, clock.epoch(ist(now)))
    assert (found is not None) == is_followed
    assert session_to_follow(None, calendar, Epoch(ist("2026-06-01 10:00").timestamp())) is None


def test_the_child_comes_and_goes_with_the_wish_and_the_session(
    make: Callable[..., Keeper], set_market: Callable[..., None]
) -> None:
    set_market(ist("2026-06-01 10:00"))
    parent = make()
    parent.step()
    assert parent.child is None
    assert says() == ("idle", "the session is open, and its job has not asked for the ticker")
    want()
    parent.step()
    assert parent.child is not None
    pid = parent.child.pid
    assert stepped(parent, lambda: says() == ("running", "follows NIFTY 25000"))
    state = TrackerState.objects.get()
    assert (state.child_pid, state.state, state.stored) == (pid, "connected", 7)
    # Nobody stops it at the close, so the parent does.
    set_market(ist("2026-06-01 15:30"))
    parent.step()
    assert parent.child is None
    assert not psutil.pid_exists(pid)
    assert says() == ("idle", "waits for the session of 02 Jun, 09:15 IST")
    assert TrackerState.objects.get().child_pid is None
    set_market(ist("2026-06-02 09:15"))
    want("2026-06-02 09:15")
    parent.step()
    assert parent.child is not None
    want("2026-06-02 15:30", is_wanted=False)
    parent.step()
    assert parent.child is None


def test_a_child_that_keeps_dying_is_started_again_and_told_of(
    make: Callable[..., Keeper],
    set_market: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "BACK_OFF_SECONDS", (0.0, 0.02, 0.05))
    set_market(ist("2026-06-01 10:00"))
    want()
    parent = make(python(DYING))
    assert stepped(parent, lambda: Notice.objects.exists())
    text = Notice.objects.get().text
    assert text.startswith("The straddle's ticker ended 3 times in a row")
    assert stepped(parent, lambda: says()[0] == "failing")
    assert "its ticker ended with exit code 3; the next start is in" in says()[1]
    want(is_wanted=False)
    assert stepped(parent, lambda: Notice.objects.get().resolved_at is not None)
    assert says()[0] == "idle"


def test_a_silent_or_deaf_child_is_ended_by_force(
    make: Callable[..., Keeper],
    set_market: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child, "FIRST_REPORT_SECONDS", 0.5)
    monkeypatch.setattr(child, "STOP_SECONDS", 0.2)
    set_market(ist("2026-06-01 10:00"))
    want()
    parent = make(python(DEAF))
    parent.step()
    assert parent.child is not None
    pid = parent.child.pid
    assert stepped(parent, lambda: parent.child is None)
    assert not psutil.pid_exists(pid)
    assert "its ticker said nothing for" in parent._words()[1]


def test_the_ticker_goes_on_without_postgresql_until_the_close(
    make: Callable[..., Keeper],
    set_market: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(self: Keeper) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    closed: list[bool] = []
    monkeypatch.setattr(connections, "close_all", lambda: closed.append(True))
    set_market(ist("2026-06-01 10:00"))
    want()
    parent = make()
    parent.step()
    assert parent.child is not None
    first = parent.child.pid
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "_look", away)
        for _ in range(3):
            parent.step()
        assert parent.child is not None
        os.kill(first, signal.SIGKILL)
        # Dead and not yet collected: that is what the parent's next step has to find.
        assert wait_for(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE)
        monkeypatch.setattr(keeper, "BACK_OFF_SECONDS", (0.0,))
        parent.step()
        assert parent.child is not None
        assert parent.child.pid != first
        set_market(ist("2026-06-01 15:30"))
        parent.step()
        assert parent.child is None
        with pytest.raises(OperationalError):
            parent.step()
    assert closed


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("waiting for a new token", ("waiting", "waiting for a new token: sign in at /kite/")),
        ("reconnecting", ("running", "reconnecting; follows NIFTY 25000")),
        ("starting", ("starting", "follows NIFTY 25000")),
    ],
)
def test_what_the_child_reports_is_what_the_service_says(
    state: str,
    said: tuple[str, str],
    make: Callable[..., Keeper],
    set_market: Callable[..., None],
) -> None:
    set_market(ist("2026-06-01 10:00"))
    want()
    text = OBEDIENT.replace('"connected"', repr(state))
    parent = make(python(text))
    assert stepped(parent, lambda: says() == said)


def test_silent_legs_are_told_of_until_they_are_heard(
    make: Callable[..., Keeper], set_market: Callable[..., None], tmp_path: Path
) -> None:
    set_market(ist("2026-06-01 10:00"))
    want()
    file = tmp_path / "silent"
    file.write_text("NIFTY 2026-06-02 25000 CE")
    parent = make(python(SILENT, str(file)))
    told = Notice.objects.filter(key=keeper.SILENT_NOTICE)
    assert stepped(parent, told.exists)
    notice = told.get()
    assert (
        notice.channel == "options" and "No ticks come of NIFTY 2026-06-02 25000 CE" in notice.text
    )
    file.write_text("")
    assert stepped(parent, lambda: told.filter(resolved_at__isnull=False).exists())
    assert told.count() == 1 and told.get().count == 1


def test_a_second_parent_leaves_the_firsts_record_alone(make: Callable[..., Keeper]) -> None:
    parent = make()
    parent.step()
    state = TrackerState.objects.get().state
    other = Keeper(Beat(keeper.SERVICE))
    other.close()
    assert TrackerState.objects.get().state == state == "idle"


def test_the_parent_is_small() -> None:
    heavy = ("kiteconnect", "twisted", "pandas", "talib", "torch", "onnxruntime")
    command = "markets.management.commands.runstraddle"
    assert load([command, "markets.straddle.keeper"], heavy, "import django; django.setup()") == ""
