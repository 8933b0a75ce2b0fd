"""The tracker's child: one ticker, from its start to the session's end, in a process of its own.

    reactor's thread    hands over messages, no more
    this thread         makes rows of them, re-centres, reports to the parent
    writer's thread     stores

The parent holds the other end of two pipes. By the one it hears that the child lives; the other
says to the child, by its end, that the parent is gone.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import psycopg
from django.db import DatabaseError, InterfaceError, connections

from markets.domain.calendar import NseCalendar, trading_date
from markets.straddle import storage
from markets.straddle.premium import STALE_SECONDS, MessageTime, Refusal
from markets.straddle.reports import Report
from markets.straddle.roller import (
    CUT_SHORT,
    Chain,
    Ended,
    Event,
    Follower,
    Missed,
    Resumed,
    chain_of,
)
from markets.straddle.underlyings import UNDERLYINGS
from markets.venues import own_simulator
from markets.venues.base import Tick
from markets.venues.configured import kite_config, kite_token, kite_venue
from markets.venues.kite.ticker import KiteStream, State
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry

REPORT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 0.2
# Indices tick once a second and more.
GAP_SECONDS = 3.0
LIST_PAUSE_SECONDS = 2.0
FINISH_SECONDS = 2.5
# A stream that cannot connect for so long gets a fresh process: its reactor may be what is broken.
HOPELESS_SECONDS = 120.0
FRESH_PROCESS = 75  # sysexits' EX_TEMPFAIL
LEASH_SECONDS = 5.0
# A report must fit into a pipe whole.
SILENT_NAMED = 6
REPORTS_TO = 1  # standard output

log = logging.getLogger(__name__)
Message = tuple[float, list[Tick]]


class Tracker:
    """Follow the configured underlyings through one session; its edges are epoch seconds."""

    def __init__(self, opens_at: Epoch, closes_at: Epoch, stop: threading.Event) -> None:
        self.buffer = storage.Buffer()
        self.writer = storage.Writer(self.buffer)
        self.followers: dict[str, Follower] = {}
        self._stop = stop
        self._closes_at = closes_at
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stream: KiteStream | None = None
        self._time = MessageTime()
        self._heard_at = time.monotonic()
        self._message_at: dt.datetime | None = None
        self._newest = clock.from_seconds(opens_at)
        """The exchange's time up to which nothing is missing."""
        self._is_first = True
        self._worst: State | None = None
        """What kept the stream from being connected since the last message."""
        self._alive_at = time.monotonic()
        self._reported_at = float("-inf")

    def run(self) -> int:
        """Follow until told to stop; return the process's exit code."""
        self.writer.start()
        chains = self._list_chains()
        if chains:
            self._begin(chains)
        while chains and not self._stop.is_set():
            self._take_messages()
            self._look_at_stream()
            self._report()
            if time.monotonic() - self._alive_at > HOPELESS_SECONDS and not len(self.buffer):
                log.error("the ticker did not connect for %.0f s", HOPELESS_SECONDS)
                self._finish()
                return FRESH_PROCESS
        self._finish()
        return 0

    # --- Its beginning ---------------------------------------------------------------------------

    def _list_chains(self) -> list[Chain]:
        """Return the chains of the nearest expiry; ask until the broker's list can be had."""
        # The list of instruments has nothing to do with the calendar.
        venue = kite_venue(NseCalendar([]))
        while not self._stop.is_set():
            try:
                listed = venue.instruments()
                today = trading_date(clock.market_epoch())
                return [chain_of(each.name, listed, today) for each in UNDERLYINGS]
            except (Retry, Degraded) as error:
                self._report(Report("starting", f"waits for the broker's list: {error}"))
            self._stop.wait(LIST_PAUSE_SECONDS)
        return []

    def _begin(self, chains: Sequence[Chain]) -> None:
        found, newest = self._left_off()
        for config, chain in zip(UNDERLYINGS, chains, strict=True):
            follower = self.followers[config.name] = Follower(config, chain)
            follower.resume([each for each in found if each.series.underlying == config.name])
        resumed = {key for each in self.followers.values() for key in each.series.values()}
        self.buffer.put(
            Ended(each.series, each.ts, CUT_SHORT) for each in found if each.series not in resumed
        )
        self._newest = max(self._newest, newest or self._newest)
        broker = kite_config()
        self._stream = KiteStream(
            broker.api_key,
            kite_token().current,
            self._instruments(),
            lambda ticks: self._inbox.put((time.monotonic(), ticks)),
            broker.ws_root,
            headers=own_simulator.headers(broker.desk),
        ).start()
        self._alive_at = time.monotonic()

    def _left_off(self) -> tuple[list[Resumed], dt.datetime | None]:
        """Return the series that a tracker before left open, and the time of the newest tick."""
        try:
            return storage.open_series(), storage.newest_tick()
        except (DatabaseError, InterfaceError, psycopg.Error) as error:
            # What is followed from now on matters more than where it was left off.
            log.warning("the series of before cannot be read: %s", error)
            return [], None
        finally:
            connections.close_all()

    # --- Each message ----------------------------------------------------------------------------

    def _take_messages(self) -> None:
        try:
            message = self._inbox.get(timeout=LONGEST_WAIT_SECONDS)
        except queue.Empty:
            return
        self._take(*message)

    def _take(self, heard_at: float, ticks: list[Tick]) -> None:
        speed = clock.speed()
        expected = self._time.hear([tick.at.timestamp() for tick in ticks], heard_at, speed)
        self._note_gap(heard_at, clock.from_seconds(self._time.newest), speed)
        self._message_at = clock.real()
        before = self._instruments()
        events: list[Event] = []
        for name, follower in self.followers.items():
            own = [tick for tick in ticks if tick.instrument.split(" ", 1)[0] == name]
            if own:
                events += follower.take(own, expected, STALE_SECONDS * speed)
        self.buffer.put(events)
        after = self._instruments()
        if after != before and self._stream is not None:
            self._stream.resubscribe(after)

    def _note_gap(self, heard_at: float, newest: dt.datetime, speed: float) -> None:
        """Say what was missed before a message: by our own clock, or, at the start, by its time."""
        silent_seconds = heard_at - self._heard_at
        if self._is_first:
            missed_seconds = (newest - self._newest).total_seconds() / speed
            if missed_seconds > GAP_SECONDS:
                self._miss(newest, "nothing followed the straddle")
        elif silent_seconds > GAP_SECONDS:
            state = self._worst or State.CONNECTED
            self._miss(newest, f"no ticks came for {silent_seconds:.0f} s; the stream: {state}")
        self._heard_at, self._is_first, self._worst = heard_at, False, None
        self._newest = max(self._newest, newest)

    def _miss(self, until: dt.datetime, reason: str) -> None:
        if until > self._newest:
            self.buffer.put([Missed(self._newest, until, None, reason)])

    # --- The stream and the parent ---------------------------------------------------------------

    def _instruments(self) -> dict[int, str]:
        return {
            token: name
            for follower in self.followers.values()
            for token, name in follower.instruments.items()
        }

    def _look_at_stream(self) -> None:
        stream = self._stream
        if stream is None:
            return
        state = stream.state
        if state is not State.CONNECTED:
            self._worst = state
        # Only a person can sign in: a fresh process would wait just as long.
        if stream.is_alive() or state is State.WAITING:
            self._alive_at = time.monotonic()

    def _report(self, report: Report | None = None) -> None:
        now = time.monotonic()
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            (report or self.report()).send(REPORTS_TO)

    def report(self) -> Report:
        """Return how the child stands."""
        refused: Counter[Refusal] = Counter()
        for follower in self.followers.values():
            refused += follower.refused
        return Report(
            state=str(self._stream.state) if self._stream else "starting",
            sentence=self._sentence(),
            message_at=self._message_at.timestamp() if self._message_at else None,
            stored=self.writer.stored,
            waiting=len(self.buffer),
            lost=self.buffer.lost,
            **{reason.value: refused[reason] for reason in Refusal},
            silent=self._silent(),
        )

    def _silent(self) -> str:
        stale_seconds = STALE_SECONDS * clock.speed()
        found = [each.alarming(stale_seconds) for each in self.followers.values()]
        names = sorted(name for names in found for name in names)
        more = f" and {len(names) - SILENT_NAMED} more" if names[SILENT_NAMED:] else ""
        return ", ".join(names[:SILENT_NAMED]) + more

    def _sentence(self) -> str:
        centres = [
            f"{name} {follower.centre / 100:g}" if follower.centre else f"{name} not yet"
            for name, follower in self.followers.items()
        ]
        text = f"follows {', '.join(centres)}"
        if self.writer.trouble:
            text += f"; {len(self.buffer)} ticks wait for PostgreSQL: {self.writer.trouble}"
        return text

    # --- Its end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self._stream is not None:
            self._stream.close()
        while not self._inbox.empty():
            self._take(*self._inbox.get_nowait())
        speed = clock.speed()
        ends_at = min(clock.market(), clock.from_seconds(self._closes_at))
        if (ends_at - self._newest).total_seconds() > GAP_SECONDS * speed and (
            time.monotonic() - self._heard_at > GAP_SECONDS
        ):
            state = self._worst or State.CONNECTED
            self._miss(ends_at, f"no ticks came until the tracker stopped; the stream: {state}")
        for follower in self.followers.values():
            self.buffer.put(follower.end(self._newest))
        left = self.writer.finish(FINISH_SECONDS)
        if left:
            log.error("%d events of straddles could not be stored: %s", left, self.writer.trouble)
        self._reported_at = float("-inf")
        self._report()


def run(opens_at: Epoch, closes_at: Epoch, stop: threading.Event) -> NoReturn:
    """Track one session until the event, or the parent's end, says stop; end the process."""
    os.set_blocking(REPORTS_TO, False)
    # The stream says itself what matters; the library calls its own good end an error.
    logging.getLogger("kiteconnect").setLevel(logging.CRITICAL)
    threading.Thread(target=_hold_leash, args=(stop,), name="leash", daemon=True).start()
    code = Tracker(opens_at, closes_at, stop).run()
    # Twisted's pool of resolvers, which only ends with its reactor, would hold the process.
    logging.shutdown()
    os._exit(code)


def _hold_leash(stop: threading.Event) -> None:
    """End the process when the parent is gone, whatever the other threads are stuck in."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()
    time.sleep(LEASH_SECONDS)
    os._exit(1)
