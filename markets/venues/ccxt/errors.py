"""What an exchange's answer to an order proves, by its form: refused, or perhaps taken.

Hyperliquid executes nothing of a request that it answers with `status: err`, and nothing of an
order whose status holds an `error`, whatever the text; the one exception is a nonce used before,
which may have been our own order's (its documentation, error responses, nonces). Binance says with
its code what it knows (its documentation, error codes). Of any other exchange only ccxt's class and
a 4xx together count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markets.venues import lean_import
from markets.venues.base import (
    InsufficientFunds,
    OrderRefused,
    OrderUncertain,
    RefusedForRate,
)
from markets.venues.network import never_left

_SERVER = 500
_TOO_MANY = frozenset({418, 429})
_REFUSED = frozenset({400, 401, 403, 404, 422}) | _TOO_MANY
_USED_NONCE, _USED_ID = "duplicate nonce", "cloid"
# Of Binance: unexpected response, time-out, and a client id that an open order of ours has.
_BINANCE_UNKNOWN = frozenset({-1006, -1007, -4116})
_BINANCE_BUSY = -1008
_BINANCE_UNAVAILABLE = ("Service Unavailable", "Internal error; unable to process")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold how an exchange answered a request, as far as it did."""

    status: int | None = None
    """Of HTTP; None where nothing came back."""
    body: Any = None
    """The JSON of it, None where it was none."""


def of_placing(error: Exception, exchange: str, answer: Answer, told: str) -> Exception:
    """Return the error of an order by its reaction; `told` is it in words without secrets."""
    ccxt = lean_import.module("ccxt.base.errors")

    if never_left(error):
        return OrderRefused(f"not sent, as there was no connection to {exchange}: {told}")
    if not _is_refusal(error, exchange, answer):
        return OrderUncertain(f"{exchange} may have taken the order: {told}")
    if answer.status in _TOO_MANY:
        return RefusedForRate(f"{exchange} wants fewer requests: {told}")
    if isinstance(error, ccxt.InsufficientFunds):
        return InsufficientFunds(f"{exchange} wants more margin: {told}")
    return OrderRefused(f"{exchange} refuses the order: {told}")


def _is_refusal(error: Exception, exchange: str, answer: Answer) -> bool:
    if exchange == "hyperliquid":
        return _hyperliquid_refuses(answer)
    if exchange.startswith("binance"):
        return _binance_refuses(answer)
    return _seems_refused(error, answer)


def _hyperliquid_refuses(answer: Answer) -> bool:
    if answer.status is None or answer.status >= _SERVER:
        return False
    said = answer.body if isinstance(answer.body, dict) else {}
    if said.get("status") == "err":
        return _USED_NONCE not in str(said.get("response"))
    if answer.status in _REFUSED:
        return True
    try:
        statuses = said["response"]["data"]["statuses"]
        found = [
            str(each["error"]) for each in statuses if isinstance(each, dict) and "error" in each
        ]
        # A client id that was used before is our own order's.
        return bool(found) and not any(_USED_ID in text.lower() for text in found)
    except (KeyError, TypeError):
        return False


def _binance_refuses(answer: Answer) -> bool:
    said = answer.body if isinstance(answer.body, dict) else {}
    code, text = said.get("code"), str(said.get("msg", ""))
    if answer.status is None:
        return False
    if answer.status >= _SERVER:
        return code == _BINANCE_BUSY or text.startswith(_BINANCE_UNAVAILABLE)
    if isinstance(code, int) and code < 0:
        return code not in _BINANCE_UNKNOWN
    return answer.status in _REFUSED


def _seems_refused(error: Exception, answer: Answer) -> bool:
    ccxt = lean_import.module("ccxt.base.errors")

    if isinstance(error, ccxt.DuplicateOrderId):
        return False  # one of ours is there
    has_class = isinstance(error, ccxt.ExchangeError) and type(error) is not ccxt.ExchangeError
    by_status = answer.status is not None and answer.status in _REFUSED
    is_order = isinstance(error, ccxt.InvalidOrder | ccxt.InsufficientFunds)
    return is_order or (has_class and by_status) or answer.status in _TOO_MANY
