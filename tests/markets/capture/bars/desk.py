"""Both venues of the desk on one simulated market, the collector, and the hand on the clock."""

import atexit
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from markets import store
from markets.capture.bars import comparison, polling
from markets.capture.bars import job as bars_job
from markets.capture.bars import sources as bar_sources
from markets.domain.bars import Bars
from markets.models import Bar, BarGap
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.hyperliquid.market import BY_NAME, PerpMarket
from markets.venues.ccxt.client import ExchangeConfig
from markets.venues.ccxt.venue import ExchangeVenue
from tests.histories import seed_days
from tests.markets.simulator.broker import ist, shared_world
from tests.markets.simulator.exchange_client import PLENTY
from tests.markets.simulator.served import served
from tests.markets.venues.kite.desk import KiteDesk, kite_desk
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.registry import MARKETS

DATABASES = ["default", "nifty", "btc"]
# How much history a test begins with: enough to look back over, too little for features.
DAYS = 6


class BarsDesk:
    """Hold the venues, and do by hand what the clock and the scheduler do."""

    def __init__(self, kite: KiteDesk, exchange: Hyperliquid) -> None:
        self.kite = kite
        self.exchange = exchange
        self.now = clock.market()
        self.paths = shared_world()[0].prices._paths

    def go(self, at: str) -> None:
        """Set everybody's market time; the broker's token dies with the night."""
        night = self.kite.broker.hand.at // 86_400 != ist(at) // 86_400
        self.kite.go(at)
        self.now = clock.market()
        if night:
            self.kite.sign_in()

    def truth(self, market: str, timeframe: str, start: str, end: str) -> Bars:
        """Return the bars the market really made, by their closes in (start, end]."""
        if market == "btc":
            asset, first, last = BY_NAME["BTC"], ist(start) - 86_400, ist(end)
            bars = PerpMarket(shared_world()[0].prices).candles(asset, timeframe, first, last, last)
            bars = bars.before(int(last))
            return bars.slice(int((bars.closes_at <= int(ist(start))).sum()))
        path = self.paths[MARKETS[market].title]
        bars = path.bars(timeframe, int(ist(start)) - 86_400, int(ist(end)))  # type: ignore[attr-defined]
        found: Bars = bars.slice(int((bars.closes_at <= int(ist(start))).sum()))
        return found

    def history(self, market: str, until: str, source: str) -> None:
        """Store some days of a market's bars."""
        start = dt.datetime.fromisoformat(until) - dt.timedelta(days=DAYS)
        for timeframe in MARKETS[market].timeframes:
            bars = self.truth(market, timeframe, str(start), until)
            store.save_bars(market, timeframe, bars, source)

    def fire(self) -> JobRun | None:
        """Let the job's firing of this minute happen; return its record, None where it had none."""
        from markets import tasks

        minute = self.now.replace(second=0, microsecond=0)
        JobRun.objects.filter(job="bars-collector", scheduled_for=minute).delete()
        tasks.collect_bars.delay(scheduled_for=minute.isoformat())
        return JobRun.objects.filter(job="bars-collector", scheduled_for=minute).first()

    def fault(self, kind: str, **how: object) -> None:
        """Put a fault at the broker's history."""
        self.kite.fault(kind, match="historical", **how)


def stored(market: str, timeframe: str) -> Mapping[int, tuple[float, float]]:
    """Return the stored opens with their first and last prices."""
    rows = Bar.on(market).objects.filter(timeframe=timeframe)
    return {clock.epoch(row.opens_at): (float(row.open), float(row.close)) for row in rows}


def open_gaps(market: str) -> list[str]:
    """Return the gaps that are not filled, like "15m 10:00"."""
    rows = BarGap.on(market).objects.filter(filled_at=None).order_by("timeframe", "opens_at")
    return [f"{row.timeframe} {row.opens_at.astimezone(clock.IST):%H:%M}" for row in rows]


@contextmanager
def bars_desk(
    folder: Path, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[BarsDesk]:
    """Serve both venues, and have the collector wait for less than it would."""
    seed_days("nifty")
    monkeypatch.setattr(polling, "AFTER_CLOSE_SECONDS", 0.0)
    monkeypatch.setattr(polling, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(polling, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr("markets.venues.kite.calls.COOL_DOWN_SECONDS", 0.05)
    monkeypatch.setattr(bars_job, "_comparison", comparison.Comparison())
    bar_sources.forget()
    exchange, venue = _exchange()
    exchange.faults.clear()
    with kite_desk(folder, set_market) as kite:
        # It serves all tests of the process and its time never goes back by itself: after one of
        # November it would have forgotten the hours of spring, being its last 5,000 no more.
        exchange.engine.at = shared_world()[0].now()
        monkeypatch.setitem(bar_sources.MAKERS, "nifty", lambda calendar: kite.venue)
        monkeypatch.setitem(bar_sources.MAKERS, "btc", lambda calendar: venue)
        yield BarsDesk(kite, exchange)
    bar_sources.forget()


@cache
def _exchange() -> tuple[Hyperliquid, ExchangeVenue]:
    """Return an exchange that is served until the process ends: a client of it takes a second."""
    exchange = Hyperliquid(shared_world()[0], weight_per_minute=PLENTY)
    url = _SERVED.enter_context(served(exchange.app()))
    config = ExchangeConfig(url=url, pause_ms=1.0, timeout_seconds=5.0)
    return exchange, ExchangeVenue(config)


_SERVED = ExitStack()
atexit.register(_SERVED.close)
