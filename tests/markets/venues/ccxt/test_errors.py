"""An exchange's answer to an order, by its form: refused, or perhaps taken."""

from typing import Any

import ccxt
import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from markets.venues.base import InsufficientFunds, OrderRefused, OrderUncertain, RefusedForRate
from markets.venues.ccxt.errors import Answer, of_placing


def err(text: str) -> dict[str, Any]:
    return {"status": "err", "response": text}


def status(text: str) -> dict[str, Any]:
    data = {"statuses": [{"error": text}]}
    return {"status": "ok", "response": {"type": "order", "data": data}}


# Texts of research/brokers.md 4.1, and one that nobody has heard of.
REFUSED = (
    Answer(200, status("Price too far from oracle asset=4")),
    Answer(200, status("Order has invalid price.")),
    Answer(200, status("Only post-only orders allowed immediately after network upgrade")),
    Answer(200, status("A text that nobody has heard of")),
    Answer(200, err("Must deposit before performing actions. User: 0x1")),
    Answer(200, err("Invalid nonce: nonce too low 1 < 2")),
    Answer(200, err("Too many cumulative requests sent (2 > 1) for cumulative volume traded $1.")),
    Answer(200, err("Trading is halted.")),
    Answer(200, err("Unable to recover signer.")),
    Answer(422, None),
    Answer(400, None),
)
UNKNOWN = (
    Answer(200, err("Invalid nonce: duplicate nonce 17")),
    Answer(200, status("Cloid 0x1 was used before. asset=0")),
    Answer(200, None),
    Answer(200, {"status": "ok"}),
    Answer(502, None),
    Answer(503, err("whatever a proxy says")),
    Answer(None, None),
)
BINANCE_CODES = (-1008, -1013, -1015, -1021, -2010, -2015, -2019, -2022, -2027, -4131, -4192, -4400)
BINANCE_REFUSED = (
    *(Answer(400, {"code": code, "msg": "x"}) for code in BINANCE_CODES),
    Answer(503, {"msg": "Service Unavailable."}),
    Answer(503, {"msg": "Internal error; unable to process your request. Please try again."}),
    Answer(503, {"code": -1008, "msg": "Server is currently overloaded"}),
)
BINANCE_UNKNOWN = (
    Answer(400, {"code": -1006, "msg": "An unexpected response was received"}),
    Answer(408, {"code": -1007, "msg": "Timeout waiting for response from backend server."}),
    Answer(400, {"code": -4116, "msg": "ClientOrderId is duplicated."}),
    Answer(503, {"msg": "Unknown error, please check your request or try again later."}),
    Answer(503, {"code": -1000, "msg": "An unknown error occurred"}),
    Answer(500, None),
    Answer(None, None),
)


@pytest.mark.parametrize("answer", REFUSED, ids=str)
def test_hyperliquid_refuses(answer: Answer) -> None:
    found = of_placing(ccxt.ExchangeError("x"), "hyperliquid", answer, "told")
    assert isinstance(found, OrderRefused)


@pytest.mark.parametrize("answer", UNKNOWN, ids=str)
def test_hyperliquid_may_have_taken_it(answer: Answer) -> None:
    # Whatever class ccxt makes of it.
    found = of_placing(ccxt.InvalidOrder("x"), "hyperliquid", answer, "told")
    assert isinstance(found, OrderUncertain)


@pytest.mark.parametrize("answer", BINANCE_REFUSED, ids=str)
def test_binance_refuses(answer: Answer) -> None:
    found = of_placing(ccxt.OperationFailed("x"), "binanceusdm", answer, "told")
    assert isinstance(found, OrderRefused)


@pytest.mark.parametrize("answer", BINANCE_UNKNOWN, ids=str)
def test_binance_may_have_taken_it(answer: Answer) -> None:
    found = of_placing(ccxt.OperationFailed("x"), "binance", answer, "told")
    assert isinstance(found, OrderUncertain)


def test_the_kinds_of_refusals_are_told_apart() -> None:
    poor = of_placing(
        ccxt.InsufficientFunds("x"), "hyperliquid", Answer(200, status("Insufficient margin")), ""
    )
    assert isinstance(poor, InsufficientFunds)
    fast = of_placing(ccxt.RateLimitExceeded("x"), "hyperliquid", Answer(429, None), "")
    assert isinstance(fast, RefusedForRate)


def test_another_exchange_refuses_by_class_and_status_together() -> None:
    answer = Answer(400, {"error": "x"})
    assert isinstance(of_placing(ccxt.BadRequest("x"), "kraken", answer, ""), OrderRefused)
    assert isinstance(of_placing(ccxt.ExchangeError("x"), "kraken", answer, ""), OrderUncertain)
    there = of_placing(ccxt.DuplicateOrderId("x"), "kraken", answer, "")
    assert isinstance(there, OrderUncertain)


@pytest.mark.parametrize("exchange", ["hyperliquid", "binance", "kraken"])
def test_what_found_no_connection_never_left(exchange: str) -> None:
    refused = NewConnectionError(None, "connection refused")  # type: ignore[arg-type]
    cause = requests.ConnectionError(MaxRetryError(None, "/", refused))  # type: ignore[arg-type]
    error = ccxt.NetworkError("x")
    error.__cause__ = cause
    assert isinstance(of_placing(error, exchange, Answer(), ""), OrderRefused)
    error.__cause__ = requests.ConnectionError("Connection aborted.")
    assert isinstance(of_placing(error, exchange, Answer(), ""), OrderUncertain)
    error.__cause__ = requests.exceptions.ConnectTimeout("x")
    assert isinstance(of_placing(error, exchange, Answer(), ""), OrderRefused)
