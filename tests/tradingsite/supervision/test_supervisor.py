"""The supervisor, with real processes."""

import contextlib
import errno
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import wait_for
from tradingsite.supervision import supervisor
from tradingsite.supervision.outputs import LineLog, Lines, Terminal
from tradingsite.supervision.supervisor import Program, Supervisor

ROOT = Path(__file__).resolve().parents[3]


def python(code: str) -> tuple[str, ...]:
    """Return the command that runs some Python without start-up costs."""
    return (sys.executable, "-u", "-I", "-S", "-c", textwrap.dedent(code))


SLEEPER = python("import time; print('up', flush=True); time.sleep(60)")
DEAF = python(
    """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    time.sleep(60)
    """
)
# Like a Celery worker: a parent with a child of its own, both needing to be ended.
FAMILY = python(
    """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
    print("child", child.pid, flush=True)
    time.sleep(60)
    """
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses that the tests must sit through."""
    monkeypatch.setattr(supervisor, "BACK_OFF_SECONDS", (0.05, 0.1, 0.4))
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.6)


def until(boss: Supervisor, true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        boss.poll(0.02)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def child_in(shown: io.StringIO) -> int:
    """Return the process number that a program said its child has."""
    match = re.search(r"child (\d+)\n", shown.getvalue())
    assert match
    return int(match[1])


def made(folder: Path, *programs: Program) -> tuple[Supervisor, io.StringIO]:
    """Return a supervisor of some programs and what it shows."""
    shown = io.StringIO()
    return Supervisor(programs, folder, shown), shown


def test_shows_each_line_under_its_name_and_keeps_it(tmp_path: Path) -> None:
    code = python("import time; print('one\\ntwo'); print('half', end=''); time.sleep(60)")
    boss, shown = made(tmp_path, Program("loud", code), Program("a-longer-name", SLEEPER))
    boss.start()
    until(boss, lambda: "two" in shown.getvalue() and "a-longer-name | up" in shown.getvalue())
    boss.stop()
    assert "loud          | one\nloud          | two\n" in shown.getvalue()
    assert (tmp_path / "loud.log").read_text() == "one\ntwo\nhalf\n"
    assert "\x1b" not in shown.getvalue()


def test_a_program_gets_its_environment(tmp_path: Path) -> None:
    program = Program("it", python("import os; print(os.environ['WHO'])"), {"WHO": "me"})
    boss, shown = made(tmp_path, program)
    boss.start()
    until(boss, lambda: "it | me" in shown.getvalue())
    boss.stop()


def test_restarts_what_dies_with_growing_pauses(tmp_path: Path) -> None:
    boss, shown = made(tmp_path, Program("it", python("raise SystemExit(3)")))
    boss.start()
    until(boss, lambda: boss.status()[0].restarts >= 2)
    until(boss, lambda: boss.status()[0].state == "waiting")
    boss.stop()
    text = shown.getvalue()
    assert "ended (exit code 3). It starts again in 0.05 s." in text
    assert "in 0.1 s." in text and "in 0.4 s." in text
    assert "in 0.1 s." in (tmp_path / "it.log").read_text()


def test_a_minute_up_forgets_earlier_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_SECONDS", 0.0)
    boss, shown = made(tmp_path, Program("it", python("raise SystemExit(3)")))
    boss.start()
    until(boss, lambda: boss.status()[0].restarts >= 2)
    boss.stop()
    assert "in 0.1 s." not in shown.getvalue()


def test_a_refusal_is_not_tried_again_and_others_run_on(tmp_path: Path) -> None:
    troubles: list[str] = []
    boss = Supervisor(
        [
            Program("it", python("print('X is 3: it may be 4.'); raise SystemExit(78)")),
            Program("other", SLEEPER),
        ],
        tmp_path,
        io.StringIO(),
        lambda program, text, is_final: troubles.append(f"{program.name} {text} {is_final}"),
    )
    boss.start()
    until(boss, lambda: boss.status()[0].state == "refused")
    for _ in range(10):
        boss.poll(0.02)
    assert [status.state for status in boss.status()] == ["refused", "running"]
    boss.stop()
    assert troubles == [
        "it refused to start: X is 3: it may be 4. It is not tried again: "
        "mend that, then stop the desk and start it. True",
    ]


def test_a_program_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    boss, shown = made(tmp_path, Program("it", ("/no/such/program",)))
    boss.start()
    assert boss.status()[0].state == "refused"
    assert "cannot be started" in shown.getvalue()


def test_a_machine_without_room_for_a_process_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen
    left = [OSError(errno.EAGAIN, "Resource temporarily unavailable")]

    def popen(*args: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return real(*args, **options)

    boss, shown = made(tmp_path, Program("it", SLEEPER))
    monkeypatch.setattr(supervisor.subprocess, "Popen", popen)
    boss.start()
    assert boss.status()[0].state == "waiting"
    until(boss, lambda: boss.status()[0].state == "running")
    boss.stop()
    assert "Resource temporarily unavailable. It starts again in 0.05 s." in shown.getvalue()
    boss.stop()


def test_what_a_dead_program_left_behind_is_ended(tmp_path: Path) -> None:
    boss, shown = made(tmp_path, Program("family", FAMILY))
    boss.start()
    until(boss, lambda: "child" in shown.getvalue())
    orphan = child_in(shown)
    parent = boss.status()[0].pid
    assert parent and alive(orphan)
    os.kill(parent, signal.SIGKILL)
    until(boss, lambda: boss.status()[0].state == "waiting")
    assert not alive(orphan)
    assert "signal 9" in shown.getvalue()
    boss.stop()


def test_what_missed_the_first_word_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ASK_AGAIN_SECONDS", 0.2)
    absent = python(
        """
        import signal, sys, time
        heard = []
        def hear(*_):
            heard.append(1)
            if len(heard) == 2:
                sys.exit(0)
        signal.signal(signal.SIGTERM, hear)
        print("up", flush=True)
        while True:
            time.sleep(0.05)
        """
    )
    shown = io.StringIO()
    boss = Supervisor([Program("absent", absent)], tmp_path, shown)
    boss.start()
    until(boss, lambda: "up" in shown.getvalue())
    boss.stop()
    assert "killed" not in shown.getvalue()


def test_stops_higher_waves_first_and_the_deaf_by_force(tmp_path: Path) -> None:
    told = python(
        """
        import signal, sys, time
        def end(*_): print("bye", flush=True); sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        time.sleep(60)
        """
    )
    boss, shown = made(
        tmp_path,
        Program("plumbing", told),
        Program("service", told, wave=1),
        Program("deaf", DEAF, wave=1),
    )
    boss.start()
    until(boss, lambda: shown.getvalue().count("up") == 3)
    pids = [status.pid for status in boss.status()]
    began = time.monotonic()
    boss.stop()
    assert 0.5 < time.monotonic() - began < 3
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert lines[3:] == [
        "service | bye",
        "deaf | did not stop in time; killed.",
        "plumbing | bye",
    ]
    assert not any(alive(pid) for pid in pids if pid)
    assert {status.state for status in boss.status()} == {"stopped"}


def run_in_a_process(folder: Path, program: tuple[str, ...]) -> tuple[subprocess.Popen[str], int]:
    """Start a supervisor with one program in another process; return it and the child's pid."""
    code = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from tradingsite.supervision import supervisor
        supervisor.STOP_SECONDS = 1.0 if {program == FAMILY} else 60.0
        boss = supervisor.Supervisor([supervisor.Program("it", {program!r})], Path({str(folder)!r}))
        with boss.signals():
            boss.start()
            print("pid", boss.status()[0].pid, flush=True)
            boss.run()
            boss.stop()
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline().split()
    return process, int(first[1])


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    process, parent = run_in_a_process(tmp_path, FAMILY)
    assert process.stdout is not None
    orphan = int(process.stdout.readline().split()[-1])
    assert alive(parent) and alive(orphan)
    process.kill()
    process.wait()
    gone = wait_for(lambda: not alive(parent) and not alive(orphan))
    assert gone, "something outlived the supervisor"


def test_ctrl_c_stops_and_a_second_one_kills(tmp_path: Path) -> None:
    process, deaf = run_in_a_process(tmp_path, DEAF)
    assert process.stdout is not None
    assert process.stdout.readline().endswith("up\n")
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    assert process.poll() is None and alive(deaf)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0
    assert not alive(deaf)


def test_the_watcher_is_replaced_when_it_dies(tmp_path: Path) -> None:
    boss, shown = made(tmp_path, Program("it", SLEEPER))
    boss.start()
    until(boss, lambda: "up" in shown.getvalue())
    first = boss._watcher.pid
    os.kill(first, signal.SIGKILL)
    until(boss, lambda: boss._watcher.pid != first)
    assert alive(boss._watcher.pid)
    boss.stop()


def test_what_became_ours_is_collected(tmp_path: Path) -> None:
    code = python(
        """
        import subprocess, sys, time
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(0.3)"],
            start_new_session=True,
        )
        print("child", child.pid, flush=True)
        child.returncode = 0
        """
    )
    boss, shown = made(tmp_path, Program("it", code))
    boss.start()
    until(boss, lambda: "child" in shown.getvalue())
    adopted = child_in(shown)
    until(boss, lambda: not psutil.pid_exists(adopted))
    boss.stop()


def test_a_log_keeps_one_older_file_of_the_same_size(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "it.log", limit_bytes=100)
    for number in range(30):
        log.write(f"line {number:04}")
    log.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"it.log", "it.log.1"}
    assert max(sizes.values()) <= 100
    assert (tmp_path / "it.log").read_text().endswith("line 0029\n")


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "it.log").symlink_to("/dev/full")
    code = python("import time; print('one'); print('two', flush=True); time.sleep(60)")
    boss, shown = made(tmp_path, Program("it", code))
    boss.start()
    until(boss, lambda: "two" in shown.getvalue())
    assert shown.getvalue().count("its log file takes nothing") == 1
    boss.stop()


def test_lines_are_cut_where_they_end_or_become_too_long() -> None:
    lines = Lines()
    assert list(lines.feed(b"one\ntw")) == ["one"]
    assert list(lines.feed(b"o\r\n\xff\n")) == ["two", "�"]
    assert [len(line) for line in lines.feed(b"x" * 20_000)] == [20_000]
    assert list(lines.feed(b"rest")) == []
    assert list(lines.rest()) == ["rest"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="asks Linux for a full disk")
def test_an_output_on_a_full_disk_ends_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        terminal = Terminal(full)
        for _ in range(3):
            terminal.write("a line")
        assert terminal._lost and terminal._stream is full, "it is tried again at the next line"
        with contextlib.suppress(OSError):
            full.close()
