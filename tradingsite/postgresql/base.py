"""Django's backend for PostgreSQL whose connections keep to `tradingsite.postgresql.timeouts`.

Statements and locks are ended by the server. A server that is frozen ends nothing, and TCP does not
notice, for the kernel answers: so the client stops listening a little later, and drops the
connection, because what comes next on it would be an answer to something else.
"""

import time
from collections.abc import Generator
from typing import Any, Self

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from psycopg.errors import _WaitTimeout

from tradingsite.postgresql import timeouts
from tradingsite.postgresql.timeouts import Timeouts

WAKE_SECONDS = 0.1
"""Between looks at the clock and at Ctrl-C, as psycopg has it."""

FAILED = psycopg.pq.TransactionStatus.INERROR


class Connection(psycopg.Connection[Any]):
    """Listen for an answer only as long as the work in hand allows."""

    def wait(self, gen: Any, interval: float = WAKE_SECONDS, timeout: float | None = None) -> Any:
        """Consume a generator of the protocol; raise OperationalError where no answer comes."""
        if timeout is not None:  # psycopg's own business, as while it cancels
            return super().wait(gen, interval, timeout)
        with timeouts.waiting(timeouts.current().answer) as seconds:
            try:
                return super().wait(gen, interval, seconds)
            except _WaitTimeout:
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    f"PostgreSQL did not answer within {seconds:.1f} s"
                ) from None

    @classmethod
    def _connect_gen(cls, *args: Any, **options: Any) -> Generator[Any, Any, Self]:
        """Connect within what the block has left: psycopg itself waits for two seconds at least."""
        connecting = super()._connect_gen(*args, **options)
        with timeouts.waiting(timeouts.CONNECT_SECONDS) as seconds:
            until = time.monotonic() + seconds
            wants = next(connecting)
            while True:
                if time.monotonic() >= until:
                    connecting.close()
                    raise psycopg.errors.ConnectionTimeout("PostgreSQL did not answer in time")
                try:
                    wants = connecting.send((yield wants))
                except StopIteration as done:
                    found: Self = done.value
                    return found


class DatabaseWrapper(base.DatabaseWrapper):
    """Give each connection the time-outs of the work that uses it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: Timeouts | None = None
        """What the connection was told to keep to."""
        self._told_inside = False

    def get_connection_params(self) -> dict[str, Any]:
        """Return psycopg's parameters, the time-outs among them."""
        return super().get_connection_params() | {
            "connect_timeout": timeouts.CONNECT_SECONDS,
            "options": timeouts.current().options,
        }

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Connect, as Django does without a pool and without another isolation level."""
        self.isolation_level = IsolationLevel.READ_COMMITTED
        connection = Connection.connect(**conn_params)
        self._kept, self._told_inside = timeouts.current(), False
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor; tell the server first where another kind of work begins."""
        now = timeouts.current()
        connection = self.connection
        if self._kept is not now and connection.info.transaction_status != FAILED:
            settings = ", ".join(f"set_config('{each}', %s, false)" for each in now.parameters)
            self._kept, self._told_inside = now, self.in_atomic_block
            connection.execute(f"SELECT {settings}", list(now.parameters.values()))
        return super().create_cursor(name)

    def _rollback(self) -> None:
        super()._rollback()  # type: ignore[misc]  # Django's stubs leave it out
        self._forget()

    def _savepoint_rollback(self, sid: str) -> None:
        super()._savepoint_rollback(sid)  # type: ignore[misc]  # the same
        self._forget()

    def _forget(self) -> None:
        """Tell the server anew: what was said inside a transaction goes with it."""
        if self._told_inside:
            self._kept = None
