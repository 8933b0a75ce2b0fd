"""The whole desk on one machine: prepared, started, watched over and stopped in good order.

    1 databases   created and migrated
    2 pages       their files collected
    3 owner       an account for /admin/
    4 history     generated where a market is empty
    5 services    started under one supervisor, the dashboard and the market first
    6 models      a first one asked for where a slot has none, once the workers report

Packages to the right are named by strings only.
"""

import datetime as dt
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string
from rich.panel import Panel
from rich.text import Text

from tradingsite import clock, notices
from tradingsite.access import users
from tradingsite.embedded import launcher
from tradingsite.models import Heartbeat, Notice
from tradingsite.registry import MARKETS
from tradingsite.supervision import preparation, startup
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.preparation import UpLock
from tradingsite.supervision.progress_steps import Steps
from tradingsite.supervision.services import (
    ONLY_VARIABLE,
    PLUMBING,
    SERVICE_VARIABLE,
    WEB_ADDRESS,
    Service,
    wanted,
)
from tradingsite.supervision.serving import DATABASE_ERRORS
from tradingsite.supervision.supervisor import Program, Supervisor

NEEDS_HISTORY = "markets.simulator.history.needs_history"
MAKE_HISTORY = "markets.simulator.history.make_history"
ENQUEUE_MISSING = "training.pipeline.runs.enqueue_missing"
# The page people wait for, and the clock that all others read.
FIRST = ("dashboard", "simulator")
TRAINERS = ("worker", "gpu-worker", "pc-worker")
MODES = {
    "simulated": "simulated: generated prices, no money, no keys",
    "paper": "paper: the venues' prices, a book of our own, no money",
    "live": "live: real money",
}
CHORE_SECONDS = 0.5
MARKET_WAIT_SECONDS = 30.0
PAGE_WAIT_SECONDS = 60.0
LINGERING_SECONDS = 3.0
DAMAGED = (
    "Valkey could not read its file of messages, as after a power cut: it was moved to {}, and the "
    "queue began empty. Jobs that waited in it are sent again or told of by the beat; nothing else "
    "is lost, for the truth is in PostgreSQL. If it comes again, look at the disk; the folder may "
    "be deleted."
)


