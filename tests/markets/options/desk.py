"""The collector on the simulated broker, in a market that a test moves by hand."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from markets.domain.calendar import NseCalendar, nse_sessions
from markets.options import partitions
from markets.options.chain import Chain
from markets.options.collector import Collector, Outcome
from markets.options.models import Quote
from tests.markets.simulator.broker import ist
from tests.markets.venues.kite.desk import KiteDesk, kite_desk
from tradingsite import clock

CALENDAR = NseCalendar(nse_sessions())
# A tenth of the real ones, since most of a minute is the client's parsing.
FEW = (Chain("NIFTY", 2, 5), Chain("BANKNIFTY", 1, 3), Chain("SENSEX", 1, 3))
FEW_OPTIONS = 72
MONDAY = dt.date(2026, 6, 1)


@dataclass
class OptionsDesk:
    """A broker, the desk's venue on it, and a collector."""

    kite: KiteDesk
    collector: Collector
    folder: Path

    def another(self, chains: Sequence[Chain] = FEW) -> Collector:
        """Return a second collector, of another process as it were."""
        return Collector(self.kite.venue, CALENDAR, self.folder / "spool", chains)

    def minute(self, at: str) -> Outcome:
        """Collect the minute of an Indian time."""
        self.go(at)
        return self.collector.collect(clock.from_seconds(ist(at)))

    def go(self, at: str) -> None:
        """Move the market, and sign in again on another day."""
        self.kite.go(at)
        self.kite.sign_in()

    def sent(self) -> dict[str, tuple[int, ...]]:
        """Return what the broker shows of everything, by its own symbols, as it would be stored."""
        board = self.kite.broker.kite.world.board()
        return {
            row.key: (
                round(float(board.last[place]) * 100),
                # The broker shows no depth of an index.
                round(float(board.bid[place]) * 100) if row.expiry else 0,
                round(float(board.ask[place]) * 100) if row.expiry else 0,
                int(board.volume[place]),
                int(board.interest[place]),
            )
            for place, row in enumerate(board.listing.rows)
        }


def stored(at: str) -> dict[str, tuple[int, ...]]:
    """Return what is stored of a minute, by the broker's symbols."""
    columns = ("instrument__symbol", "ltp", "bid", "ask", "volume", "oi")
    rows = Quote.objects.filter(ts=clock.from_seconds(ist(at))).values_list(*columns)
    return {symbol: tuple(values) for symbol, *values in rows}


@contextmanager
def options_desk(folder: Path, set_market: Callable[..., None]) -> Iterator[OptionsDesk]:
    """Serve a broker and give a collector on it, at 10:00 of Monday, 1 June 2026."""
    with kite_desk(folder, set_market) as kite:
        yield OptionsDesk(kite, Collector(kite.venue, CALENDAR, folder / "spool", FEW), folder)


def drop_days() -> None:
    """Drop the partitions that a test without a transaction of its own has left."""
    for day in partitions.existing():
        partitions.drop(day)
