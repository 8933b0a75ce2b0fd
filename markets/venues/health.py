"""Is a venue fit to be used: what a person checks before the session, with what to do about it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from markets.venues.base import TokenRefused
from markets.venues.kite.token import KiteConfig, TokenStore
from markets.venues.kite.venue import KiteVenue
from markets.venues.limiter import RateLimiter
from tradingsite import clock
from tradingsite.errors import Degraded, Retry
from tradingsite.format import ago, ist_near, money

if TYPE_CHECKING:
    from markets.venues.ccxt.venue import ExchangeVenue

CLOCK_SECONDS = 2.0
TIMEOUT_SECONDS = 7.0
# The Date of an HTTP answer has whole seconds: on average the truth is half of one later.
_HALF_SECOND = dt.timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class Finding:
    """Say one thing that was looked at, and where it is wrong, what to do."""

    name: str
    value: str
    remedy: str = ""

    @property
    def is_wrong(self) -> bool:
        """Return whether something has to be done."""
        return bool(self.remedy)


def of_kite(
    config: KiteConfig, tokens: TokenStore, limiter: RateLimiter, venue: KiteVenue
) -> Iterator[Finding]:
    """Give the findings about the broker; it ends where nothing more can be found out."""
    if not config.api_key or not config.api_secret:
        yield Finding(
            "key",
            "missing",
            "set KITE_API_KEY and KITE_API_SECRET (or KITE_API_SECRET_FILE) in .env",
        )
        return
    yield Finding("key", "set")
    reachable, offset = _asked_for_the_time(config.root)
    yield reachable
    if offset is None:
        return
    yield _clock(offset, CLOCK_SECONDS)
    yield _token(tokens)
    if not tokens.current():
        return
    began = time.monotonic()
    profile = _tried("account", lambda: _account(venue))
    yield profile
    yield Finding("latency", f"{1_000 * (time.monotonic() - began):.0f} ms, waiting for a turn too")
    if not profile.is_wrong:
        yield _tried("margins", lambda: _margins(venue))
    for rule, left in limiter.headroom().items():
        remedy = "" if left else "wait: something else on this machine uses the whole limit"
        yield Finding(f"left: {rule}", str(left), remedy)


def of_exchange(venue: ExchangeVenue) -> Iterator[Finding]:
    """Give the findings about the crypto exchange; it ends where nothing more can be found out."""
    if not venue.config.has_keys:
        yield Finding(
            "keys",
            "missing",
            "set EXCHANGE_WALLET and EXCHANGE_PRIVATE_KEY, or EXCHANGE_API_KEY and "
            "EXCHANGE_SECRET, in .env",
        )
        return
    try:
        health = venue.health()
    except (Degraded, Retry, TokenRefused) as error:
        yield Finding("exchange", str(error), _remedy(error))
        return
    yield Finding("exchange", str(health["exchange"]))
    yield Finding("account", str(health["account"]))
    yield _clock(float(str(health["clock_offset_s"])), CLOCK_SECONDS * max(1.0, clock.speed()))
    yield Finding("latency", f"{health['latency_ms']} ms")
    for name in ("margins", "fees"):
        parts = health[name]
        if isinstance(parts, dict):
            yield Finding(name, ", ".join(f"{part} {value}" for part, value in parts.items()))
    asked, allowed = health["requests_last_minute"], health["requests_allowed_a_minute"]
    yield Finding("requests", f"{asked} in the last minute, {allowed} allowed")


def _asked_for_the_time(root: str) -> tuple[Finding, float | None]:
    """Return whether a host answers, and by how many seconds its clock is ahead of ours."""
    host = urlsplit(root).netloc
    try:
        before = clock.real()
        answer = requests.get(root, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        theirs = parsedate_to_datetime(answer.headers["Date"]) + _HALF_SECOND
    except (requests.RequestException, KeyError, ValueError) as error:
        remedy = "check the network and KITE_ROOT; in simulated mode, start the desk: make run"
        return Finding("host", f"{host} is not reached: {type(error).__name__}", remedy), None
    ours = before + (clock.real() - before) / 2
    return Finding("host", f"{host} answers"), (theirs - ours).total_seconds()


def _clock(offset_seconds: float, allowed_seconds: float) -> Finding:
    value = f"theirs is {abs(offset_seconds):.1f} s {'ahead' if offset_seconds > 0 else 'behind'}"
    if abs(offset_seconds) <= allowed_seconds:
        return Finding("clock", value)
    return Finding("clock", value, "set this machine's clock: timedatectl set-ntp true")


def _token(tokens: TokenStore) -> Finding:
    state, age = tokens.state(), tokens.age
    if age is None or state.dies_at is None:
        return Finding("token", "none", "sign in at /kite/ on the dashboard")
    now = clock.market()
    value = f"obtained {ago(age.total_seconds())}, good until {ist_near(state.dies_at, now)} IST"
    if tokens.is_refused_on(clock.trading_date(now)):
        return Finding("token", f"{value}; no trading today", "sign in at /kite/ on the dashboard")
    return Finding("token", value)


def _account(venue: KiteVenue) -> str:
    profile = venue.profile()
    return f"{profile['user_id']}, {', '.join(profile.get('exchanges', []))}"


def _margins(venue: KiteVenue) -> str:
    margins = venue.margins()
    available, used = (money(each, margins.currency) for each in (margins.available, margins.used))
    return f"{available} available, {used} used"


def _tried(name: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ask())
    except (Degraded, Retry) as error:
        return Finding(name, str(error), _remedy(error))


def _remedy(error: Exception) -> str:
    if isinstance(error, TokenRefused):
        return "sign in again: /kite/ for the broker, new keys in .env for the exchange"
    if isinstance(error, Retry):
        return "try again in a minute; if it stays, check the network and the venue's status page"
    return "read the message; it names the setting or what the venue did not like"
