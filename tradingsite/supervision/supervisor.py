"""One supervisor for all the processes of one machine; standard library only.

Each program runs in its own session, so Ctrl-C reaches the supervisor alone and a program is ended
with everything it started. What dies is started again with a growing pause. Nothing outlives the
supervisor, even one ended by SIGKILL: the kernel signals its direct children, and a small watcher
process, which sees the supervisor's end of a pipe close, ends the rest of every group.

The supervisor has one thread on purpose: the kernel ties a child's death signal to the thread that
started it.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from tradingsite.supervision.group_watcher import GroupWatcher
from tradingsite.supervision.outputs import LineLog, Lines, Terminal

BACK_OFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0
STOP_SECONDS = 15.0
# A signal's exception that is raised inside a destructor goes nowhere, as at times in beat.
ASK_AGAIN_SECONDS = 4.0
REFUSED = 78  # sysexits' EX_CONFIG: the configuration is wrong, and starting again cannot help
NOT_AGAIN = "It is not tried again: mend that, then stop the desk and start it."
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Program:
    """Say what to run; programs of a higher wave are stopped before those of a lower one."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    wave: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """Tell how one program stands: running, waiting (to be started again), refused or stopped."""

    name: str
    state: str
    pid: int | None
    restarts: int
    up_seconds: float
    last_exit: int | None


class _Child:
    """One program's life: its process group, its output and its restarts."""

    def __init__(self, program: Program, log: LineLog) -> None:
        self.program = program
        self.log = log
        self.pid = 0
        self.state = "stopped"
        self.started_at = 0.0
        self.restart_at = 0.0
        self.restarts = 0
        self.failures = 0
        self.last_exit: int | None = None
        self.last_line = ""
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, folder: Path | None) -> None:
        """Start the program in a session of its own, its output a pipe that does not block."""
        parent = os.getpid()

        def prepare() -> None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(REFUSED)  # the supervisor died before the line above took hold

        reader, writer = os.pipe()  # OSError where the process has no descriptor left
        os.set_blocking(reader, False)
        self.output: IO[bytes] = os.fdopen(reader, "rb", buffering=0)
        try:
            self._process = subprocess.Popen(
                self.program.argv,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.program.env},
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd=folder,
                start_new_session=True,
                preexec_fn=prepare,  # safe, because the supervisor has one thread
            )
        except OSError:
            self.output.close()
            raise
        finally:
            os.close(writer)
        self.pid = self._process.pid
        self.state = "running"
        self.started_at = time.monotonic()

    def terminate(self) -> None:
        """Ask the program itself to end: it ends its own children in its own good order."""
        if not self.reap():
            os.kill(self.pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """End whatever is left of the program and all it started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> bool:
        """Collect what ended of the group; return True once the program itself has."""
        while self.pid and self._process is not None:
            try:
                pid, status = os.waitpid(-self.pid, os.WNOHANG)
            except ChildProcessError:  # nothing of the group is left
                break
            if not pid:
                break
            if pid == self.pid:
                self.last_exit = self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process is None or self._process.returncode is not None

    def clear(self) -> None:
        """End and collect what the dead program left behind."""
        self.kill_group()
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            try:
                if not os.waitpid(-self.pid, os.WNOHANG)[0]:
                    time.sleep(0.01)
            except ChildProcessError:
                return


class Supervisor:
    """Start programs, show and keep their output, restart what dies, stop everything."""

    def __init__(
        self,
        programs: Sequence[Program],
        log_folder: Path,
        output: IO[str] | None = None,
        on_trouble: Callable[[Program, str, bool], None] = lambda program, text, is_final: None,
        folder: Path | None = None,
    ) -> None:
        self._children = {
            program.name: _Child(program, LineLog(log_folder / f"{program.name}.log"))
            for program in programs
        }
        self._terminal = Terminal(output or sys.stdout)
        self._width = max((len(name) for name in self._children), default=0)
        colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(self._children)}
        self._colours = colours if self._terminal.coloured else {}
        self._on_trouble = on_trouble
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._watcher = GroupWatcher(STOP_SECONDS)
        self._signals = 0
        self._kill_now = False

    @property
    def stopping(self) -> bool:
        """Say whether a signal asked for the end."""
        return self._signals > 0

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Take Ctrl-C, SIGTERM and a lost terminal as the wish to stop while the block runs.

        A second Ctrl-C kills at once.
        """

        def handle(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            self._kill_now = self._kill_now or (number == signal.SIGINT and self._signals > 1)

        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, handle) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start the named programs in the order they were given, or all that do not run."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        chosen = set(self._children if names is None else names)
        for name, child in self._children.items():
            if name in chosen and child.state != "running":
                self._start(child)

    def poll(self, seconds: float = 0.2) -> None:
        """Pass output on for at most that long, then look after what died."""
        self._pump(seconds)
        now = time.monotonic()
        for child in self._children.values():
            if child.state == "running" and child.reap():
                self._ended(child, now)
            elif child.state == "waiting" and now >= child.restart_at and not self.stopping:
                child.restarts += 1
                self._start(child)
        self._watcher.check()
        self._reap_adopted()

    def run(self) -> None:
        """Look after the programs until a signal asks for the end."""
        while not self.stopping:
            self.poll()

    def stop(self) -> None:
        """Stop everything: higher waves first, each within 15 s, what does not go by force."""
        for child in self._children.values():
            if child.state in {"waiting", "refused"}:
                child.state = "stopped"
        for wave in sorted({child.program.wave for child in self._children.values()}, reverse=True):
            running = [
                child
                for child in reversed(self._children.values())
                if child.state == "running" and child.program.wave == wave
            ]
            for child in running:
                child.terminate()
            self._wait_for(running)
        self._watcher.close()
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        for child in self._children.values():
            child.log.close()

    def status(self) -> list[Status]:
        """Return how each program stands."""
        now = time.monotonic()
        return [
            Status(
                name,
                child.state,
                child.pid if child.state == "running" else None,
                child.restarts,
                now - child.started_at if child.state == "running" else 0.0,
                child.last_exit,
            )
            for name, child in self._children.items()
        ]

    def say(self, text: str, name: str = "") -> None:
        """Show a line of the supervisor's own, beside the program it is about."""
        for line in text.splitlines():
            self._show(name or "up", line)

    def _start(self, child: _Child) -> None:
        try:
            child.launch(self._folder)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            child.state, child.last_exit = "refused", REFUSED
            self._trouble(child, f"cannot be started: {error}. {NOT_AGAIN}", is_final=True)
            return
        except OSError as error:  # no memory, no process, no descriptor left: that may pass
            self._start_later(child, f"cannot be started: {error}", time.monotonic())
            return
        self._selector.register(child.output, selectors.EVENT_READ, (child, Lines()))
        self._watcher.add(child.pid)

    def _ended(self, child: _Child, now: float) -> None:
        self._bury(child)
        if self.stopping:
            child.state = "stopped"
            return
        if child.last_exit == REFUSED:
            child.state = "refused"
            why = child.last_line.rstrip(".") or "its settings are wrong"
            text = f"refused to start: {why}. {NOT_AGAIN}"
            self._trouble(child, text, is_final=True)
            return
        if now - child.started_at >= STEADY_SECONDS:
            child.failures = 0
        self._start_later(child, f"ended ({_reason(child.last_exit)})", now)

    def _start_later(self, child: _Child, what: str, now: float) -> None:
        pause = BACK_OFF_SECONDS[min(child.failures, len(BACK_OFF_SECONDS) - 1)]
        child.failures += 1
        child.state, child.restart_at = "waiting", now + pause
        self._trouble(child, f"{what}. It starts again in {pause:g} s.")

    def _bury(self, child: _Child) -> None:
        """End what a dead program left behind, and show its last words."""
        child.clear()
        self._drain(child)
        self._watcher.remove(child.pid)

    def _wait_for(self, children: list[_Child]) -> None:
        began = time.monotonic()
        deadline = began + STOP_SECONDS
        left = list(children)
        killed = asked_again = False
        while left:
            if not asked_again and time.monotonic() - began > ASK_AGAIN_SECONDS:
                asked_again = True
                for child in left:
                    child.terminate()
            if not killed and (self._kill_now or time.monotonic() > deadline):
                killed = True
                for child in left:
                    self.say("did not stop in time; killed.", child.program.name)
                    child.kill_group()
            self._pump(0.05)
            for child in [child for child in left if child.reap()]:
                self._bury(child)
                child.state = "stopped"
                left.remove(child)

    def _reap_adopted(self) -> None:
        """Collect processes that became ours when their own parent went away."""
        ours = {self._watcher.pid, *(child.pid for child in self._children.values())}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and (
                ended.si_pid not in ours
            ):
                os.waitpid(ended.si_pid, 0)

    def _trouble(self, child: _Child, text: str, *, is_final: bool = False) -> None:
        self.say(text, child.program.name)
        self._keep(child, f"supervisor: {child.program.name} {text}")
        self._on_trouble(child.program, text, is_final)

    # --- Output ----------------------------------------------------------------------------------

    def _pump(self, seconds: float) -> None:
        if not self._selector.get_map():
            time.sleep(seconds)
            return
        for key, _ in self._selector.select(seconds):
            self._read(key)

    def _read(self, key: selectors.SelectorKey) -> bool:
        child, lines = key.data
        try:
            data = os.read(key.fd, 65_536)
        except BlockingIOError:
            return False
        for line in lines.feed(data) if data else lines.rest():
            self._show(child.program.name, line)
            self._keep(child, line)
            child.last_line = line.strip() or child.last_line
        if not data:
            self._close(key)
        return bool(data)

    def _drain(self, child: _Child) -> None:
        """Show what a dead program still had in its pipe, and close it."""
        for key in [key for key in self._selector.get_map().values() if key.data[0] is child]:
            while self._read(key):
                pass
            self._close(key)

    def _close(self, key: selectors.SelectorKey) -> None:
        pipe: IO[bytes] = key.data[0].output
        if not pipe.closed:
            self._selector.unregister(pipe)
            pipe.close()

    def _keep(self, child: _Child, line: str) -> None:
        before = child.log.problem
        child.log.write(line)
        if child.log.problem and not before:
            self.say(f"its log file takes nothing: {child.log.problem}", child.program.name)

    def _show(self, name: str, line: str) -> None:
        head = f"{name:<{self._width}} |"
        if self._terminal.coloured:
            head = f"\x1b[{self._colours.get(name, 1)}m{head}\x1b[0m"
        self._terminal.write(f"{head} {line}")


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}, {signal.strsignal(-code)}"
    return f"exit code {code}"


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _LIBC.prctl(option, value, 0, 0, 0)


_LIBC = ctypes.CDLL(None)  # loaded here, because a child between fork and exec may not load
