"""The simulated market: one loop that moves the clock, closes bars, makes quotes and fills orders.

Prices are the rest of the path that made the history (`markets.simulator.price_path`). A market
whose bars were imported is lived through again where the clock is among them, and left alone
elsewhere. When this process stops, market time stops.
"""

import logging
import time
from dataclasses import dataclass, field

from django.conf import settings

from markets import store
from markets.domain.bars import Bars
from markets.domain.calendar import Calendar
from markets.domain.instruments import Instruments
from markets.domain.timeframes import seconds
from markets.models import Bar, Source
from markets.simulator.pace import ClockKeeper, Pace, start_clock
from markets.simulator.price_path import PricePath
from markets.simulator.prices import PriceSource
from markets.simulator.quotes import put_quotes
from markets.simulator.stored import StoredPath
from markets.simulator.world import World
from markets.venues import paper
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.locks import ProcessLock
from tradingsite.registry import MARKETS
from tradingsite.supervision.heartbeat import Beat

LOOP_SECONDS = 0.4
RECHECK_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Feed:
    """Reveal one generated market's path as its time comes."""

    market: str
    path: PricePath
    instruments: Instruments
    stored: StoredPath | None = None
    """The bars of a market that is not generated, to be lived through again."""
    newest: dict[str, int] = field(default_factory=dict)
    """When the newest stored bar of each timeframe opened."""
    says: str = ""
    """How the market stands, for the heartbeat."""
    _found: set[str] = field(default_factory=set)
    _is_ours: bool = False
    _looked_at: float = float("-inf")

    @classmethod
    def of(cls, market: str, calendar: Calendar, path: PricePath | None = None) -> "Feed":
        """Return the feed of a market, on the path of the settings' seed unless given another."""
        path = path or PricePath.build(market, calendar, settings.SIM_SEED)
        found = store.sources(market)
        stored = StoredPath.of(market) if found and found != {Source.GENERATED} else None
        return cls(market, path, Instruments(market, calendar), stored)

    def prices_at(self, at: float) -> PriceSource:
        """Return the path that says what the market is worth, from an instant on."""
        return self.stored if self.stored and self.stored.covers(at) else self.path

    def is_ours(self) -> bool:
        """Return whether the market's bars are generated; looked up every few seconds."""
        if time.monotonic() - self._looked_at >= RECHECK_SECONDS:
            found = store.sources(self.market)
            was, self._is_ours = self._is_ours, found == {Source.GENERATED}
            self._looked_at = time.monotonic()
            if self._is_ours and not was:
                self.newest = self._newest_stored()
            self._found = found
        return self._is_ours

    def step(self, at: float) -> None:
        """Store the bars that have closed by an instant, quote its price and fill orders at it."""
        is_ours = self.is_ours()
        if is_ours:
            self.close_bars(Epoch(at))
            underlying = self.path.price(at)
        elif self.stored and self.stored.covers(at):
            underlying = self.stored.price(at)
        else:
            self._notify_left_alone()
            return
        if underlying is None:
            self.says = f"{self.market} closed"
            return
        moment = clock.from_seconds(at)
        prices = put_quotes(self.instruments, underlying, moment)
        filled = paper.match(self.market, prices, moment)
        if filled:
            log.info("%s: orders filled: %d", self.market, filled)
        self.says = f"{self.market} {underlying:g}"

    def close_bars(self, at: Epoch) -> dict[str, int]:
        """Store the bars closed since the newest, then their features; return how many of each."""
        closed: dict[str, Bars] = {}
        for timeframe in self.newest:
            bars = self.path.bars(timeframe, Epoch(self.newest[timeframe] + 1), at)
            if len(bars):
                closed[timeframe] = bars
        if not closed:
            return {}
        # An import may have replaced the market since the last look.
        self._looked_at = float("-inf")
        if not self.is_ours():
            return {}
        for timeframe, bars in closed.items():
            store.save_bars(self.market, timeframe, bars, Source.GENERATED)
        store.append_all(self.market, dict.fromkeys(closed))
        for timeframe, bars in closed.items():
            self.newest[timeframe] = int(bars.opens_at[-1])
        return {timeframe: len(bars) for timeframe, bars in closed.items()}

    def _newest_stored(self) -> dict[str, int]:
        newest: dict[str, int] = {}
        # Longest first: shorter timeframes join the features of longer ones.
        for timeframe in sorted(MARKETS[self.market].timeframes, key=seconds, reverse=True):
            rows = Bar.on(self.market).objects.filter(timeframe=timeframe).order_by("-opens_at")
            opens_at = rows.values_list("opens_at", flat=True).first()
            if opens_at is not None:
                newest[timeframe] = clock.epoch(opens_at)
        return newest

    def _notify_left_alone(self) -> None:
        if not self._found:
            self.says = f"{self.market} has no bars yet"
            return
        kinds = " and ".join(sorted(self._found))
        says, self.says = self.says, f"{self.market} left alone, its bars are {kinds}"
        if says == self.says:
            return
        notices.notify(
            "infrastructure",
            "info",
            f"simulator:{self.market}",
            f"The simulator leaves {self.market} alone, because its bars are {kinds} and the "
            f"market's clock is not among them: it makes no bars and no quotes there, so that "
            f"market's bots hold still. Replay works on them.",
        )


