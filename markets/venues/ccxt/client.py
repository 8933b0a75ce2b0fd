"""The one seam to ccxt: where the exchange is, who we are there, and what its errors ask of us.

ccxt is imported inside functions only: it brings every exchange it knows, 76 MB, and most services
never speak to one.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from markets.venues import lean_import, own_simulator
from markets.venues.base import OrderUncertain, RateLimited, TokenRefused
from markets.venues.ccxt import errors, signing
from markets.venues.ccxt.errors import Answer
from tradingsite.errors import Degraded, Retry

CLOID_PREFIX = bytes.fromhex("4e444b01")
"""Four bytes by which a client order id is known for ours: NDK and the version of its form."""
TAG_PREFIX = "T1"
TAG_BYTES = 10
_CHECK_BYTES = 2
_TAG = re.compile(r"T1[A-Z2-7]{16}")
_HEX_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_LONGEST_MESSAGE = 300
# What each exchange needs besides: as few requests as possible, and nothing signed unasked.
_OPTIONS: dict[str, dict[str, Any]] = {
    "hyperliquid": {
        "fetchMarkets": {"types": ["swap"]},
    },
    "binance": {
        "defaultType": "swap",
        "fetchMarkets": {"types": ["linear"]},
        "fetchCurrencies": False,
    },
}
# What ccxt's parsers raise for an answer of a shape they did not expect.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """Say where the exchange is and who we are there; secrets stay out of every repr."""

    id: str = "hyperliquid"
    """ccxt's name of it."""
    wallet: str = ""
    private_key: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    url: str = ""
    """Takes the place of the exchange's own host; "" keeps that."""
    symbol: str = "BTC/USDC:USDC"
    leverage: int = 5
    pause_ms: float | None = None
    """Least pause between requests of weight one, None for the exchange's own."""
    timeout_seconds: float = 10.0
    desk: str = ""
    """What names this desk to its own simulator; "" where the exchange is a real one."""

    @property
    def has_keys(self) -> bool:
        """Return whether we can sign in at all."""
        return bool(self.private_key or (self.api_key and self.secret))

    @property
    def account(self) -> str:
        """Return what names the account without giving it away, like "0x2c75…5c23"."""
        if self.wallet:
            return f"{self.wallet[:6]}…{self.wallet[-4:]}"
        return f"key {hashlib.sha256(self.api_key.encode()).hexdigest()[:6]}"

    def told(self, error: Exception) -> str:
        """Return an error's kind and message, short and without secrets or signed addresses."""
        message = str(error)
        for secret in (self.private_key, self.private_key.removeprefix("0x"), self.api_key):
            message = message.replace(secret, "***") if secret else message
        message = message.replace(self.secret, "***") if self.secret else message
        message = re.sub(r"\?\S*", "?…", " ".join(message.split()))
        return f"{type(error).__name__}: {message[:_LONGEST_MESSAGE]}"


def from_settings() -> ExchangeConfig:
    """Return where the exchange is and who we are there, as the settings say."""
    from django.conf import settings

    return ExchangeConfig(
        id=settings.EXCHANGE_ID,
        wallet=settings.EXCHANGE_WALLET,
        private_key=settings.EXCHANGE_PRIVATE_KEY,
        api_key=settings.EXCHANGE_API_KEY,
        secret=settings.EXCHANGE_SECRET,
        url=settings.EXCHANGE_URL,
        desk=settings.SIM_DESK,
    )


def cloid_of(tag: str) -> str:
    """Return the client order id of a tag, 0x and 32 digits; raise ValueError for another's tag.

    Ten bytes of it are the tag itself, which therefore can be read back.
    """
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no tag of ours")
    body = base64.b32decode(tag.removeprefix(TAG_PREFIX))
    return "0x" + (CLOID_PREFIX + body + _check(body)).hex()


def tag_of(cloid: str | None) -> str:
    """Return the tag of a client order id, "" for one that is not ours."""
    try:
        raw = bytes.fromhex((cloid or "").removeprefix("0x"))
    except ValueError:
        return ""
    body = raw[len(CLOID_PREFIX) : len(CLOID_PREFIX) + TAG_BYTES]
    if len(body) != TAG_BYTES or raw != CLOID_PREFIX + body + _check(body):
        return ""
    return TAG_PREFIX + base64.b32encode(body).decode()


def _check(body: bytes) -> bytes:
    return hashlib.sha256(CLOID_PREFIX + body).digest()[:_CHECK_BYTES]


def connect(config: ExchangeConfig, *, with_keys: bool) -> Any:
    """Return a ccxt client that never repeats a request; raise TokenRefused for a malformed key."""
    own_simulator.ensure(config.url, config.desk)
    try:
        kind = getattr(lean_import.module(f"ccxt.{config.id}"), config.id)
    except (ImportError, AttributeError, ValueError):
        raise Degraded(f"ccxt knows no exchange {config.id!r}; correct EXCHANGE_ID") from None
    settings: dict[str, Any] = {
        "timeout": int(config.timeout_seconds * 1_000),
        "enableLastJsonResponse": True,
        "options": {"maxRetriesOnFailure": 0, **_OPTIONS.get(config.id, {"defaultType": "swap"})},
    }
    if config.pause_ms is not None:
        settings["rateLimit"] = config.pause_ms
    if config.wallet:
        settings["walletAddress"] = config.wallet
    if with_keys:
        if config.private_key and not _HEX_KEY.fullmatch(config.private_key):
            # ccxt's own complaint would print it.
            raise TokenRefused("EXCHANGE_PRIVATE_KEY is not a key of 64 hexadecimal digits")
        keys = {
            "privateKey": config.private_key,
            "apiKey": config.api_key,
            "secret": config.secret,
        }
        settings |= {name: value for name, value in keys.items() if value}
    client = kind(settings)
    client.headers = {**(client.headers or {}), **own_simulator.headers(config.desk)}
    if config.url:
        client.urls["api"] = _moved(client.urls["api"], config.url)
    if config.id == signing.CHAIN:
        signing.without_approvals(client)
    # At DEBUG ccxt writes whole requests, with the keys in their headers.
    client.logger = logging.getLogger(f"{__name__}.wire")
    client.logger.setLevel(logging.INFO)
    return client