class Desk:
    """One run of the desk, from the first step to the last line."""

    def __init__(self, stream: IO[str], names: list[str], train: bool, only: bool) -> None:
        self._stream = stream
        self._steps = Steps(stream)
        self._services = [
            service for service in wanted(settings.MODE, settings.MACHINE) if service.name in names
        ]
        self._train = train
        self._only = only
        self._began = time.monotonic()
        self._started_at = clock.real()
        self._port = settings.WEB_PORT
        self._owns_servers = False
        self._supervisor: Supervisor | None = None
        self._broker = settings.KITE_ROOT
        self._supervised_at = 0.0
        self._is_late = False
        self._told_of: set[Path] = set()

    def run(self, lock: UpLock, fresh: bool = False) -> None:
        """Bring the desk up and look after it until a signal or Ctrl-C, then stop it."""
        left = lock.take()
        # One that was killed could not stop the servers it had started, so they are ours now.
        self._owns_servers = bool(
            os.environ.pop(startup.STARTED_VARIABLE, "") or left.get("owns_servers")
        )
        lock.say(owns_servers=self._owns_servers)
        try:
            self._prepare(fresh)
            lock.say(owns_servers=self._owns_servers, address=self.address)
            self._look_after(self._supervise())
        except KeyboardInterrupt:
            self._say("interrupted; `make run` goes on from here")
        finally:
            self._stop_servers()
            lock.release()

    @property
    def address(self) -> str:
        """Return the dashboard's address."""
        return f"http://{WEB_ADDRESS}:{self._port}/"

    # --- Before ----------------------------------------------------------------------------------

    def _prepare(self, fresh: bool) -> None:
        if fresh:
            with self._steps.step("Everything of the last desk removed"):
                preparation.forget_everything()
        self._migrate()
        if "dashboard" in self._names():
            with self._steps.step("Pages") as step:
                step.note = "files collected" if preparation.collect_static() else "as they were"
            with self._steps.step("Owner's account"):
                users.ensure_first()
        if "simulator" in self._names():
            for market in MARKETS:
                self._make_history(market)
            self._choose_ports()
        self._port = preparation.free_port(WEB_ADDRESS, settings.WEB_PORT)
        if self._port != settings.WEB_PORT:
            self._say(f"port {settings.WEB_PORT} is in use, so the dashboard takes {self._port}")
        connections.close_all()

    def _choose_ports(self) -> None:
        first, self._broker = preparation.simulator_ports()
        if first != settings.SIM_PORT:
            self._say(
                f"ports from {settings.SIM_PORT} on are in use (another desk's simulator?), so "
                f"this desk's simulator takes those from {first} on"
            )

    def _migrate(self) -> None:
        done = 0
        with self._steps.step(f"{len(settings.DATABASES)} databases") as step:

            def report(alias: str) -> None:
                nonlocal done
                done += 1
                step.report(alias, done, len(settings.DATABASES))

            changed = startup.migrate_if_changed(settings.DATA_DIR, report)
            step.note = "migrated" if changed else "as they were"

    def _make_history(self, market: str) -> None:
        if not import_string(NEEDS_HISTORY)(market):
            return
        with self._steps.step(f"{MARKETS[market].title} history, generated") as step:
            bars = import_string(MAKE_HISTORY)(market, report=step.report)
            step.note = f"{bars:,} bars"

    # --- While it runs ---------------------------------------------------------------------------

    def _supervise(self) -> Supervisor:
        self._supervisor = Supervisor(
            [self._program(service) for service in self._services],
            settings.DATA_DIR / "logs",
            self._stream,
            self._on_trouble,
            settings.BASE_DIR,
        )
        return self._supervisor

    def _program(self, service: Service) -> Program:
        script = () if service.command[0] == "-m" else (str(settings.BASE_DIR / "manage.py"),)
        env = {
            **dict(service.environment),
            SERVICE_VARIABLE: service.name,
            "WEB_PORT": str(self._port),
            # A root shell is common on a fresh machine, and nine lines a worker do not help there.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
        }
        if self._only:
            env[ONLY_VARIABLE] = ",".join(each.name for each in self._services)
        return Program(
            service.name,
            (sys.executable, *script, *service.command),
            env,
            wave=_wave(service),
        )

    def _look_after(self, supervisor: Supervisor) -> None:
        chores: list[Callable[[Supervisor], bool]] = [
            self._start_rest,
            self._greet,
            self._ask,
            self._keep_servers,
        ]
        next_look = 0.0
        self._supervised_at = time.monotonic()
        with supervisor.signals():
            try:
                supervisor.start([name for name in FIRST if name in self._names()])
                while not supervisor.stopping:
                    supervisor.poll()
                    if time.monotonic() >= next_look:
                        chores = [chore for chore in chores if not chore(supervisor)]
                        next_look = time.monotonic() + CHORE_SECONDS
            finally:
                supervisor.say("stopping; Ctrl-C again kills at once")
                supervisor.stop()
        self._say_stopped()

    def _names(self) -> list[str]:
        return [service.name for service in self._services]

    def _start_rest(self, supervisor: Supervisor) -> bool:
        """Start the others once the market has a time, which all of them read."""
        waited = time.monotonic() - self._supervised_at
        if not self._market_answers() and waited < MARKET_WAIT_SECONDS:
            return False
        supervisor.start()
        return True

    def _greet(self, supervisor: Supervisor) -> bool:
        """Show where the dashboard is as soon as it answers."""
        if "dashboard" not in self._names():
            self._say(f"up: {', '.join(self._names())}")
            return True
        if not self._answers():
            waited = time.monotonic() - self._supervised_at
            if waited >= PAGE_WAIT_SECONDS and not self._is_late:
                self._is_late = True
                log = settings.DATA_DIR / "logs" / "dashboard.log"
                supervisor.say(f"{self.address} does not answer after {waited:.0f} s; see {log}")
            return False
        self._show_banner()
        return True

    def _ask(self, supervisor: Supervisor) -> bool:
        """Ask for first models once the workers that make them report."""
        if not self._train or not set(TRAINERS) <= set(self._names()):
            return True
        try:
            reporting = Heartbeat.objects.filter(
                service__in=TRAINERS, beat_at__gt=self._started_at, state="running"
            )
            if reporting.count() < len(TRAINERS):
                return False
            count = import_string(ENQUEUE_MISSING)(timesteps=settings.TRAIN_TIMESTEPS)
        except DATABASE_ERRORS as error:
            supervisor.say(f"first models are not asked for yet: {error}")
            return False
        if count:
            supervisor.say(f"{count} first models are being trained; bots hold until they are")
        return True

    def _keep_servers(self, supervisor: Supervisor) -> bool:
        """Start the embedded servers again if they died; asking takes a millisecond."""
        if not settings.EMBEDDED:
            return True
        try:
            if launcher.running(settings.DATA_DIR) is None:
                supervisor.say("PostgreSQL is gone; it is being started again")
            launcher.ensure(settings.DATA_DIR)
            self._tell_of_damage()
        except launcher.EmbeddedError as error:
            supervisor.say(f"the embedded servers do not start: {error}")
        return False

    def _tell_of_damage(self) -> None:
        """Tell once of each file of Valkey's that was set aside, by whatever command it was."""
        for path in launcher.damaged_files(settings.DATA_DIR):
            if path in self._told_of:
                continue
            key = f"valkey:{path.name}"
            try:
                # PC may leave notices and read none; PROD counts up what it knows already.
                if settings.MACHINE == "pc" or not Notice.objects.filter(key=key).exists():
                    notices.notify("infrastructure", "warning", key, DAMAGED.format(path))
            except DATABASE_ERRORS:
                connections.close_all()
                return
            self._told_of.add(path)

    def _on_trouble(self, program: Program, text: str, is_final: bool) -> None:
        word, severity = ("refused", "critical") if is_final else ("restart", "warning")
        try:
            notices.notify(
                "infrastructure", severity, f"{word}:{program.name}", f"{program.name} {text}"
            )
            if is_final:  # in its own place too, for it cannot say so itself
                Beat(program.name).beat("refused", text)
        except DATABASE_ERRORS as error:
            connections.close_all()
            if self._supervisor is not None:
                self._supervisor.say(f"no notice of it was kept: {error}", program.name)

    def _market_answers(self) -> bool:
        """Say whether there is a market to trade in: its clock moves, and its broker answers."""
        simulated = clock.simulated()
        if simulated is None or "simulator" not in self._names():
            return True
        anchor = simulated.anchor()
        return (
            anchor is not None
            and anchor.real >= self._started_at.timestamp()
            and preparation.answers(f"{self._broker}/_sim/desk")
        )

    def _answers(self) -> bool:
        return preparation.answers(f"{self.address}healthz")

    # --- What people read ------------------------------------------------------------------------

    def _show_banner(self) -> None:
        lines = (
            ("Dashboard", self.address),
            (
                "Admin",
                f"{self.address}admin/  user and password: manage.py firstuser",
            ),
            ("Mode", MODES[settings.MODE]),
            ("Market", self._market_time()),
            ("Own bars", "manage.py importbars MARKET TIMEFRAME FILE --replace"),
            ("Stop", "Ctrl-C; the next `make run` goes on from there"),
        )
        text = Text("\n").join(
            Text.assemble((f"{name:<10}", "bold"), value) for name, value in lines
        )
        seconds = time.monotonic() - self._began
        title = f"Nightdesk is up after {seconds:.0f} s"
        console = self._steps.console
        if console.is_terminal:
            console.print(Panel(text, title=title, border_style="cyan", expand=False))
        else:
            console.print(title)
            console.print(text)

    def _market_time(self) -> str:
        simulated = clock.simulated()
        if simulated is not None and simulated.anchor() is None:
            return "has not begun yet"
        now = _ist(clock.market())
        return f"{now:%a %d %b %Y %H:%M} IST, {clock.speed():.0f} market seconds a second"

    def _say_stopped(self) -> None:
        simulated = clock.simulated()
        if simulated is None or simulated.anchor() is None:
            self._say("stopped")
            return
        self._say(
            f"stopped; market time is frozen at {_ist(clock.market()):%a %d %b %Y %H:%M} IST, "
            f"`make run` goes on from there"
        )

    def _say(self, text: str) -> None:
        self._steps.console.print(text, markup=False)

    def _stop_servers(self) -> None:
        connections.close_all()
        if not self._owns_servers or not settings.EMBEDDED:
            return
        try:
            deadline = time.monotonic() + LINGERING_SECONDS
            while (others := preparation.others_connected()) and time.monotonic() < deadline:
                time.sleep(0.1)
            if others:
                self._say(
                    f"PostgreSQL and Valkey are left running, because {others} other connections "
                    f"use them; `manage.py embedded stop` stops them"
                )
                return
            launcher.stop(settings.DATA_DIR)
        except (*DATABASE_ERRORS, launcher.EmbeddedError) as error:
            self._say(f"the embedded servers were not stopped: {error}")


def _wave(service: Service) -> int:
    """Return when it is stopped: the market last, for what others do ends by asking it."""
    if service.name == "simulator":
        return 0
    return 1 if service in PLUMBING else 2


def _ist(at: dt.datetime) -> dt.datetime:
    return at.astimezone(clock.IST)
