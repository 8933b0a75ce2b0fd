"""The venues as the settings describe them."""

import hashlib
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from markets.domain.calendar import Calendar
from markets.venues import odd_row_notices
from markets.venues.ccxt.client import from_settings
from markets.venues.ccxt.venue import ExchangeVenue
from markets.venues.kite.token import KiteConfig, TokenStore
from markets.venues.kite.venue import KiteVenue
from markets.venues.limiter import KITE_RULES, RateLimiter


def kite_config() -> KiteConfig:
    """Return where the broker is and who we are there."""
    return KiteConfig(
        api_key=settings.KITE_API_KEY,
        api_secret=settings.KITE_API_SECRET,
        user_id=settings.KITE_USER_ID,
        password=settings.KITE_PASSWORD,
        totp_secret=settings.KITE_TOTP_SECRET,
        root=settings.KITE_ROOT,
        login_root=settings.KITE_LOGIN_ROOT,
        ws_root=settings.KITE_WS_ROOT,
        desk=settings.SIM_DESK,
    )


def kite_token() -> TokenStore:
    """Return the store of the broker's day token."""
    return TokenStore(Path(settings.DATA_DIR) / "secrets" / "kite_token.json")


def kite_limiter() -> RateLimiter:
    """Return the limiter that all processes of this machine share for the broker's account."""
    # The account's name stays out of the file's, which backups and listings show.
    account = hashlib.sha256(settings.KITE_API_KEY.encode()).hexdigest()[:12]
    # The simulated broker counts by the market's seconds, which pass quicker than ours.
    speed = settings.SIM_SPEED if settings.MODE == "simulated" else 1.0
    rules = tuple(replace(rule, seconds=rule.seconds / speed) for rule in KITE_RULES)
    return RateLimiter(Path(settings.DATA_DIR) / "limits" / f"kite-{account}", rules)


def kite_venue(calendar: Calendar) -> KiteVenue:
    """Return the broker's venue on this machine's token and limiter."""
    venue = KiteVenue(
        kite_config(), kite_token(), kite_limiter(), calendar, product=settings.KITE_PRODUCT
    )
    venue.odd_rows.tell_people = odd_row_notices.tell
    return venue


def exchange_venue() -> ExchangeVenue:
    """Return the exchange's venue with this machine's keys."""
    venue = ExchangeVenue(from_settings())
    venue.odd_rows.tell_people = odd_row_notices.tell
    return venue