def _moved(address: Any, root: str) -> Any:
    """Return addresses, nested as ccxt has them, with the root in place of scheme and host."""
    if isinstance(address, dict):
        return {name: _moved(each, root) for name, each in address.items()}
    if not isinstance(address, str):
        return address
    scheme, host, *_ = urlsplit(root)
    return urlunsplit((scheme, host, *urlsplit(address)[2:]))


class Wire:
    """Ask one ccxt client one question at a time, and translate what goes wrong."""

    def __init__(self, config: ExchangeConfig, *, with_keys: bool) -> None:
        self.config = config
        self._with_keys = with_keys
        self._client: Any = None
        self._lock = threading.RLock()

    def client(self) -> Any:
        """Return the client, its markets loaded; raise as `reading` does."""
        with self._lock:
            if self._client is None:
                self.refresh()
            return self._client

    def refresh(self) -> None:
        """Load the exchange's list of today."""
        with self._lock, reading("list of markets", self.config):
            # Without keys, because loading with them lets ccxt sign approvals on the way.
            listed = connect(self.config, with_keys=False)
            listed.load_markets()
            client = self._client or connect(self.config, with_keys=self._with_keys)
            client.set_markets(listed.markets, listed.currencies)
            self._client = client

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return the answer of a unified method that reads; raise as `reading` does."""
        with self._lock:
            client = self.client()
            client.last_json_response = None
            with reading(method, self.config):
                answer = getattr(client, method)(*arguments)
            # ccxt reads an HTML page as an account without positions.
            if not isinstance(client.last_json_response, dict | list):
                raise Degraded(f"{self.config.id} answered {method} with something else than JSON")
            return answer

    def order(self, sent_at: dt.datetime | None, *arguments: Any) -> str:
        """Send one order, once, and return the exchange's id of it; raise as `placing` does.

        Where the exchange is a chain, it is signed with the instant's nonce and an expiry.
        """
        with self._lock:
            client = self.client()
            signs = self.config.id == signing.CHAIN and sent_at is not None
            how = signing.signed_at(client, sent_at) if signs and sent_at else nullcontext()
            with placing(self.config, client), how:
                sent = client.create_order(*arguments)
                found = sent["id"]
            if not found:
                raise OrderUncertain(f"{self.config.id} answered an order without an id for it")
            return str(found)

    def use_up_nonce(self, sent_at: dt.datetime) -> str:
        """Make an order of an instant impossible; return what the exchange says against it.

        Nothing where it agreed. Raises as `reading` does where its answer is not known.
        """
        with self._lock:
            client = self.client()
            client.last_json_response = None
            try:
                with reading("noop", self.config):
                    signing.use_up_nonce(client, sent_at)
            except (Degraded, Retry):
                said = client.last_json_response
                if isinstance(said, dict) and said.get("status") == "err":
                    return str(said.get("response"))
                raise
            return ""


@contextmanager
def reading(what: str, config: ExchangeConfig) -> Iterator[None]:
    """Turn what ccxt raises for a question into RateLimited, Retry, TokenRefused or Degraded."""
    ccxt = lean_import.module("ccxt.base.errors")

    try:
        yield
    except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
        raise RateLimited(f"{config.id} wants fewer requests: {config.told(error)}") from error
    except ccxt.NetworkError as error:
        raise Retry(f"{config.id} was not reached for {what}: {config.told(error)}") from error
    except ccxt.AuthenticationError as error:
        raise TokenRefused(f"{config.id} refuses our keys: {config.told(error)}") from error
    except ccxt.OrderNotFound:
        raise
    except (ccxt.BaseError, *_UNREADABLE) as error:
        raise Degraded(f"{config.id} gave no {what}: {config.told(error)}") from error


@contextmanager
def placing(config: ExchangeConfig, client: Any) -> Iterator[None]:
    """Turn what ccxt raises for an order into a refusal where it is one, else OrderUncertain."""
    ccxt = lean_import.module("ccxt.base.errors")

    seen = _watch_status(client)
    try:
        yield
    except (ccxt.BaseError, *_UNREADABLE) as error:
        answer = Answer(seen[-1] if seen else None, client.last_json_response)
        raise errors.of_placing(error, config.id, answer, config.told(error)) from error
    finally:
        vars(client).pop("on_rest_response", None)


def _watch_status(client: Any) -> list[int]:
    """Return a list that fills with the HTTP status of each answer to a client."""
    seen: list[int] = []
    client.last_json_response = None
    keep = type(client).on_rest_response

    def watch(code: int, *arguments: Any) -> Any:
        seen.append(code)
        return keep(client, code, *arguments)

    client.on_rest_response = watch
    return seen
