"""The tracker's parent: small, without the ticker's libraries, it obeys what the jobs want.

A ticker cannot start twice in a process, so each session's has a child of its own. The parent
outlives PostgreSQL for as long as it has one: the child's memory holds what is not stored yet.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Sequence

from django.db import connections

from markets.domain.calendar import Calendar, NseCalendar, Session
from markets.models import TradingDay
from markets.straddle.child import COMMAND, Child
from markets.straddle.models import THE_ROW, TrackerState, Wanted
from markets.straddle.reports import Report
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.locks import LockHeld, ProcessLock
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import DATABASE_ERRORS

SERVICE = "straddle-tracker"
MARKET = "nifty"
LOOP_SECONDS = 0.5
# No two sessions of the exchange are further apart.
LOOKS_BACK, LOOKS_AHEAD = dt.timedelta(days=1), dt.timedelta(days=20)
BACK_OFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0
SAY_SECONDS = 2.0
# Once is a killed process; as often, a person should look.
FAILURES_NOTICED = 3
NOTICE = f"{SERVICE}:child"
SILENT_NOTICE = f"{SERVICE}:silent"
WAITS = "waiting for a new token"
COUNTS = ("stored", "waiting", "lost", "empty", "absurd", "stale")

log = logging.getLogger(__name__)


class Keeper:
    """Start, watch and stop the child."""

    def __init__(self, beat: Beat, command: Sequence[str] = COMMAND) -> None:
        self.child: Child | None = None
        self._beat = beat
        self._command = command
        self._lock = ProcessLock("straddle tracker", "straddle")
        self._session: Session | None = None
        """The one to be followed now."""
        self._idle = ""
        self._failures = 0
        self._next_start_at = 0.0
        self._started_at: dt.datetime | None = None
        self._last_words: Report | None = None
        self._said: object = None
        self._said_at = float("-inf")
        self._is_away = False
        self._is_ours = False
        # A process before this one may have left a notice open.
        self._is_noticed = True
        self._has_failed = False
        self._silent_told: str | None = None
        """The silent legs that people were last told of; None of a process before."""

    def step(self) -> None:
        """Look after the child, see what is wanted, obey, and say so.

        Raises the database's errors only while there is no session to go on with, and LockHeld
        while another process is the tracker.
        """
        self._watch()
        try:
            self._lock.ensure()
            self._is_ours = True
            self._look()
            self._obey()
            self._say()
            self._is_away = False
        except LockHeld:
            self._session, self._is_ours = None, False
            self._obey()  # two would store every straddle twice
            raise
        except DATABASE_ERRORS as error:
            if self._session is None:
                raise
            if not self._is_away:
                log.warning("PostgreSQL is away; the ticker goes on: %s", error)
            self._is_away = True
            connections.close_all()
            # The calendar's last word holds: the session ends whoever is away.
            if self._session and clock.market_seconds() >= self._session.closes_at:
                self._session = None
            self._obey()

    def close(self) -> None:
        """Stop the child and leave."""
        self._session = None
        self._obey()
        try:
            if self._is_ours:
                self._write("stopped", "the service was stopped")
            self._lock.release()
        except DATABASE_ERRORS as error:
            log.warning("stopped without a last word: %s", error)
        connections.close_all()

    def _watch(self) -> None:
        """Bury a child that died or fell silent; a next one is due after a pause."""
        child = self.child
        if child is None:
            return
        trouble = child.look()
        if child.lived_seconds >= STEADY_SECONDS:
            self._failures = 0
        if not trouble:
            return
        self._bury(child)
        pause = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)]
        self._failures += 1
        self._has_failed = True
        self._next_start_at = time.monotonic() + pause
        self._idle = f"its ticker {trouble}; the next start is in {pause:g} s"
        log.warning("the straddle's ticker %s; it starts again in %g s", trouble, pause)

    def _look(self) -> None:
        now = clock.market_epoch()
        calendar = _calendar(now)
        wanted = Wanted.objects.filter(pk=THE_ROW).first()
        self._session = session_to_follow(wanted, calendar, now)
        if self._session is None:
            self._failures = 0
            self._next_start_at = 0.0
            self._idle = _waits_for(calendar, now)
        self._notice()
        self._notice_silence()

    def _notice_silence(self) -> None:
        """Tell people of legs that nothing comes of while others tick, and that they are heard."""
        silent = self.child.report.silent if self.child else ""
        if silent == self._silent_told:
            return
        if silent:
            notices.notify(
                "options",
                "warning",
                SILENT_NOTICE,
                f"No ticks come of {silent}, while others of their straddles tick: those premiums "
                f"are not stored, and the times are written down as gaps. The broker may have lost "
                f"the subscription; restarting {SERVICE} subscribes anew.",
            )
        else:
            notices.resolve(SILENT_NOTICE)
        self._silent_told = silent

    def _notice(self) -> None:
        """Tell people of a child that keeps ending, and that it is over."""
        if self._has_failed and self._failures >= FAILURES_NOTICED:
            notices.notify(
                "infrastructure",
                "warning",
                NOTICE,
                f"The straddle's ticker ended {self._failures} times in a row; it is started again "
                f"and again. Its log, {SERVICE}.log, says why.",
            )
            self._is_noticed = True
        elif self._is_noticed and not self._failures:
            notices.resolve(NOTICE)
            self._is_noticed = False
        self._has_failed = False

    def _obey(self) -> None:
        if self._session is None:
            if self.child is not None:
                self._bury(self.child)
        elif self.child is None and time.monotonic() >= self._next_start_at:
            edges = str(self._session.opens_at), str(self._session.closes_at)
            self.child = Child(edges, self._command)
            self._started_at = clock.real()

    def _bury(self, child: Child) -> None:
        child.stop()
        self.child, self._last_words = None, child.report

    def _say(self) -> None:
        state, sentence = self._words()
        self._beat.beat(state, sentence)
        now = time.monotonic()
        told = state, (self.child.pid, self.child.report.state) if self.child else None
        if told != self._said or now - self._said_at >= SAY_SECONDS:
            self._write(state, sentence)
            self._said, self._said_at = told, now

    def _words(self) -> tuple[str, str]:
        """Return the service's state, one word, and a sentence."""
        if self.child is None:
            if self._session is None:
                return "idle", self._idle
            return ("failing" if self._failures >= FAILURES_NOTICED else "starting"), self._idle
        report = self.child.report
        if report.state == "starting":
            return "starting", report.sentence or "its ticker starts"
        if report.state == WAITS:
            return "waiting", f"{WAITS}: sign in at /kite/"
        if report.state == "connected":
            return "running", report.sentence
        return "running", f"{report.state}; {report.sentence}"

    def _write(self, state: str, sentence: str) -> None:
        child = self.child
        # What the last one came to stays to be read.
        report = child.report if child else self._last_words
        values = {
            "child_pid": child.pid if child else None,
            "started_at": self._started_at if child else None,
            "written_at": clock.real(),
            "state": child.report.state if child else state,
            "sentence": sentence[:300],
        }
        if report:
            values |= {name: getattr(report, name) for name in COUNTS}
        if report and report.message_at:
            values["message_at"] = clock.from_seconds(report.message_at)
        TrackerState.objects.update_or_create(pk=THE_ROW, defaults=values)