class Simulator:
    """Run the simulated markets against one clock."""

    def __init__(
        self, feeds: list[Feed], keeper: ClockKeeper, beat: Beat, lock: ProcessLock
    ) -> None:
        self.feeds = feeds
        self._lock = lock
        self._keeper = keeper
        self._beat = beat
        self._ends_at = min((feed.path.ends_at for feed in feeds), default=None)

    @classmethod
    def start(cls, beat: Beat) -> "Simulator":
        """Build the markets' paths and set the clock going where it stood.

        Raises LockHeld while another process keeps the clock.
        """
        lock = ProcessLock("simulator", "default")
        lock.ensure()
        calendars = {market: store.load_calendar(market) for market in MARKETS}
        feeds = [Feed.of(market, calendar) for market, calendar in calendars.items()]
        pace = Pace(calendars["nifty"], settings.SIM_SPEED, settings.SIM_NIGHT_SPEED)
        newest = [newest_close(market) for market in MARKETS]
        return cls(feeds, ClockKeeper(start_clock(Epoch(max(newest))), pace), beat, lock)

    def world(self) -> World:
        """Return the market that the simulated services show, on this market's own paths."""
        now = self._keeper.now()
        nifty, btc = (feed.prices_at(now) for feed in self.feeds)
        nse = self.feeds[0].instruments.calendar
        seed = settings.SIM_SEED
        return World.build(clock.market_seconds, seed, nse=nse, nifty=nifty, btc=btc)

    def step(self) -> None:
        """Do what has become due; the clock moves last, so a step that fails holds time still."""
        self._lock.ensure()
        at = self._keeper.now()
        for feed in self.feeds:
            feed.step(at)
        says = ", ".join(feed.says for feed in self.feeds)
        if self._ends_at is not None and at >= self._ends_at:
            self._notify_ended()
            return
        self._keeper.advance()
        now = clock.from_seconds(self._keeper.now()).astimezone(clock.IST)
        self._beat.beat("running", f"{now:%a %d %b %H:%M} IST at {self._keeper.speed:.0f}x; {says}")

    def stop(self) -> None:
        """Stop the market's time where it is."""
        self._keeper.freeze()

    def _notify_ended(self) -> None:
        text = "The generated market is over: its calendar ends here, and market time stands still."
        self._beat.beat("ended", text)
        notices.notify("infrastructure", "warning", "simulator:ended", text)


def newest_close(market: str) -> int:
    """Return when the newest generated bar of a market closed, 0 where there is none."""
    rows = Bar.on(market).objects.filter(source=Source.GENERATED).order_by("-closes_at")
    closes_at = rows.values_list("closes_at", flat=True).first()
    return clock.epoch(closes_at) if closes_at else 0
