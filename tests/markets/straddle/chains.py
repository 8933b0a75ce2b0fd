"""A small chain and ticks for it, without a broker."""

import datetime as dt
from decimal import Decimal

from markets.straddle.roller import Chain, Follower, Row, SeriesKey, chain_of
from markets.straddle.underlyings import Underlying
from markets.venues.base import Tick, VenueInstrument
from tradingsite import clock

TEN = dt.datetime(2026, 6, 1, 10, 0, tzinfo=clock.IST)
EXPIRY = dt.date(2026, 6, 2)
STEP = 50
STRIKES = range(24_500, 25_501, STEP)


def instrument(kind: str, strike: int, expiry: dt.date | None = EXPIRY) -> VenueInstrument:
    """Return one row of a list; the index has no expiry."""
    name = f"NIFTY {expiry} {strike} {kind}" if expiry else "NIFTY"
    token = 1 if not expiry else expiry.toordinal() * 1_000_000 + strike * 10 + (kind == "PE")
    return VenueInstrument(
        *(name, name, token, kind, "NIFTY", expiry, Decimal(strike)), Decimal(65), Decimal("0.05")
    )


def listed() -> list[VenueInstrument]:
    """Return a list with two expiries and a strike that has no put."""
    rows = [instrument("INDEX", 0, None)]
    for expiry in (EXPIRY + dt.timedelta(days=7), EXPIRY):
        for strike in STRIKES:
            rows += [instrument("CE", strike, expiry), instrument("PE", strike, expiry)]
    return [*rows, instrument("CE", 26_000)]


def chain() -> Chain:
    """Return the chain of the nearest expiry."""
    return chain_of("NIFTY", listed(), TEN.date())


def follower(*widths: int) -> Follower:
    """Return a follower that has seen nothing."""
    return Follower(Underlying("NIFTY", widths or (0, 2)), chain())


def spot(last: float, at: dt.datetime = TEN) -> Tick:
    """Return a tick of the index."""
    return Tick("NIFTY", last, 0.0, 0.0, 0, 0, at)


def option(strike: int, kind: str, last: float, at: dt.datetime = TEN) -> Tick:
    """Return a tick of an option, with its book round the price."""
    return Tick(f"NIFTY {EXPIRY} {strike} {kind}", last, last * 0.99, last * 1.01, 1, 1, at)


def key(strike: int = 25_000, width: int = 0, since: dt.datetime = TEN) -> SeriesKey:
    """Return a series' name."""
    away = width * STEP
    return SeriesKey(
        *("NIFTY", EXPIRY, width, strike * 100),
        *((strike + away) * 100, (strike - away) * 100, since),
    )


def row(number: int, second: int = 0, series: SeriesKey | None = None) -> Row:
    """Return a row of a series."""
    ts = TEN + dt.timedelta(seconds=second)
    return Row(series or key(), ts, number, 10_000 + second, 9_000 + number, 2_500_000)
