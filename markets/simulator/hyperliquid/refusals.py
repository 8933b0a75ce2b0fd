"""Refusals on demand, in the exchange's words: of one order, of a whole request, by HTTP.

Sources: the exchange's documentation, "Error responses", and answers that others have captured;
how "already expired" is worded is not documented. Whatever the words, nothing is executed. Orders
that are refused for their form leave no trace in the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

UNREADABLE = "Failed to deserialize the JSON body into the target type"


class Refused(Exception):
    """The exchange refuses a whole request, in its own words."""


class Refusal(Exception):
    """The exchange takes no such order, and says why in the message."""

    def __init__(self, status: str | None, message: str) -> None:
        """Take the status that the order has in the history (None: it is not there), and words."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class OrderText:
    """Hold how one order is refused."""

    text: str
    status: str | None


_CAPPED = "Order would increase open interest while open interest is capped"
ORDERS: Mapping[str, OrderText] = {
    "reject": OrderText("Insufficient margin to place order.", "perpMarginRejected"),
    "reject_oracle": OrderText("Price too far from oracle", "oracleRejected"),
    "reject_too_far": OrderText("Order price too far from oracle", "oracleRejected"),
    "reject_invalid_price": OrderText("Order has invalid price.", None),
    "reject_too_large": OrderText("Order value too large. Max is $30000000.", None),
    "reject_halted": OrderText("Trading is halted.", None),
    # For minutes after an upgrade every immediate order is refused, exits too.
    "reject_post_only": OrderText(
        "Only post-only orders allowed immediately after network upgrade", None
    ),
    "reject_margin_tier": OrderText(
        "Order would cause position to exceed margin tier limit at current leverage",
        "perpMaxPositionRejected",
    ),
    "reject_open_interest_cap": OrderText(_CAPPED, "positionIncreaseAtOpenInterestCapRejected"),
    "reject_open_interest_flip": OrderText(_CAPPED, "positionFlipAtOpenInterestCapRejected"),
    "reject_open_interest_price": OrderText(
        "Order rejected due to price more aggressive than oracle while at open interest cap",
        "tooAggressiveAtOpenInterestCapRejected",
    ),
    "reject_open_interest_increase": OrderText(
        "Order would increase open interest too quickly", "openInterestIncreaseRejected"
    ),
    "reject_no_liquidity": OrderText(
        "No liquidity available for market order.", "marketOrderNoLiquidityRejected"
    ),
    "reject_tick": OrderText("Price must be divisible by tick size.", "tickRejected"),
    "reject_minimum": OrderText("Order must have minimum value of $10.", "minTradeNtlRejected"),
    "reject_reduce_only": OrderText(
        "Reduce only order would increase position.", "reduceOnlyRejected"
    ),
}
CUMULATIVE = (
    "Too many cumulative requests sent ({sent} > {allowed}) for cumulative volume traded "
    "${traded}. Place taker orders to free up 1 request per USDC traded."
)
EXPIRED = "Action already expired: {expires} < {now}"
NO_WALLET = "User or API Wallet {signer} does not exist."
REQUESTS: Mapping[str, str] = {
    "err_wallet": NO_WALLET,
    "err_deposit": "Must deposit before performing actions. User: {signer}",
    "err_signer": "Unable to recover signer.",
    "err_multi_sig": "Multi-sig required",
    "err_halted": "Trading is halted.",
    "err_nonce_low": "Invalid nonce: nonce too low {nonce} < {now}",
    "err_nonce_high": "Invalid nonce: nonce too high {nonce} > {now}",
    "err_nonce_duplicate": "Invalid nonce: duplicate nonce {nonce}",
    "err_expired": EXPIRED.format(expires="{nonce}", now="{now}"),
    "err_cumulative_requests": CUMULATIVE.format(sent=10_437, allowed=10_436, traded="437.92"),
}
STATUSES: Mapping[str, tuple[int, str]] = {
    "http_400": (400, "Bad Request"),
    "http_401": (401, "Unauthorized"),
    "http_403": (403, "Forbidden"),
    "http_404": (404, "Not Found"),
    "http_422": (422, UNREADABLE),
    "http_429": (429, "null"),
}
FAULTS = {
    **{kind: f"refuses the next order: {each.text!r}" for kind, each in ORDERS.items()},
    **{kind: f"refuses a whole request: {each!r}" for kind, each in REQUESTS.items()},
    **{kind: f"answers {code}, and does nothing" for kind, (code, _) in STATUSES.items()},
}
