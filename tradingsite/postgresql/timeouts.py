"""How long PostgreSQL may keep us waiting: an end for every statement, lock and answer.

A service waits for seconds and does its step again; a page waits less, and says so. What lasts by
its nature (an import, a migration, a dump) says it in one way:

    with timeouts.long():
        ...

The server ends what takes too long; where the server itself stands still, the client does
(`tradingsite.postgresql.base`).
"""

import time
from collections.abc import Iterator
from contextlib import _GeneratorContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Hold what one kind of work may wait for, in seconds."""

    statement: float
    lock: float
    idle: float
    """In a transaction, between two statements."""

    @property
    def parameters(self) -> dict[str, str]:
        """Return PostgreSQL's parameters, in milliseconds."""
        seconds = {
            "statement_timeout": self.statement,
            "lock_timeout": self.lock,
            "idle_in_transaction_session_timeout": self.idle,
        }
        return {name: f"{value * 1000:.0f}" for name, value in seconds.items()}

    @property
    def options(self) -> str:
        """Return what a new connection tells the server."""
        said = self.parameters | {"client_connection_check_interval": CLIENT_GONE_MILLISECONDS}
        return " ".join(f"-c {name}={value}" for name, value in said.items())

    @property
    def answer(self) -> float:
        """Return how long a server that should have ended a statement is listened to."""
        return self.statement + ANSWER_SLACK_SECONDS


ANSWER_SLACK_SECONDS = 2.0
CLIENT_GONE_MILLISECONDS = "2000"
"""After which the server ends the statement, or the wait for a lock, of a client that is gone."""
CONNECT_SECONDS = 5
SERVICE = Timeouts(statement=5.0, lock=2.0, idle=15.0)
WEB = Timeouts(statement=2.0, lock=1.0, idle=10.0)
LONG = Timeouts(statement=3600.0, lock=60.0, idle=1800.0)
NOTICED_SECONDS = 0.1
PAGE_SECONDS = 2.0
"""What one page may wait in all, so that it says within three seconds who does not answer."""

_process = SERVICE
_block: ContextVar[Timeouts | None] = ContextVar("timeouts", default=None)
_left: ContextVar[list[float] | None] = ContextVar("left", default=None)


def current() -> Timeouts:
    """Return what holds here: the block's, else the process's."""
    return _block.get() or _process


def choose(timeouts: Timeouts) -> None:
    """Say what kind of work this process does."""
    global _process
    _process = timeouts


@contextmanager
def during(timeouts: Timeouts) -> Iterator[None]:
    """Do a block of work of another kind; begin it outside a transaction."""
    token = _block.set(timeouts)
    try:
        yield
    finally:
        _block.reset(token)


def long() -> _GeneratorContextManager[None]:
    """Do a block of work, or a whole function as its decorator, that lasts by its nature."""
    return during(LONG)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let a block wait for no longer than that in all, however many answers it asks for.

    Only waits that are noticed count, so that a busy machine's many short ones do not end a page.
    """
    token = _left.set([seconds])
    try:
        yield
    finally:
        _left.reset(token)


@contextmanager
def waiting(at_most: float) -> Iterator[float]:
    """Give how long one answer may be waited for now, and count what it took."""
    left = _left.get()
    if left is None:
        yield at_most
        return
    began = time.monotonic()
    try:
        yield min(at_most, max(left[0], 0.0) + NOTICED_SECONDS)
    finally:
        left[0] -= max(time.monotonic() - began - NOTICED_SECONDS, 0.0)
