"""The broker's record of one account: the day's orders and trades, positions and cash, kept.

With a file, everything is in SQLite before an answer leaves: a simulator that is killed knows in
the morning what a real broker would.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markets.simulator.kite.orders import AMO_RECEIVED, Order, Trade
from markets.simulator.kite.portfolio import Portfolio

# A process that is killed loses nothing by this; only a machine that loses its power might.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trades (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS executions (id TEXT PRIMARY KEY, body TEXT NOT NULL);
"""


class Book:
    """Keep the day's orders and trades, and what the account holds."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the book of a file, or one that lives as long as the process."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path or ":memory:", check_same_thread=False)
        self._database.executescript(_SCHEMA)
        self.orders: dict[str, Order] = {}
        self.trades: list[Trade] = []
        self.executions: list[tuple[Trade, dt.date | None]] = []
        """Every trade there ever was, with its contract's expiry: the back office forgets none."""
        self.began_at: float | None = None
        """When the account was opened, in epoch seconds of the market."""
        self.portfolio = Portfolio()
        self.date: dt.date | None = None
        """The day to which the positions belong."""
        self.cleared_on: dt.date | None = None
        """The day to which the orders and the trades belong: it begins a little later."""
        self._numbers = {"order": 0, "trade": 0, "exchange": 0}
        self._load()

    def active(self) -> list[Order]:
        """Return the orders to which something can still happen, oldest first."""
        return [order for order in self.orders.values() if not order.is_over]

    def put(self, order: Order) -> None:
        """Keep an order as it is now."""
        self.orders[order.order_id] = order
        self._write([("orders", order.order_id, order.dump()), *self._facts()])

    def begin(self, at: float) -> None:
        """Note when the account was opened, unless it was before."""
        if self.began_at is None:
            self.began_at = at
            self.save()

    def add_trade(self, trade: Trade, expiry: dt.date | None) -> None:
        """Keep an execution and what it made of the portfolio."""
        self.trades.append(trade)
        self.executions.append((trade, expiry))
        body = asdict(trade)
        kept = {"trade": body, "expiry": expiry.isoformat() if expiry else None}
        self._write(
            [
                ("trades", trade.trade_id, body),
                ("executions", trade.trade_id, kept),
                *self._facts(),
            ]
        )

    def start_day(self, date: dt.date) -> None:
        """Let the positions belong to a date from now on."""
        self.date = date
        self.save()

    def clear(self, date: dt.date) -> None:
        """Begin the orders of a date: yesterday's are gone, but what waits for the next session."""
        self.cleared_on = date
        gone = [order.order_id for order in self.orders.values() if order.status != AMO_RECEIVED]
        for order_id in gone:
            del self.orders[order_id]
        self.trades.clear()
        with self._database:
            ids = [(order_id,) for order_id in gone]
            self._database.executemany("DELETE FROM orders WHERE id = ?", ids)
            self._database.execute("DELETE FROM trades")
        self.save()

    def save(self) -> None:
        """Keep what the account holds, where no order or trade changed it."""
        self._write(self._facts())

    def next_order_id(self, date: dt.date) -> str:
        """Return a new order's number: 15 digits, the date first."""
        return f"{date:%y%m%d}{self._next('order'):09d}"

    def next_trade_id(self) -> str:
        """Return a new execution's number, never used twice."""
        return str(10_000_000 + self._next("trade"))

    def next_exchange_id(self) -> str:
        """Return a new number of the exchange's own."""
        return str(1_100_000_000_000_000 + self._next("exchange"))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _next(self, name: str) -> int:
        self._numbers[name] += 1
        return self._numbers[name]

    def _facts(self) -> list[tuple[str, str, Any]]:
        return [
            ("facts", "portfolio", self.portfolio.dump()),
            ("facts", "date", self.date.isoformat() if self.date else None),
            ("facts", "cleared_on", self.cleared_on.isoformat() if self.cleared_on else None),
            ("facts", "numbers", self._numbers),
            ("facts", "began_at", self.began_at),
        ]

    def _write(self, rows: list[tuple[str, str, Any]]) -> None:
        with self._database:
            for table, key, body in rows:
                self._database.execute(
                    f"INSERT INTO {table} (id, body) VALUES (?, ?) "  # noqa: S608 - our own names
                    "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                    (key, json.dumps(body, default=str)),
                )

    def _load(self) -> None:
        facts = {
            name: json.loads(body)
            for name, body in self._database.execute("SELECT id, body FROM facts")
        }
        if not facts:
            return
        self.portfolio = Portfolio.load(facts["portfolio"])
        self.date = _date(facts["date"])
        self.cleared_on = _date(facts.get("cleared_on", facts["date"]))
        self._numbers = facts["numbers"]
        self.began_at = facts.get("began_at")
        for (body,) in self._database.execute("SELECT body FROM orders ORDER BY id"):
            order = Order.load(json.loads(body))
            self.orders[order.order_id] = order
        for (body,) in self._database.execute("SELECT body FROM trades ORDER BY id"):
            self.trades.append(Trade(**json.loads(body)))
        for (body,) in self._database.execute("SELECT body FROM executions ORDER BY id"):
            kept = json.loads(body)
            self.executions.append((Trade(**kept["trade"]), _date(kept["expiry"])))


def _date(text: str | None) -> dt.date | None:
    return dt.date.fromisoformat(text) if text else None
