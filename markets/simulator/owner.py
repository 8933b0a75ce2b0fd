"""The account's owner, who trades NIFTY futures by hand a few times a day.

His rule, which the personal bot is to find out: he looks at the market two to four times a session,
at moments of his own, and compares the price with the closes of the last five sessions. He sells
what has run up and buys what has come down, more of it the further it went, up to three lots, and
leaves what has come back; before his contract expires he closes it. He is no machine: about one
intent in five ends without a trade he should have made, one in ten with one lot on a whim, and he
never moves more than two lots at once.

All of it follows from the seed, so his history and his future are one person's.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from markets.domain.calendar import Session, trading_date
from markets.domain.contracts import expiries
from markets.simulator.kite.account import Account
from markets.simulator.kite.book import Book
from markets.simulator.kite.envelope import KiteError
from markets.simulator.kite.matching import market_ask
from markets.simulator.listing import CHAINS, Listed
from markets.simulator.noise import key_of, uniform
from markets.simulator.world import World
from tradingsite.clock import IST, Epoch

HISTORY_YEARS = 4.0
MOST_LOTS = 3
LOTS_AT_ONCE = 2
CLOSES = 5
# How far a lot is: in standard deviations of the last month's daily changes.
LOT_DEVIATIONS = 0.9
MISSES, WHIMS = 0.2, 0.1
LEAVES_SECONDS = 240.0
_LONGEST_MONTH = dt.timedelta(days=45)
# The broker's name of a derivatives segment, and the exchange's in the trade book.
_SEGMENT_EXCHANGES = {"NFO": "NSE", "BFO": "BSE"}
TRADEBOOK_COLUMNS = (
    *("symbol", "isin", "trade_date", "exchange", "segment", "series", "trade_type", "auction"),
    *("quantity", "price", "trade_id", "order_id", "order_execution_time", "expiry_date"),
)


@dataclass(frozen=True, slots=True)
class Intent:
    """One look at the market: when, how many lots he changes, how many he holds after it."""

    at: float
    lots: int
    held: int


class Owner:
    """Trade the account by hand, at his moments, without a tag."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._account = account
        self._date: dt.date | None = None
        self._plan: list[Intent] = []
        self.last_refusal = ""
        """Why his newest refused order was not taken."""

    def bring(self) -> None:
        """Put into a new account what he holds by his looks of before it was opened."""
        date = trading_date(Epoch(self._world.now()))
        before = intents(self._world, date - _LONGEST_MONTH, date)
        held = next((each.held for each in reversed(before) if each.at <= self._world.now()), 0)
        if held:
            row = near_future(self._world, date)
            _, close = self._account.worth(row.exchange, row.symbol)
            self._account.portfolio.bring(row, held * row.lot_size, close)
            self._account.book.save()

    def step(self) -> None:
        """Place the order of a intent whose moment has come."""
        now = self._world.now()
        date = trading_date(Epoch(now))
        if date != self._date:
            # What lies before a start he did before it, or never.
            self._plan = [intent for intent in intents(self._world, date, date) if intent.at > now]
            self._date = date
        while self._plan and self._plan[0].at <= now:
            intent = self._plan.pop(0)
            if intent.lots:
                self._trade(intent)

    def _trade(self, intent: Intent) -> None:
        row = near_future(self._world, trading_date(Epoch(intent.at)))
        side = 1 if intent.lots > 0 else -1
        ask = market_ask(row, side, abs(intent.lots) * row.lot_size, "NRML")
        try:
            self._account.place(ask)
        except KiteError as error:
            # A person who is refused shrugs; his next intent may go through.
            self.last_refusal = error.message


def intents(world: World, first: dt.date, last: dt.date) -> list[Intent]:
    """Return his looks from one date to another, both included."""
    nse = world.prices.nse
    # He is flat on every expiry, so from there on his position is known wherever one starts.
    expiries_before = expiries(nse, first - _LONGEST_MONTH, first)
    sessions = nse.sessions(expiries_before[-1] if expiries_before else first, last)
    expiring = set(expiries(nse, first - _LONGEST_MONTH, last + _LONGEST_MONTH))
    found: list[Intent] = []
    held = 0
    for session in sessions:
        for at in _moments(session):
            change = _change(world, at, held)
            held += change
            found.append(Intent(at, change, held))
        following = nse.next_session(session.opens_at)
        if following and following.date in expiring and held:
            found.append(Intent(session.closes_at - LEAVES_SECONDS, -held, 0))
            held = 0
    return [intent for intent in found if first <= trading_date(Epoch(intent.at)) <= last]


