"""The collector: each minute of the session, the wanted instruments' quotes, stored or recorded.

A minute goes: wanted instruments, two calls of quotes, judgement, volatilities, a file in the
spool, one transaction, and the file is deleted. Whatever fails on the way leaves either the file,
which the next minute stores, or a gap with its reason. A quote of now is never stored for another
minute: a collector that comes late skips, and does not stack up.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
from django.db import DatabaseError, connections

from markets.domain.calendar import Calendar, Session, ist_instant
from markets.options import chain, gaps, implied, partitions, quality, storage, warm_start
from markets.options.minute_batch import Batch
from markets.options.minute_stages import Outcome, Stages
from markets.options.partitions import ALIAS, DayDropped
from markets.options.spool import Spool
from markets.venues.base import DataVenue, MarketQuote, TokenRefused, VenueInstrument
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry
from tradingsite.supervision.serving import DATABASE_ERRORS

MINUTE = 60
TRIES = 3
RETRY_SECONDS = 1.0
# Market seconds into the minute after which the quotes of now are the next minute's.
LATEST_SECONDS = 55.0
SLOW_SECONDS = 30.0
"""A minute that takes longer says where the time went."""
# The contract's last minute is the session's; before the calendar knows the day, this is assumed.
USUAL_CLOSE = dt.time(15, 30)

NO_QUOTE = "no quote: it is not in the venue's answer, or its row cannot be read"
NOT_LISTED = "no longer listed: the venue's list of today has it no more"

log = logging.getLogger(__name__)
pause = time.sleep


class TooLate(Degraded):
    """The minute is over, or another one is still being collected."""


class Collector:
    """Collect from one venue into the options database; one of a process, used by any thread."""

    def __init__(
        self,
        venue: DataVenue,
        calendar: Calendar,
        folder: Path,
        chains: Sequence[chain.Chain] = chain.CHAINS,
    ) -> None:
        """Take the venue, the exchange's calendar and the spool's folder."""
        self.venue = venue
        self.calendar = calendar
        self.spool = Spool(folder)
        self.last_minute = 0
        """The newest minute whose quotes were asked for."""
        self._chains = chains
        self._known = storage.Known()
        self._day: dt.date | None = None
        self._has_learned = False
        self._listed: dict[str, VenueInstrument] = {}
        self._wanted: set[str] = set()
        self._spots: dict[str, float] = {}
        self._before: dict[str, float] = {}
        self._seen_at: dict[str, int] = {}
        self._busy = threading.Lock()
        self._stages = Stages(Epoch(0))

    # --- One minute ------------------------------------------------------------------------------

    def collect(self, at: dt.datetime) -> Outcome:
        """Collect the minute of an instant and return what became of it.

        Before the open only the list and the partitions are made ready. Raises TooLate, and
        TokenRefused once the gap is recorded.
        """
        minute = clock.epoch(at) // MINUTE * MINUTE
        if not self._busy.acquire(blocking=False):
            raise TooLate("the minute before is still being collected")
        try:
            return self._collect(Epoch(minute))
        finally:
            self._busy.release()

    def _collect(self, minute: Epoch) -> Outcome:
        stages = self._stages = Stages(minute)
        replayed = self.replay()
        stages.end("the spool")
        session = self.calendar.session_on(clock.trading_date(minute))
        self._begin_day(minute)
        if session is None or not session.opens_at <= minute <= session.closes_at:
            self.prepare()
            return Outcome(0, 0, 0, replayed or 0, 0, is_early=True)
        late = clock.market_seconds() - minute
        if late > LATEST_SECONDS:
            why = f"{late:.0f} s after the minute, when a quote of now is none of its ({stages})"
            self._keep(Batch.nothing(minute, f"too late: {why}"), replayed, session)
            raise TooLate(why)
        refused: TokenRefused | None = None
        began = time.monotonic()
        self.last_minute = minute
        try:
            batch = self._fetch(minute, began)
        except TokenRefused as error:
            refused, batch = error, Batch.nothing(minute, f"no token: {error}")
        except (Retry, Degraded) as error:
            batch = Batch.nothing(minute, f"no answer: {error}")
        outcome = self._keep(batch, replayed, session)
        stages.end("storing")
        if refused:
            raise refused
        return replace(outcome, slow=str(stages)) if stages.seconds > SLOW_SECONDS else outcome

    def prepare(self) -> None:
        """Have the venue's list of the day and the spots, before the first minute.

        What is in the way is only logged: the first minute says it again.
        """
        try:
            self.venue.instruments()
            if not self._spots:
                self._read_spots()
        except (Retry, Degraded) as error:
            log.warning("before the open: %s", error)

    def replay(self) -> int | None:
        """Store what waits in the spool; return how many minutes, None while PostgreSQL is away."""
        count = 0
        for path, batch in self.spool.batches():
            try:
                storage.store(batch, self._known)
            except DATABASE_ERRORS as error:
                self._reconnect(error)
                return None
            except (DayDropped, LookupError, DatabaseError, psycopg.Error) as error:
                log.error("%s is put aside: %s", path, error)
                self.spool.put_aside(path)
                continue
            gaps.fill(batch.minute, batch.minute)
            path.unlink(missing_ok=True)
            count += 1
        return count

    # --- From the venue --------------------------------------------------------------------------

    def _fetch(self, minute: Epoch, began: float) -> Batch:
        """Return the minute's batch; raise the venue's error where no try succeeds in time."""
        for number in range(1, TRIES + 1):
            try:
                return self._fetch_once(minute, began)
            except TokenRefused:
                raise  # nothing works until somebody signs in
            except (Retry, Degraded) as error:
                over = clock.market_seconds() - minute > LATEST_SECONDS
                if number == TRIES or over:
                    raise
                log.warning("try %d of %d for %s: %s", number, TRIES, _hour(minute), error)
                pause(RETRY_SECONDS)
                self._stages.end("tries that failed")
        raise AssertionError("the last try returns or raises")

    def _fetch_once(self, minute: Epoch, began: float) -> Batch:
        stages = self._stages
        listed = {row.name: row for row in self.venue.instruments()}
        stages.end("the list")
        if not self._spots:
            self._read_spots()
            stages.end("the indices")
        rows = chain.wanted(
            listed.values(), self._spots, self._today(minute), self._wanted, self._chains
        )
        if not rows:
            return Batch.nothing(minute, "the venue's list has nothing that is wanted")
        gone = dict.fromkeys(self._wanted - listed.keys(), NOT_LISTED)
        quotes = self.venue.quotes([row.name for row in rows])
        stages.end(f"{len(rows)} quotes")
        if stages.seconds > MINUTE:
            late = f"too slow: the answer came {stages.seconds:.0f} s after"
            return Batch.nothing(minute, f"{late} ({stages})")
        self._wanted |= {row.name for row in rows if row.expiry}
        self._listed |= listed
        asked = {row.name: row for row in rows}
        return self._judged(minute, asked, quotes, gone, began)

    def _judged(
        self,
        minute: Epoch,
        asked: Mapping[str, VenueInstrument],
        quotes: Mapping[str, MarketQuote],
        gone: Mapping[str, str],
        began: float,
    ) -> Batch:
        quotes = {name: quote for name, quote in quotes.items() if name in asked}
        judged = quality.judge(quotes, asked, minute, self._recent(minute))
        if not judged.good:
            reasons = sorted(judged.bad.values()) or ["nothing came of what was asked for"]
            return Batch.nothing(minute, f"{reasons[len(reasons) // 2]} (all {len(asked)})")
        self._before |= {name: float(quote.last) for name, quote in judged.good.items()}
        self._seen_at |= dict.fromkeys(judged.good, minute)
        self._spots |= {
            name: self._before[name] for name in chain.indices(self._chains) if name in judged.good
        }
        absent = dict.fromkeys(asked.keys() - quotes.keys(), NO_QUOTE)
        missing = absent | judged.bad | dict(gone)
        rows = [asked[name] for name in judged.good]
        ivs = self._volatilities(minute, rows, judged.good)
        values = [
            _columns(judged.good[row.name], iv, minute) for row, iv in zip(rows, ivs, strict=True)
        ]
        self._stages.end("judging and volatilities")
        return Batch(
            minute,
            tuple(row.name for row in rows),
            np.array(values, dtype=np.int64),
            missing,
            {
                name: self._listed[name]
                for name in self._known.unknown([*asked, *gone])
                if name in self._listed
            },
            quarantined=len(judged.bad),
            fetch_ms=int((time.monotonic() - began) * 1_000),
        )

    def _recent(self, minute: Epoch) -> dict[str, float]:
        """Return the prices that those of a minute may be held against."""
        spots = chain.indices(self._chains)
        return {
            name: price
            for name, price in self._before.items()
            if name in spots
            or abs(minute - self._seen_at.get(name, 0)) <= warm_start.RECENT_SECONDS
        }

    def _volatilities(
        self, minute: Epoch, rows: Sequence[VenueInstrument], quotes: Mapping[str, MarketQuote]
    ) -> list[float]:
        """Return the implied volatility of each row, 0 for an index and where there is none."""
        options = [
            implied.Option(
                (row.underlying, row.expiry),
                float(row.strike),
                row.kind == "CE",
                _price(quotes[row.name]) if row.expiry else 0.0,
                self.expires_at(row.expiry) - minute if row.expiry else 0.0,
            )
            for row in rows
        ]
        return implied.volatilities(options, implied.forwards(options, self._spots))

    def expires_at(self, expiry: dt.date) -> int:
        """Return the last instant of a contract, in epoch seconds: its day's close."""
        session = self.calendar.session_on(expiry)
        return session.closes_at if session else ist_instant(expiry, USUAL_CLOSE)

    def _read_spots(self) -> None:
        quotes = self.venue.quotes(chain.indices(self._chains))
        self._spots |= {name: float(each.last) for name, each in quotes.items() if each.last > 0}

    # --- Into the database -----------------------------------------------------------------------

    def _keep(self, batch: Batch, replayed: int | None, session: Session) -> Outcome:
        """Store a batch by way of the spool; leave it there while PostgreSQL is away."""
        path = self._spooled(batch)
        _fail_at("after_fetch")
        try:
            stored = storage.store(batch, self._known)
        except DATABASE_ERRORS as error:
            self._reconnect(error)
            if path is None:
                raise
            self.spool.keep(path)
            return Outcome(0, 0, 0, 0, 0, waits=True)
        _fail_at("after_commit")
        if path is not None:
            path.unlink(missing_ok=True)
        found = self._note(session, batch.minute)
        return Outcome(
            stored,
            len(batch.missing),
            batch.quarantined,
            replayed or 0,
            found,
            reason=batch.reason,
        )

    def _spooled(self, batch: Batch) -> Path | None:
        """Write the batch's file; a full disk costs its protection, not the minute itself."""
        try:
            return self.spool.put(batch)
        except OSError as error:
            log.error("the minute goes to PostgreSQL without a file: %s", error)
            return None

    def _note(self, session: Session, until: Epoch) -> int:
        try:
            return gaps.note(session, until, self.spool.minutes())
        except DATABASE_ERRORS as error:
            self._reconnect(error)
            return 0

    def _begin_day(self, minute: Epoch) -> None:
        """Forget yesterday, and learn what of today is known already, as after a restart."""
        day = self._today(minute)
        if day != self._day:
            self._wanted, self._listed, self._before = set(), {}, {}
            self._has_learned = False
            self._known.forget()  # what the venue says of an instrument may be new today
            self._day = day
        if self._has_learned:
            return
        try:
            partitions.ensure(day)
            self._wanted |= warm_start.wanted_on(day)
            learned = warm_start.last_prices(minute)
            self._before = learned | self._before
            self._seen_at = dict.fromkeys(learned, minute) | self._seen_at
        except DATABASE_ERRORS as error:
            self._reconnect(error)
            return
        indices = [name for name in chain.indices(self._chains) if name in self._before]
        self._spots |= {name: self._before[name] for name in indices}
        self._has_learned = True

    def _today(self, minute: Epoch) -> dt.date:
        return clock.trading_date(minute)

    def _reconnect(self, error: Exception) -> None:
        log.warning("PostgreSQL is away: %s", str(error).strip().partition("\n")[0])
        self._known.forget()
        connections[ALIAS].close()


def _columns(quote: MarketQuote, volatility: float, minute: Epoch) -> tuple[int, ...]:
    """Return a quote in the order of batch.COLUMNS."""
    return (
        *(round(price * 100) for price in (quote.last, quote.bid, quote.ask)),
        int(quote.volume),
        int(quote.interest),
        round(volatility * 10_000),
        round(minute - quote.at.timestamp()),
    )


def _price(quote: MarketQuote) -> float:
    if quote.bid > 0 and quote.ask > 0:
        return float(quote.bid + quote.ask) / 2.0
    return float(quote.last)


def _hour(minute: Epoch) -> str:
    return f"{clock.from_seconds(minute).astimezone(clock.IST):%H:%M}"


def _fail_at(point: str) -> None:
    """Die at a named point, where a test asks for it."""
    if os.environ.get("NIGHTDESK_FAILPOINT") == point:
        os.kill(os.getpid(), signal.SIGKILL)
