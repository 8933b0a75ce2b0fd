"""What each error of the broker's asks for: of reading, to wait or go on; of placing, to be sure.

An order's refusal is known by its form and not by its words: the broker answers 400 to what it did
not take, whatever it says, with the one exception of a time-out, which it tells with 400 as well
(staff, kite.trade/forum 41029, 27820, 35150, 51118). 403, 404, 405, 410 and 429 are refusals too;
anything else may have arrived. Should a refused order be in the book after all, the next reading
takes it back by its tag.
"""

from __future__ import annotations

import re

import requests

from markets.venues.base import (
    InsufficientFunds,
    OrderRefused,
    OrderUncertain,
    RateLimited,
    RefusedForRate,
    RefusedForToken,
    TokenRefused,
)
from markets.venues.network import never_left
from tradingsite.errors import Degraded, Retry

MESSAGE_CHARACTERS = 200
_BAD_REQUEST, _FORBIDDEN, _TOO_MANY, _SERVER = 400, 403, 429, 500


# github.com/zerodha/pykiteconnect/issues/226 for the text about funds.
_FUNDS = re.compile(r"insufficient (funds|margin|stock holding)|margin exceeds", re.IGNORECASE)
_TIMED_OUT = re.compile(r"timed? ?out|confirm before placing again", re.IGNORECASE)
_PAGE = re.compile(r"Unknown Content-Type.*", re.DOTALL)
_REFUSED = frozenset({400, 403, 404, 405, 410})


def of_reading(error: Exception, status: int = 0) -> Exception:
    """Return the error by its reaction, for a call that changes nothing.

    `status` is the HTTP status of the last answer (`kite_login.client`). The client gives every
    answer that is no JSON as a DataException of 502, be it a 429 or the page of a gateway that is
    right again in a second.
    """
    name, code, said = _parts(error)
    if name == "DataException" or not code:
        code = status or code
    if name == "TokenException":
        return TokenRefused(f"the broker refuses the token: {said}. Sign in again at /kite/")
    if code == _TOO_MANY:
        return RateLimited(f"the broker wants us slower: {said}")
    if isinstance(error, requests.RequestException):
        return Retry(f"the broker did not answer: {type(error).__name__}")
    if code >= _SERVER:
        return Retry(f"the broker has trouble of its own (HTTP {code}): {said or name}")
    if name == "DataException":
        return Retry(f"the broker answered with what is no JSON (HTTP {code}): {said}")
    if not code or code < _BAD_REQUEST:
        return Degraded(f"the broker's answer cannot be read: {said or name}")
    return Degraded(f"the broker refused the request: {said}")


def of_placing(error: Exception) -> Exception:
    """Return the error by its reaction, for a request to place an order."""
    name, code, said = _parts(error)
    if code == _FORBIDDEN and name == "TokenException":
        return RefusedForToken(f"the broker refuses the token: {said}. Sign in again at /kite/")
    if code == _TOO_MANY:
        return RefusedForRate(f"the broker wants us slower: {said}")
    if never_left(error):
        return OrderRefused(f"not sent, as there was no connection: {type(error).__name__}")
    if code in _REFUSED and not (code == _BAD_REQUEST and _TIMED_OUT.search(str(error))):
        return InsufficientFunds(said) if _FUNDS.search(said) else OrderRefused(said)
    return OrderUncertain(f"it is not known whether the order arrived: {said or name}")


def _parts(error: Exception) -> tuple[str, int, str]:
    """Return an error's class, the HTTP status of the broker's own errors (else 0), its text."""
    code = getattr(error, "code", 0)
    # A page that came instead of JSON tells a person nothing.
    said = " ".join(_PAGE.sub("a page", str(error)).split())[:MESSAGE_CHARACTERS]
    return type(error).__name__, code if isinstance(code, int) else 0, said
