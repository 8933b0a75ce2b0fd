"""The assets there are: two markets of the desk's own, and what was imported from files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from django.conf import settings
from django.db import connections, transaction

from markets import store
from markets.allocator.metrics import Series, day_number
from markets.allocator.models import AssetBar, ImportedAsset
from markets.domain.bars import Bars
from markets.domain.calendar import DAY_SECONDS, trading_date
from markets.domain.plausibility import adjusted, leaps
from markets.imports import bars as bar_files
from markets.venues.paper import PaperVenue
from tradingsite.registry import MARKETS

# Each market's class, and the timeframe that its days are made of.
OWN = {"nifty": ("equity", "1d"), "btc": ("crypto", "4h")}
CALENDAR = "nifty"
"""Whose days an imported file of dates is read by."""


class BadAsset(ValueError):
    """A name, a file or a setting that the allocator cannot use; the message says why."""


@dataclass(frozen=True, slots=True)
class Current:
    """Hold the current weights, which add up to one, and where they come from."""

    weights: dict[str, float]
    comes_from: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Say what came of a file: its span, and how many closes are new or changed."""

    first: dt.date
    last: dt.date
    closes: int
    changed: int


def all_series() -> list[Series]:
    """Return the daily closes of every asset; one of the desk's markets may have none."""
    own = [_of_market(market, *OWN[market]) for market in OWN]
    return own + [_of_file(asset) for asset in ImportedAsset.objects.order_by("name")]


def current_weights(names: set[str]) -> Current:
    """Return what part of the whole each asset has now; raise BadAsset for a wrong setting.

    What the owner wrote down goes first, since only he knows what lies elsewhere. Without it they
    are the simulated accounts' worth, which a desk with real accounts does not have.
    """
    if written := settings.ALLOCATOR_CURRENT:
        return Current(_parsed(written, names), "ALLOCATOR_CURRENT")
    if settings.MODE == "live":
        return Current({}, "unknown: write them down as ALLOCATOR_CURRENT=nifty=0.5,btc=0.3,...")
    worths = {market: _worth(market) for market in OWN}
    whole = sum(worths.values(), Decimal(0))
    if whole <= 0:
        return Current({}, "unknown: the simulated accounts are worth nothing")
    weights = {market: float(worth / whole) for market, worth in worths.items()}
    said = f"the simulated accounts' worth before charges, 1 USDC at {settings.USDC_INR:g} INR"
    return Current(dict.fromkeys(names, 0.0) | weights, said)


def import_closes(
    name: str,
    path: Path,
    asset_class: str,
    currency: str,
    splits: Mapping[int, float] | None = None,
    *,
    anyway: bool = False,
) -> Imported:
    """Store the daily closes of a file, all or none; raise BadFile or BadAsset.

    `splits` maps the midnight (IST) of a corporate action to the ratio by which closes before it
    are divided. A leap that no such action explains is refused, unless it is taken `anyway`.
    The file is one of daily bars as `importbars` takes them; importing it again changes nothing.
    """
    if name in MARKETS:
        raise BadAsset(f"{name} is a market of the desk's own: its bars come by importbars")
    bars = bar_files.read_bars(path, CALENDAR, "1d", store.load_calendar(CALENDAR), any_day=True)
    bars = adjusted(bars, "1d", splits or {})
    dates = [trading_date(at) for at in bars.opens_at.tolist()]
    for row, cause in leaps(bars.close) if not anyway else ():
        raise BadAsset(
            f"{path}: {name} closes at {bars.close[row]:g} on {dates[row]:%d %b %Y} after "
            f"{bars.close[row - 1]:g}: {cause}. State a split with --adjust "
            f"{dates[row]:%Y-%m-%d}=RATIO, or take it with --anyway"
        )
    closes = [f"{close:.4f}" for close in bars.close.tolist()]
    with transaction.atomic(using="allocator"):
        asset, _ = ImportedAsset.objects.update_or_create(
            name=name, defaults={"asset_class": asset_class, "currency": currency}
        )
        changed = _put(asset, dates, closes)
    return Imported(dates[0], dates[-1], len(dates), changed)


def days_of(bars: Bars) -> Bars:
    """Return the last bar of each whole day in UTC, which is a perpetual's day."""
    ends_a_day = bars.closes_at % DAY_SECONDS == 0
    return Bars(
        *(
            getattr(bars, name)[ends_a_day]
            for name in ("opens_at", "closes_at", "open", "high", "low", "close", "volume")
        )
    )


def _of_market(market: str, asset_class: str, timeframe: str) -> Series:
    bars = store.load_bars(market, timeframe)
    if timeframe != "1d":
        bars = days_of(bars)
        days = bars.closes_at // DAY_SECONDS - 1
    else:
        dates = [day_number(trading_date(at)) for at in bars.opens_at.tolist()]
        days = np.array(dates, dtype=np.int64)
    return Series(market, asset_class, MARKETS[market].currency, days, bars.close)


def _of_file(asset: ImportedAsset) -> Series:
    rows = list(asset.bars.order_by("date").values_list("date", "close"))
    days = np.array([day_number(date) for date, _ in rows], dtype=np.int64)
    closes = np.array([float(close) for _, close in rows], dtype=np.float64)
    return Series(asset.name, asset.asset_class, asset.currency, days, closes)


def _worth(market: str) -> Decimal:
    margins = PaperVenue(market, store.load_calendar(market)).margins()
    rate = Decimal(1) if margins.currency == "INR" else Decimal(str(settings.USDC_INR))
    return max((margins.available + margins.used) * rate, Decimal(0))


def _parsed(written: str, names: set[str]) -> dict[str, float]:
    """Return the weights of a setting like "nifty=0.5,btc=0.3"; what it does not name has none."""
    found = dict.fromkeys(names, 0.0)
    for part in written.split(","):
        name, _, text = part.strip().partition("=")
        try:
            found[name] = float(text)
        except ValueError as error:
            raise BadAsset(f"ALLOCATOR_CURRENT: {part.strip()!r} is not like nifty=0.5") from error
        if not 0.0 <= found[name] <= 1.0:
            raise BadAsset(f"ALLOCATOR_CURRENT: {name}={text} is not between 0 and 1")
    if unknown := sorted(set(found) - names):
        raise BadAsset(
            f"ALLOCATOR_CURRENT names {', '.join(unknown)}; the assets are "
            f"{', '.join(sorted(names))}"
        )
    if not abs(sum(found.values()) - 1.0) < 0.005:
        raise BadAsset(f"ALLOCATOR_CURRENT adds up to {sum(found.values()):g}, not to 1")
    return found


def _put(asset: ImportedAsset, dates: list[dt.date], closes: list[str]) -> int:
    table = AssetBar._meta.db_table
    with connections["allocator"].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (asset_id, date, close) "  # noqa: S608 - our own name
            f"SELECT %s, * FROM unnest(%s::date[], %s::numeric[]) ON CONFLICT (asset_id, date) "
            f"DO UPDATE SET close = excluded.close WHERE {table}.close <> excluded.close",
            [asset.pk, dates, closes],
        )
        return int(cursor.rowcount)
