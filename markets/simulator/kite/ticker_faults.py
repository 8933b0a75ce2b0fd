"""What the simulated ticker does wrong: to a socket, or for a while to the packets it sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from markets.domain.bars import IntArray
from markets.simulator.board import Board
from markets.simulator.faults import Faults
from markets.simulator.kite.packets import Sheet

# `match` is part of the API key for faults of a socket, of "NFO:SYMBOL" for those of packets and of
# order updates.
TICKER_FAULTS = {
    "frozen_socket": "stays connected and sends nothing for `seconds`, not even heartbeats",
    "dropped_socket": "cuts a connection without a word",
    "token_refused_later": "accepts the handshake, then says that the token is wrong and closes",
    "stale_prices": "repeats prices, volumes and times of now for `seconds`",
    "absurd_price": "sends ten times the last price in one tick",
    "missing_instrument": "sends nothing of what matches for `seconds`",
    "muddled_updates": "sends an order's update after the one that follows it, and twice",
}
ABSURD_FACTOR = 10


@dataclass(frozen=True, slots=True)
class _Spell:
    """A fault that lasts, until an instant of the loop's clock."""

    kind: str
    match: str
    until: float
    board: Board


class PacketFaults:
    """Spoil the packets of a turn as the waiting faults and the lasting ones demand."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._spells: list[_Spell] = []

    def spoil(self, board: Board, places: Sequence[int], now: float) -> tuple[list[int], Sheet]:
        """Return the places of which anything is sent, and what is sent of them.

        `now` is real time, in seconds of any clock that does not jump.
        """
        keys = [board.listing.rows[place].key for place in places]
        self._spells = [spell for spell in self._spells if now < spell.until]
        for kind in ("stale_prices", "missing_instrument"):
            taken = (self._faults.take(kind, key) for key in self._keys_for(kind, keys))
            if fault := next(filter(None, taken), None):
                until = now + fault.seconds
                self._spells.append(_Spell(kind, fault.match, until, board))
        missing = [spell.match for spell in self._spells if spell.kind == "missing_instrument"]
        if missing:
            kept = [row for row, key in enumerate(keys) if not any(m in key for m in missing)]
            places, keys = [places[row] for row in kept], [keys[row] for row in kept]
        at = np.array(places, dtype=np.int64)
        sheet = Sheet.of(board, at)
        self._make_stale(sheet, board, at, keys)
        for row, key in enumerate(self._keys_for("absurd_price", keys)):
            if self._faults.take("absurd_price", key):
                sheet.multiply_last(row, ABSURD_FACTOR)
        return list(places), sheet

    def _make_stale(self, sheet: Sheet, board: Board, places: IntArray, keys: list[str]) -> None:
        for spell in self._spells:
            # The next day's list has other places.
            if spell.kind == "stale_prices" and spell.board.listing is board.listing:
                rows = np.array([row for row, key in enumerate(keys) if spell.match in key], int)
                sheet.replace(rows, Sheet.of(spell.board, places[rows]))

    def _keys_for(self, kind: str, keys: list[str]) -> list[str]:
        """Return the keys to ask a kind of fault about: none while no such fault waits."""
        return keys if any(each.kind == kind for each in self._faults.waiting()) else []


class UpdateFaults:
    """Keep back an order's update, as the real stream is neither in order nor without repeats."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._kept: list[str] = []

    def muddle(self, text: str, key: str) -> list[str]:
        """Return what is sent when an update of an instrument's order comes."""
        if self._faults.take("muddled_updates", key):
            self._kept.append(text)
            return []
        return [text, *self.left()]

    def left(self) -> list[str]:
        """Return what was kept back, each twice, newest first; nothing is kept any more."""
        kept, self._kept = self._kept, []
        return [text for text in reversed(kept) for _ in range(2)]
