"""One rate limiter for all processes of this machine that use the same account.

What was sent, and what is about to be, is kept in one small file under a lock, so the limits hold
without Redis and PostgreSQL. Every call books the earliest instant at which no rule would be broken
by it, in the order in which calls came, and sleeps until then; nobody polls.

Windows slide on the machine's monotonic clock and are a little longer than the broker's, so that
calls which reach it closer together than they left still keep its rules. A file that is damaged
pauses everybody for one window, because nobody knows any more what was just sent; one from before
a reboot is worth nothing and costs nothing.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from markets.venues.base import RateLimited

MARGIN_SECONDS = 0.1
# A sleeper that wakes later than this books again: its call would come too close to the next ones.
LATE_SECONDS = 0.05
# Nobody books further ahead; a stamp beyond it is from another clock.
FURTHEST_SECONDS = 3600.0
MINUTE, DAY = 60.0, 86_400.0

_MAGIC = b"limits 1"
_CHECKSUM = struct.Struct("<I")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_BOOT_BYTES = 36


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow `limit` calls of some kinds in any stretch of `seconds`."""

    name: str
    limit: int
    seconds: float
    kinds: tuple[str, ...]


QUOTE, HISTORICAL, ORDERS, OTHER = KINDS = ("quote", "historical", "orders", "other")
# https://kite.trade/docs/connect/v3/exceptions/ and kite.trade/forum/discussion/15912 (March 2026).
# Ten a second hold for all calls of an API key together, orders among them.
KITE_RULES = (
    Rule("quotes a second", 1, 1.0, (QUOTE,)),
    Rule("historical a second", 3, 1.0, (HISTORICAL,)),
    Rule("orders a minute", 400, MINUTE, (ORDERS,)),
    Rule("orders a day", 5000, DAY, (ORDERS,)),
    Rule("calls a second", 10, 1.0, KINDS),
)


@dataclass(slots=True)
class _Book:
    """What the file holds: per kind, the instants that were given out, ascending."""

    times: dict[str, array[float]]
    paused_until: float = 0.0
    """No call before this instant."""

    def earliest(self, kind: str, at: float, rules: Sequence[Rule]) -> float:
        """Return the first instant from `at` on at which a call breaks no rule."""
        at = max(at, self.paused_until)
        settled = False
        while not settled:
            settled = True
            for rule in rules:
                if kind in rule.kinds:
                    possible = first_free(self._of(rule, at), rule.limit, _window(rule), at)
                    settled = settled and possible == at
                    at = possible
        return at

    def left(self, rule: Rule, at: float) -> int:
        """Return how many calls a rule would still allow at an instant."""
        if at < self.paused_until:
            return 0
        return max(0, rule.limit - len(self._of(rule, at)))

    def drop_old(self, at: float, rules: Sequence[Rule]) -> None:
        """Forget what no rule looks at any more."""
        for kind, times in self.times.items():
            longest = max(_window(rule) for rule in rules if kind in rule.kinds)
            del times[: bisect_left(times, at - longest)]

    def _of(self, rule: Rule, at: float) -> list[float]:
        since = at - _window(rule)
        recent = [
            times[bisect_right(times, since) :]
            for kind, times in self.times.items()
            if kind in rule.kinds
        ]
        return sorted(chain.from_iterable(recent))


