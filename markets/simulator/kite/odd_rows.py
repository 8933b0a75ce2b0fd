"""Rows that a client cannot read: one of an answer has no times, or no quantities."""

from __future__ import annotations

from typing import Any

from markets.simulator.faults import Faults

# `match` is part of "/path SYMBOL" of the row that is spoiled.
ROW_FAULTS = {
    "odd_rows": "leaves the times out of one row of orders, trades or quotes; positions have none, "
    "and lose their quantities",
    "null_quantities": "leaves the quantities out of one row of orders, trades or positions",
}
_TIMES = (
    *("order_timestamp", "exchange_timestamp", "exchange_update_timestamp", "fill_timestamp"),
    *("timestamp", "last_trade_time"),
)
_QUANTITIES = ("quantity", "filled_quantity", "overnight_quantity")


class OddRows:
    """Spoil at most one row of an answer, as a waiting fault demands."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def spoil(self, path: str, rows: dict[str, dict[str, Any]]) -> None:
        """Set to null what a fault takes from the first row that it matches.

        The rows are named by their instruments, each name with anything to tell them apart.
        """
        for kind in ROW_FAULTS:
            for name, row in rows.items():
                if self._faults.take(kind, f"{path} {name}"):
                    times = [each for each in _TIMES if each in row] if kind == "odd_rows" else []
                    row |= dict.fromkeys(times or [each for each in _QUANTITIES if each in row])
                    break

    def spoil_list(self, path: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Do the same to the rows of a list, and return them."""
        numbered = {f"{row['tradingsymbol']} {place}": row for place, row in enumerate(rows)}
        self.spoil(path, numbered)
        return rows
