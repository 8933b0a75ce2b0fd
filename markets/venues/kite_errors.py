"""What each error of the broker's asks for: of reading, to wait or go on; of placing, to be sure.

The client has no class for want of margin and calls it a general error, and the broker answers 400
both to what it refused and to what it lost sight of. So an order counts as refused only by a class
and a text on the list below, or where it provably never left; anything else may have arrived.
"""

from __future__ import annotations

import re

import requests

from markets.venues.base import (
    InsufficientFunds,
    OrderRefused,
    OrderUncertain,
    RateLimited,
    TokenRefused,
)
from tradingsite.errors import Degraded, Retry

MESSAGE_CHARACTERS = 200
_BAD_REQUEST, _FORBIDDEN, _TOO_MANY, _SERVER = 400, 403, 429, 500


class RefusedForToken(OrderRefused, TokenRefused):
    """The order was refused because the broker does not take our token."""


class RefusedForRate(OrderRefused, RateLimited):
    """The order was refused, or never sent, because we are too fast."""


# https://kite.trade/docs/connect/v3/exceptions/, kite.trade/forum 15912 and 35732, and
# github.com/zerodha/pykiteconnect/issues/226 for the text about funds.
_FUNDS = re.compile(r"insufficient (funds|margin|stock holding)|margin exceeds", re.IGNORECASE)
_AMBIGUOUS = re.compile(r"timed? ?out|order ?book", re.IGNORECASE)
_REFUSALS = {
    "InputException": re.compile(
        r"^missing or empty field|^invalid `?\w+|lot size|tick size|freeze (limit|quantity)"
        r"|market.protection|quantity should be|cannot be traded|is not allowed"
        r"|expired or does not exist",
        re.IGNORECASE,
    ),
    "OrderException": re.compile(
        r"circuit limit|markets? (is|are) closed|freeze (limit|quantity)"
        r"|expired or does not exist|not allowed",
        re.IGNORECASE,
    ),
}


def of_reading(error: Exception) -> Exception:
    """Return the error by its reaction, for a call that changes nothing."""
    name, code, said = _parts(error)
    if name == "TokenException":
        return TokenRefused(f"the broker refuses the token: {said}. Sign in again at /kite/")
    if code == _TOO_MANY:
        return RateLimited(f"the broker wants us slower: {said}")
    if isinstance(error, requests.RequestException):
        return Retry(f"the broker did not answer: {type(error).__name__}")
    if name == "DataException" or not code:
        return Degraded(f"the broker's answer cannot be read: {said or name}")
    if code >= _SERVER:
        return Retry(f"the broker has trouble of its own: {said}")
    return Degraded(f"the broker refused the request: {said}")


def of_placing(error: Exception) -> Exception:
    """Return the error by its reaction, for a request to place an order."""
    name, code, said = _parts(error)
    if code == _FORBIDDEN and name == "TokenException":
        return RefusedForToken(f"the broker refuses the token: {said}. Sign in again at /kite/")
    if code == _FORBIDDEN and name == "PermissionException":
        return OrderRefused(said)
    if code == _TOO_MANY:
        return RefusedForRate(f"the broker wants us slower: {said}")
    if _never_left(error):
        return OrderRefused(f"not sent, as there was no connection: {type(error).__name__}")
    if code == _BAD_REQUEST and not _AMBIGUOUS.search(said):
        if name == "GeneralException" and _FUNDS.search(said):
            return InsufficientFunds(said)
        refusal = _REFUSALS.get(name)
        if refusal and refusal.search(said):
            return OrderRefused(said)
    return OrderUncertain(f"it is not known whether the order arrived: {said or name}")


def _parts(error: Exception) -> tuple[str, int, str]:
    """Return an error's class, the HTTP status of the broker's own errors (else 0), its text."""
    code = getattr(error, "code", 0)
    said = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
    return type(error).__name__, code if isinstance(code, int) else 0, said


def _never_left(error: Exception) -> bool:
    """Return whether no connection was made, so that no byte of the order can have arrived."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    reason = getattr(cause, "reason", None)
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError"}
