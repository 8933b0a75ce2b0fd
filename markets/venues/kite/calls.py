"""How the broker is called: by whose client, with which token, at what pace, and what errors mean.

The client's sessions do not belong to more than one thread, so each thread has its own. Every call
waits its turn at the limiter that all processes of the account share, and uses the token that the
store has now.
"""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

from markets.domain.calendar import Calendar
from markets.venues.base import RateLimited, TokenRefused, VenueInstrument
from markets.venues.kite import errors, rows
from markets.venues.kite.login import client
from markets.venues.kite.products import OVERNIGHT
from markets.venues.kite.rows import Directory
from markets.venues.kite.token import KiteConfig, TokenStore
from markets.venues.limiter import OTHER, RateLimiter
from markets.venues.odd_rows import OddRows
from markets.venues.own_simulator import ForeignSimulator
from tradingsite import clock

EXCHANGES = ("NFO", "BFO", "NSE", "BSE")
# The broker's older pages speak of a cool-down of ten seconds after a 429.
COOL_DOWN_SECONDS = 10.0
# The list of the day is made in the early morning.
LISTED_AT = dt.time(8, 30)


class KiteCalls:
    """Call one account at the broker."""

    name = "kite"

    def __init__(
        self,
        config: KiteConfig,
        tokens: TokenStore,
        limiter: RateLimiter,
        calendar: Calendar,
        product: str = OVERNIGHT,
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._limiter = limiter
        self._calendar = calendar
        self.product = product
        self.odd_rows = OddRows(self.name)
        self._local = threading.local()
        self._listed: tuple[object, Directory] | None = None
        self._listing = threading.Lock()
        self._last: dict[str, Decimal] = {}

    def profile(self) -> dict[str, Any]:
        """Return who the token signs us in as."""
        return dict(self._read(OTHER, "profile"))

    def _read(self, kind: str, method: str, *arguments: Any) -> Any:
        """Call a method of the client's that may be repeated; raise its errors by reaction."""
        kite = self._client()
        self._limiter.acquire(kind)
        try:
            return getattr(kite, method)(*arguments)
        except ForeignSimulator:
            raise
        except Exception as error:
            reaction = errors.of_reading(error, kite.answered_with)
            self._slow_down(reaction)
            raise reaction from error

    def _client(self) -> Any:
        token = self._tokens.current()
        if not token:
            raise TokenRefused("there is no token of the day: sign in at /kite/")
        kite = getattr(self._local, "kite", None)
        if kite is None:
            kite = self._local.kite = client(self._config, token)
        kite.set_access_token(token)
        return kite

    def _slow_down(self, reaction: Exception) -> None:
        if isinstance(reaction, RateLimited):
            self._limiter.pause(COOL_DOWN_SECONDS)

    def _directory(self) -> Directory:
        """Return the day's list, fetched once, and again when the morning's has come out."""
        now = clock.market().astimezone(clock.IST)
        key = (now.date(), now.time() >= LISTED_AT)
        with self._listing:
            if self._listed is None or self._listed[0] != key:
                found: list[VenueInstrument] = []
                for exchange in EXCHANGES:
                    # Not by the client's `instruments`: it parses the dates of all 40,000 rows by
                    # guessing their form, for ten seconds, and the desk wants one row in ten.
                    where = {"exchange": exchange}
                    found += rows.listed(self._read(OTHER, "_get", "market.instruments", where))
                self._listed = key, Directory.of(found)
            return self._listed[1]
