"""The words of an exchange's rows as the desk's: how an order ended, and whose hand it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# ccxt's unified words.
STATES = {
    "open": "open",
    "closed": "filled",
    "canceled": "cancelled",
    "canceling": "open",
    "expired": "cancelled",
    "rejected": "rejected",
}
# Of the exchanges' own words, which ccxt hands on where it does not know them.
_ENDINGS = (("cancel", "cancelled"), ("expire", "cancelled"), ("reject", "rejected"))
_FORCED_BY = ("Liquidated", "Auto-Deleveraging", "Settlement")


def state_of(word: Any) -> str:
    """Return open, filled, cancelled or rejected; nothing for a word that says none of these."""
    text = str(word or "")
    if text in STATES:
        return STATES[text]
    return next((state for part, state in _ENDINGS if part in text.lower()), "")


def is_forced(raw: Mapping[str, Any], wallet: str) -> bool:
    """Return whether the exchange itself made an execution: a liquidation, an ADL, a settlement.

    The other side of somebody's liquidation carries the same field, with his address.
    """
    if str(raw.get("dir") or "").startswith(_FORCED_BY):
        return True
    forced = raw.get("liquidation") or {}
    return bool(wallet) and str(forced.get("liquidatedUser") or "").lower() == wallet.lower()