def near_future(world: World, date: dt.date) -> Listed:
    """Return the NIFTY future he trades on a date: the nearest that does not expire today."""
    futures = world.exchange.futures(CHAINS[0], date)
    return next(row for row in futures if row.expiry and row.expiry > date)


def tradebook(world: World, years: float = HISTORY_YEARS, book: Book | None = None) -> str:
    """Return his trades up to now as CSV in the form of the broker's F&O trade book.

    With an account's book it is that account's: what he did before it was opened, and from then on
    every execution in it, the bots' too, since the back office knows no tags.
    """
    now = world.now()
    last = trading_date(Epoch(now))
    first = last - dt.timedelta(days=round(years * 365.25))
    by_looks_until = now if book is None or book.began_at is None else min(now, book.began_at)
    text = io.StringIO()
    writer = csv.DictWriter(text, TRADEBOOK_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for intent in intents(world, first, trading_date(Epoch(by_looks_until))):
        if intent.lots and intent.at <= by_looks_until:
            writer.writerow(_row_of_intent(world, intent))
    for trade, expiry in book.executions if book else ():
        if trade.exchange in _SEGMENT_EXCHANGES and trading_date(Epoch(trade.at)) >= first:
            exchange = _SEGMENT_EXCHANGES[trade.exchange]
            numbers = trade.trade_id, trade.exchange_order_id
            units = trade.side * trade.quantity
            writer.writerow(
                _row(exchange, trade.symbol, expiry, units, trade.price, trade.at, numbers)
            )
    return text.getvalue()


def _row_of_intent(world: World, intent: Intent) -> dict[str, str]:
    date = trading_date(Epoch(intent.at))
    row = near_future(world, date)
    price = world.quoter.price(row, intent.at) + (0.1 if intent.lots > 0 else -0.1)
    number = int(intent.at) % 100_000_000
    numbers = str(number), f"{date:%y%m%d}9{number:08d}"
    units = intent.lots * row.lot_size
    return _row("NSE", row.symbol, row.expiry, units, price, intent.at, numbers)


def _row(
    exchange: str,
    symbol: str,
    expiry: dt.date | None,
    units: int,
    price: float,
    at: float,
    numbers: tuple[str, str],
) -> dict[str, str]:
    return {
        "symbol": symbol,
        "isin": "",
        "trade_date": trading_date(Epoch(at)).isoformat(),
        "exchange": exchange,
        "segment": "FO",
        "series": "",
        "trade_type": "buy" if units > 0 else "sell",
        "auction": "false",
        "quantity": f"{abs(units):.6f}",
        "price": f"{price:.6f}",
        "trade_id": numbers[0],
        "order_id": numbers[1],
        "order_execution_time": dt.datetime.fromtimestamp(int(at), IST).strftime(
            "%Y-%m-%dT%H:%M:%S"
        ),
        "expiry_date": expiry.isoformat() if expiry else "",
    }


def _moments(session: Session) -> Iterator[float]:
    """Return when he looks in a session: two to four times, apart from its very ends."""
    number = np.array([session.opens_at // 86_400])
    count = 2 + int(uniform(key_of("owner/count", 3), number)[0] * 3)
    luck = uniform(key_of("owner/when", 3), session.opens_at // 60 + np.arange(count))
    length = session.closes_at - session.opens_at
    yield from sorted(session.opens_at + length * (0.05 + 0.9 * luck))


def _change(world: World, at: float, held: int) -> int:
    fate, whim = uniform(key_of("owner/mood", 3), np.array([int(at), int(at) + 1]))
    if fate < WHIMS:
        wanted = held + (1 if whim < 0.5 else -1)
    elif fate < WHIMS + MISSES:
        return 0
    else:
        wanted = round(-_stretch(world, at) / LOT_DEVIATIONS)
    wanted = max(-MOST_LOTS, min(MOST_LOTS, wanted))
    return max(-LOTS_AT_ONCE, min(LOTS_AT_ONCE, wanted - held))


def _stretch(world: World, at: float) -> float:
    """Return how far the price is from its last closes, in deviations of a month's changes."""
    date = trading_date(Epoch(at))
    before = world.prices.nse.sessions(date - dt.timedelta(days=40), date - dt.timedelta(days=1))
    closes_at = np.array([session.closes_at for session in before[-22:]], dtype=np.float64)
    closes = world.prices.spot("NIFTY", closes_at)
    deviation = float(np.std(np.diff(np.log(closes)))) * CLOSES**0.5
    price = world.prices.spot_at("NIFTY", at)
    return float(float(np.log(price / closes[-CLOSES:].mean())) / max(deviation, 1e-4))
