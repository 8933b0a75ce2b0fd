"""The exchange's memory: a small SQLite file, written after whatever changed it.

Orders are rows that change; fills and payments are rows that never do; the rest of an account is
one row. Everything else the exchange shows follows from the market's clock.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from markets.simulator.hyperliquid.account import Account, Fill, Order, Payment, Position

# What an account written by an older version does not have.
_LATER = ("agents", "requests", "scheduled_cancel_ms")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS exchange (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (wallet TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entry (
    wallet TEXT NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (wallet, kind, number)
);
"""
_SIMPLE = ("cash", "leverage", "funding", "nonces", "builders", *_LATER)

_Row = TypeVar("_Row", Order, Fill, Payment, Position)


class Store:
    """Keep accounts in a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened where the exchange is made, used where it is served.
        self._file = sqlite3.connect(path, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.executescript(_SCHEMA)
        self._written: dict[tuple[str, str], int] = {}

    def load(self) -> tuple[dict[str, Account], float | None]:
        """Return the accounts, and the market time up to which they have lived."""
        row = self._file.execute("SELECT value FROM exchange WHERE name = 'at'").fetchone()
        accounts = {
            wallet: self._account(wallet, json.loads(body))
            for wallet, body in self._file.execute("SELECT wallet, body FROM account").fetchall()
        }
        return accounts, float(row[0]) if row else None

    def is_behind(self, account: Account) -> bool:
        """Return whether something happened to an account that is not written."""
        written = (self._written.get((account.wallet, kind), 0) for kind in ("fill", "payment"))
        return bool(account.changed) or [len(account.fills), len(account.payments)] != [*written]

    def save(self, account: Account, at: float) -> None:
        """Write what changed in an account, all of it or nothing."""
        wallet = account.wallet
        body = {name: _plain(getattr(account, name)) for name in _SIMPLE}
        body["positions"] = {coin: _body(each) for coin, each in account.positions.items()}
        rows = [(wallet, "order", oid, _json(account.orders[oid])) for oid in account.changed]
        logs: tuple[tuple[str, list[Any]], ...] = (
            ("fill", account.fills),
            ("payment", account.payments),
        )
        for kind, entries in logs:
            first = self._written.get((wallet, kind), 0)
            rows += [(wallet, kind, first + i, _json(row)) for i, row in enumerate(entries[first:])]
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?)", rows)
            self._file.execute(
                "INSERT OR REPLACE INTO account VALUES (?, ?)", (wallet, json.dumps(body))
            )
            self._file.execute("INSERT OR REPLACE INTO exchange VALUES ('at', ?)", (repr(at),))
        account.changed.clear()
        for kind, entries in logs:
            self._written[wallet, kind] = len(entries)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _account(self, wallet: str, body: dict[str, Any]) -> Account:
        account = Account(
            wallet,
            Decimal(body["cash"]),
            leverage=body["leverage"],
            funding=Decimal(body["funding"]),
            nonces=body["nonces"],
            builders=body["builders"],
            **{name: body[name] for name in _LATER if name in body},
        )
        held = body["positions"].items()
        account.positions = {coin: _made(Position, each) for coin, each in held}
        for row in self._entries(wallet, "order"):
            order = _made(Order, row)
            account.orders[order.oid] = order
        account.fills = [_made(Fill, row) for row in self._entries(wallet, "fill")]
        account.payments = [_made(Payment, row) for row in self._entries(wallet, "payment")]
        self._written |= {
            (wallet, "fill"): len(account.fills),
            (wallet, "payment"): len(account.payments),
        }
        return account

    def _entries(self, wallet: str, kind: str) -> list[dict[str, Any]]:
        rows = self._file.execute(
            "SELECT body FROM entry WHERE wallet = ? AND kind = ? ORDER BY number", (wallet, kind)
        )
        return [json.loads(body) for (body,) in rows]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _body(row: Order | Fill | Payment | Position) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(row).items()}


def _json(row: Order | Fill | Payment) -> str:
    return json.dumps(_body(row))


def _made(kind: type[_Row], body: dict[str, Any]) -> _Row:
    """Return a row from what was written of it; what is a Decimal is known by its annotation."""
    made = dict(body)
    for each in fields(kind):
        if str(each.type).startswith("Decimal") and made.get(each.name) is not None:
            made[each.name] = Decimal(made[each.name])
    return kind(**made)