@dataclass(slots=True)
class RateLimiter:
    """Let calls through one account's rules, whichever process makes them."""

    path: Path
    rules: Sequence[Rule] = KITE_RULES
    _kinds: tuple[str, ...] = field(init=False)
    _boot: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._kinds = tuple(sorted({kind for rule in self.rules for kind in rule.kinds}))
        self._boot = _boot_id()

    def acquire(self, kind: str, timeout_s: float = 30.0) -> None:
        """Wait until a call may go; raise RateLimited at once if that would be after the timeout.

        Whoever came first goes first among calls of a kind.
        """
        if kind not in self._kinds:
            raise ValueError(f"unknown kind {kind!r}; the known ones are {', '.join(self._kinds)}")
        deadline = time.monotonic() + timeout_s
        booked: float | None = None
        while booked is None or time.monotonic() - booked > LATE_SECONDS:
            with self._book() as book:
                now = time.monotonic()
                if booked is not None and booked in book.times[kind]:
                    book.times[kind].remove(booked)
                booked = book.earliest(kind, now, self.rules)
                in_time = booked <= max(deadline, now)
                if in_time:
                    insort(book.times[kind], booked)
            if not in_time:
                raise RateLimited(
                    f"the limits of this account leave no room for a call of kind {kind!r} for "
                    f"{booked - now:.1f} s; waiting was allowed for {timeout_s:g} s"
                )
            time.sleep(max(0.0, booked - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Let no call go for a while: the broker said that we are too fast."""
        with self._book() as book:
            book.paused_until = max(book.paused_until, time.monotonic() + seconds)

    def headroom(self) -> dict[str, int]:
        """Return how many more calls each rule, by its name, would allow now."""
        with self._book() as book:
            now = time.monotonic()
            return {rule.name: book.left(rule, now) for rule in self.rules}

    @contextmanager
    def _book(self) -> Iterator[_Book]:
        """Hold the file's lock, and write back what the block made of its contents."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Also holds between threads: each has a description of its own of the open file.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = time.monotonic()
            book = self._unpack(os.pread(descriptor, os.fstat(descriptor).st_size, 0), now)
            book.drop_old(now, self.rules)
            yield book
            packed = self._pack(book)
            os.pwrite(descriptor, packed, 0)
            os.ftruncate(descriptor, len(packed))
        finally:
            os.close(descriptor)

    def _pack(self, book: _Book) -> bytes:
        counts = [len(book.times[kind]) for kind in self._kinds]
        body = b"".join(
            [
                self._header().pack(_MAGIC, self._boot, book.paused_until, *counts),
                *(book.times[kind].tobytes() for kind in self._kinds),
            ]
        )
        return _CHECKSUM.pack(zlib.crc32(body)) + body

    def _unpack(self, packed: bytes, now: float) -> _Book:
        fresh = _Book({kind: array("d") for kind in self._kinds})
        if not packed:
            return fresh
        body, header = packed[_CHECKSUM.size :], self._header()
        if len(body) < header.size or _CHECKSUM.pack(zlib.crc32(body)) != packed[: _CHECKSUM.size]:
            return self._after_damage(fresh, now)
        _, boot, paused_until, *counts = header.unpack_from(body)
        if boot != self._boot:
            return fresh
        if len(body) != header.size + sum(counts) * array("d").itemsize:
            return self._after_damage(fresh, now)
        start = header.size
        for kind, count in zip(self._kinds, counts, strict=True):
            stop = start + count * fresh.times[kind].itemsize
            fresh.times[kind].frombytes(body[start:stop])
            start = stop
        fresh.paused_until = paused_until
        stamps = [paused_until, *(times[-1] for times in fresh.times.values() if times)]
        if max(stamps) > now + FURTHEST_SECONDS:
            return self._after_damage(_Book({kind: array("d") for kind in self._kinds}), now)
        return fresh

    def _after_damage(self, book: _Book, now: float) -> _Book:
        book.paused_until = now + min(_window(rule) for rule in self.rules)
        return book

    def _header(self) -> struct.Struct:
        return struct.Struct(f"<{len(_MAGIC)}s{_BOOT_BYTES}sd{len(self._kinds)}I")


def _window(rule: Rule) -> float:
    return rule.seconds + MARGIN_SECONDS


def first_free(times: Sequence[float], limit: int, window: float, at: float) -> float:
    """Return the first instant from `at` on that may join ascending times.

    It may where no `limit` of them in a row, with it, lie within less than a window. While they do,
    nothing is possible before the first of them is a window old.
    """
    place = bisect_right(times, at)
    first = max(0, place - limit)
    while first <= min(place, len(times) - limit):
        if max(at, times[first + limit - 1]) - min(at, times[first]) < window:
            at = times[first] + window
            place = bisect_right(times, at)
            first = max(first + 1, place - limit)
        else:
            first += 1
    return at


def _boot_id() -> bytes:
    """Return what tells one boot of this machine from the next."""
    try:
        return _BOOT.read_bytes()[:_BOOT_BYTES].ljust(_BOOT_BYTES)
    except OSError:  # not Linux: a monotonic clock that restarted shows by stamps from the future
        return b"".ljust(_BOOT_BYTES)
