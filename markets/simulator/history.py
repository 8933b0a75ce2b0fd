"""The past of the generated market, for a machine whose databases are empty."""

from collections.abc import Callable

from django.conf import settings

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture import owner_trades
from markets.domain.exogenous import SERIES_OF
from markets.domain.instruments import Instruments
from markets.imports.tradebook import parse
from markets.models import CameBy, Reading, Source
from markets.simulator import exogenous, owner
from markets.simulator.pace import first_instant
from markets.simulator.price_path import PricePath
from markets.simulator.quotes import put_quotes
from markets.simulator.world import World
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.postgresql import timeouts
from tradingsite.registry import MARKETS

YEARS = {"15m": 4, "1h": 4, "4h": 4, "1d": 15}
YEAR_SECONDS = 365.25 * 86_400

Report = Callable[[str, int, int], None]
"""Told what is being written, how many rows of it are, and how many there will be."""


def needs_history(market: str) -> bool:
    """Return whether a market is empty, or was left half-made by a process that died.

    The last price is written last, so a generated market without one is not finished; nor is one
    that was made before there were readings beside its bars.
    """
    found = store.sources(market)
    if found != {Source.GENERATED}:
        return not found
    return store.last_quote(market) is None or _lacks_readings(market)


@timeouts.long()
def make_history(
    market: str,
    until: Epoch | None = None,
    report: Report = lambda what, written, total: None,
    path: PricePath | None = None,
) -> int:
    """Write a market's generated bars and features up to an instant; return how many bars.

    The instant is the simulated market's first, unless given. Doing it again changes nothing;
    raises ValueError where bars of another source are there.
    """
    if others := store.sources(market) - {Source.GENERATED}:
        raise ValueError(f"{market} has {' and '.join(sorted(others))} bars, which stay unmixed")
    until = first_instant() if until is None else until
    calendar = store.load_calendar(market)
    path = path or PricePath.build(market, calendar, settings.SIM_SEED)
    bars = {
        timeframe: path.bars(timeframe, Epoch(until - int(YEARS[timeframe] * YEAR_SECONDS)), until)
        for timeframe in MARKETS[market].timeframes
    }
    for timeframe, each in bars.items():
        told = _counted(report, f"{market} {timeframe} bars", len(each))
        store.save_bars(market, timeframe, each, Source.GENERATED, told)
    _make_readings(market, path, until, report)
    for timeframe, each in bars.items():
        told = _counted(report, f"{market} {timeframe} features", len(each))
        store.rebuild_features(market, timeframe, told)
    if market == owner_trades.MARKET:
        what = f"{market} trades by hand"
        trades = import_simulated_history(market, until, path)
        report(what, trades, trades)
    # Also lets an order be judged before the market first opens.
    newest = max(bars.values(), key=lambda each: int(each.closes_at[-1]))
    closed_at = clock.from_seconds(int(newest.closes_at[-1]))
    put_quotes(Instruments(market, calendar), float(newest.close[-1]), closed_at)
    return sum(map(len, bars.values()))


def import_simulated_history(
    market: str, until: Epoch | None = None, path: PricePath | None = None
) -> int:
    """Import what the simulated owner did by hand up to an instant; return how many are new.

    It goes through the trade book, as an owner's own history does, and no further back than bars.
    """
    until = first_instant() if until is None else until
    path = path or PricePath.build(market, store.load_calendar(market), settings.SIM_SEED)
    world = _world_of(path, until)
    text = owner.tradebook(world, min(owner.HISTORY_YEARS, YEARS["15m"]))
    name = "the simulated owner's trade book"
    book = parse(name, iter(text.splitlines()))
    return owner_trades.import_tradebook(name, book, market, CameBy.GENERATED).trades.inserted


def _make_readings(market: str, path: PricePath, until: Epoch, report: Report) -> None:
    """Write what stood beside the bars, as far back as the longest of them reach."""
    world, start = _world_of(path, until), until - int(max(YEARS.values()) * YEAR_SECONDS)
    for series in exogenous_capture.of_market(market):
        if series.name not in SERIES_OF[market]:
            continue  # of the closes of shorter bars, which nothing is made of
        rows = exogenous.rows_of(
            series.name, world, settings.SIM_SEED, Epoch(max(start, int(path.opens_at[0]))), until
        )
        exogenous_capture.upsert(series, rows, Source.GENERATED)
        report(f"{market} {series.name}", len(rows), len(rows))


def _lacks_readings(market: str) -> bool:
    old = clock.from_seconds(first_instant() - 2 * exogenous_capture.FIRST_DAYS * 86_400)
    rows = Reading.on(market).objects.filter(at__lt=old)
    found = set(rows.order_by().values_list("series", flat=True).distinct())
    return not found.issuperset(SERIES_OF[market])


def _world_of(path: PricePath, until: Epoch) -> World:
    """Return the world of a path; its other market, of which nothing is asked, is the same."""
    nse = store.load_calendar("nifty")
    return World.build(lambda: float(until), settings.SIM_SEED, nse=nse, nifty=path, btc=path)


def _counted(report: Report, what: str, total: int) -> Callable[[int], None]:
    return lambda rows: report(what, rows, total)
