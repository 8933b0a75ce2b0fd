"""The unmodified ccxt pointed at a simulated exchange, on a market clock that a test moves."""

import json
import urllib.request
from typing import Any

import ccxt

from markets.simulator.credentials import EXCHANGE_PRIVATE_KEY, EXCHANGE_WALLET
from markets.simulator.hyperliquid.app import PATH
from tests.desk import ist

SYMBOL = "BTC/USDC:USDC"
HOUR_MS = 3_600_000
CLOID = "0x" + "ab" * 16
PLENTY = 1_000_000.0
"""Weight a minute for tests of something else than the limit."""


class HandClock:
    """A market clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0
        self.reset()

    def __call__(self) -> float:
        return self.at

    def reset(self) -> None:
        """Go back to ten o'clock of the first day."""
        self.at = ist("2026-06-01 10:00").timestamp()

    def pass_by(self, seconds: float) -> None:
        """Let market time pass."""
        self.at += seconds


def client_of(url: str, key: str = EXCHANGE_PRIVATE_KEY, **how: Any) -> ccxt.hyperliquid:
    """Return an unmodified client that is only pointed here."""
    options = {"builderFee": False, "refSet": True, "fetchMarkets": {"types": ["swap"]}}
    made = ccxt.hyperliquid(
        {
            "urls": {"api": {"public": url, "private": url}},
            "walletAddress": EXCHANGE_WALLET,
            "privateKey": key,
            "rateLimit": 1,
            "timeout": 3_000,
            "options": options,
            **how,
        }
    )
    made.load_markets()
    return made


def truth(url: str) -> dict[str, Any]:
    """Return what the exchange itself knows of the account."""
    with urllib.request.urlopen(url + PATH) as answer:  # noqa: S310 - our own address
        found: dict[str, Any] = json.load(answer)["accounts"][EXCHANGE_WALLET]
        return found


def mid(client: ccxt.hyperliquid) -> float:
    return float(client.fetch_ticker(SYMBOL)["last"])


def market_order(client: ccxt.hyperliquid, side: str, amount: float, **params: Any) -> Any:
    return client.create_order(SYMBOL, "market", side, amount, mid(client), params)


def act(client: ccxt.hyperliquid, action: dict[str, Any], nonce: int | None = None) -> Any:
    """Send a signed action as ccxt itself does."""
    nonce = client.incrementing_nonce() if nonce is None else nonce
    signature = client.sign_l1_action(action, nonce)
    return client.private_post_exchange({"action": action, "nonce": nonce, "signature": signature})