def session_to_follow(wanted: Wanted | None, calendar: Calendar, now: Epoch) -> Session | None:
    """Return the session open at an instant if the jobs want it followed.

    A wish is good for its own day: after the close nothing is followed, whether or not the job
    that stops it ever came, and the next morning's job wishes anew.
    """
    session = calendar.session_at(now)
    if session is None or wanted is None or not wanted.is_wanted:
        return None
    return session if clock.trading_date(wanted.since) == session.date else None


def _calendar(now: Epoch) -> Calendar:
    """Return the exchange's calendar of the days round an instant.

    Not by `markets.store`, which brings talib and pandas along: 70 MB for a loop that waits.
    """
    today = clock.trading_date(now)
    reach = (today - LOOKS_BACK, today + LOOKS_AHEAD)
    rows = TradingDay.on(MARKET).objects.filter(date__range=reach).order_by("date")
    return NseCalendar.from_days(row.as_day() for row in rows)


def _waits_for(calendar: Calendar, now: Epoch) -> str:
    if calendar.is_open(now):
        return "the session is open, and its job has not asked for the ticker"
    following = calendar.next_session(now)
    if following is None:
        return "the calendar has no next session"
    opens = clock.from_seconds(following.opens_at).astimezone(clock.IST)
    return f"waits for the session of {opens:%d %b, %H:%M} IST"
