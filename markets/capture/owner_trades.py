"""The owner's own orders and executions: fetched each minute, or imported from his trade book.

One execution is one row, by the exchange's segment, its day, its number and the symbol; both ways
lead to the same row. The broker's own book knows more (whose hand, which product, the name by the
list of the day), so what is fetched overrules what was imported, and an import only fills in what
is missing. A reading of the book is the whole day's: readings may repeat, be missed or come late,
and the table ends the same.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from django.conf import settings
from django.db import transaction

from markets import store
from markets.capture import own_executions, token_refresh
from markets.domain.calendar import Calendar
from markets.imports.bars import BadFile
from markets.imports.tradebook import AS_DOWNLOADED, BookedTrade, Key, TradeBook
from markets.models import CameBy, GivenBy, OwnerOrder, OwnerTrade, Source
from markets.venues.base import TokenRefused
from markets.venues.configured import kite_venue
from markets.venues.kite import account as kite_account
from markets.venues.kite import rows as kite_rows
from markets.venues.kite.account import AccountOrder, AccountTrade, DayBook
from markets.venues.kite.venue import KiteVenue
from tradingsite import bulk, clock
from tradingsite.bulk import Counts
from tradingsite.errors import Degraded, Retry
from tradingsite.models import JobRun
from tradingsite.scheduling.jobs import Skipped

MARKET = "nifty"
JOB = "trade-fetcher"
# The next minute reads the whole day again, so a minute without an answer is no alarm, five are.
SILENCE_ALLOWED = dt.timedelta(minutes=5)
# The reading at the close has no next one.
LAST_TRIES, LAST_PAUSE_SECONDS = 3, 2.0
UNREAD_SHOWN = 3
# That an exchange's number begins with, and a spreadsheet takes off.
MOST_ZEROS = 4

_TRADE_COLUMNS = (
    *("trade_id", "traded_on", "order_id", "symbol", "exchange", "instrument", "expiry"),
    *("quantity", "price", "product", "given_by", "at"),
)
_TRADE_KEY = ("exchange", "traded_on", "trade_id", "symbol")
_ORDER_COLUMNS = (
    *("order_id", "symbol", "instrument", "quantity", "filled_quantity", "order_type", "product"),
    *("price", "state", "message", "tag", "given_by", "placed_at", "updated_at"),
)

log = logging.getLogger(__name__)
pause = time.sleep


class AccountVenue(Protocol):
    """A venue that shows the account's whole book of the day."""

    def whole_book(self) -> DayBook:
        """Return every order and execution of today; raise Retry or Degraded."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Say what came of a trade book."""

    trades: Counts
    of_bots: int
    """Left out: the account's book has the bots' executions too."""


# --- Fetched -------------------------------------------------------------------------------------


def fetch_for_job(run: JobRun) -> str:
    """Return a sentence about what the broker's book held; raise once it stays silent.

    A reading that fails is skipped, with the reason, while the next minute can make it good: not
    at the close, and not when there was none for five minutes. Raises Skipped, Retry or Degraded.
    """
    if not settings.KITE_API_KEY:
        raise Skipped("no account at the broker: KITE_API_KEY is not set")
    calendar = store.load_calendar(MARKET)
    is_last = _is_last(run, calendar)
    venue = _venue(calendar, settings.KITE_ROOT, settings.KITE_API_KEY, str(settings.DATA_DIR))
    for tries_left in reversed(range(LAST_TRIES if is_last else 1)):
        try:
            return fetch(venue)
        except Retry as error:
            if not tries_left:
                _pass_over(run, calendar, error)
            log.warning("the owner's trades: %s; trying again", error)
            pause(LAST_PAUSE_SECONDS)
        except TokenRefused as error:
            done = token_refresh.after_refusal(clock.trading_date(run.scheduled_for))
            raise Skipped(f"not read: {error}; {done}") from error
        except Degraded as error:
            _pass_over(run, calendar, error)
    raise AssertionError("the last try returns or raises")


def fetch(venue: AccountVenue, market: str = MARKET) -> str:
    """Store what the account's book of today has of the owner's; return a sentence about it.

    Raises Retry or Degraded where the venue does not show its book.
    """
    book = venue.whole_book()
    ours = {GivenBy.OWNER, GivenBy.BROKER}
    with transaction.atomic(using=market):
        _put_orders(market, [order for order in book.orders if order.given_by in ours])
        kept = [trade for trade in book.trades if trade.given_by in ours]
        written = _put_trades(market, map(_fetched_row, kept), CameBy.FETCHED)
    return _sentence(market, book, written)


def _is_last(run: JobRun, calendar: Calendar) -> bool:
    session = calendar.session_on(clock.trading_date(run.scheduled_for))
    return session is None or run.scheduled_for.timestamp() >= session.closes_at


def _pass_over(run: JobRun, calendar: Calendar, error: Retry | Degraded) -> None:
    """Raise the error, or Skipped where the next minute can make it good."""
    since = run.scheduled_for - SILENCE_ALLOWED
    session = calendar.session_on(clock.trading_date(run.scheduled_for))
    has_just_opened = session is not None and since.timestamp() < session.opens_at
    read_lately = JobRun.objects.filter(
        job=JOB, state=JobRun.State.DONE, scheduled_for__gte=since
    ).exists()
    if _is_last(run, calendar) or not (has_just_opened or read_lately):
        raise error
    raise Skipped(f"not read: {error}; the next minute reads the whole day") from error


@lru_cache(maxsize=1)
def _venue(calendar: Calendar, *where: str) -> KiteVenue:
    """Return the broker's venue, kept: the list of instruments it has fetched serves all day."""
    return kite_venue(calendar)


def _sentence(market: str, book: DayBook, written: Counts) -> str:
    orders, trades = (Counter(row.given_by for row in rows) for rows in (book.orders, book.trades))
    parts = [
        f"by hand {orders[kite_account.OWNER]} orders and {trades[kite_account.OWNER]} executions",
        f"{written.inserted} new, {written.updated} changed",
    ]
    for hand, name in ((kite_account.BROKER, "the broker's"), (kite_account.BOT, "the bots'")):
        if orders[hand] or trades[hand]:
            parts.append(f"not his: {orders[hand]} orders and {trades[hand]} executions, {name}")
    if waiting := trades[kite_account.UNKNOWN]:
        parts.append(f"{waiting} executions wait for their orders, which the book does not show")
    if missing := _missing(market, book):
        parts.append(f"the book no longer shows {missing} orders of today that it had before")
    if book.unread:
        shown = "; ".join(book.unread[:UNREAD_SHOWN])
        parts.append(f"{len(book.unread)} rows could not be read: {shown}")
    return "; ".join(parts)


def _missing(market: str, book: DayBook) -> int:
    """Return how many orders of today are stored that a reading does not have."""
    today = dt.datetime.combine(clock.trading_date(clock.market()), dt.time(), clock.IST)
    stored = OwnerOrder.on(market).objects.filter(placed_at__gte=today)
    shown = {order.order_id for order in book.orders}
    return len(set(stored.values_list("order_id", flat=True)) - shown)


# --- Imported ------------------------------------------------------------------------------------


def import_tradebook(
    name: str,
    book: TradeBook,
    market: str = MARKET,
    came_by: CameBy = CameBy.IMPORTED,
    *,
    dry_run: bool = False,
) -> Imported:
    """Store a trade book's executions, all of them or none; return what came of them.

    Raises BadFile where an execution is stored with another quantity or price, where a spreadsheet
    took the zeros off an id that is known with them, and in a generated market.
    """
    if came_by == CameBy.IMPORTED and Source.GENERATED in store.sources(market):
        raise BadFile(
            f"{name}: {market} is a generated market, whose prices are not those of a real trade "
            f"book; a model would learn of both. Import real bars first, which replace it: "
            f"manage.py importbars {market} TIMEFRAME FILE --replace"
        )
    of_bots = _of_bots(name, market, book.trades)
    kept = [trade for trade in book.trades if _venue_id(trade) not in of_bots]
    with transaction.atomic(using=market):
        _check_against_stored(name, market, kept)
        written = _put_trades(market, map(_imported_row, kept), came_by)
        if dry_run:
            transaction.set_rollback(True, using=market)
    return Imported(written, len(book.trades) - len(kept))


def forget_generated(market: str) -> None:
    """Remove what the generated market's owner did, as that market gives way to real bars.

    A simulated desk fetched him too, so of its rows only what a person imported stays.
    """
    trades = OwnerTrade.on(market).objects
    if settings.MODE == "simulated":
        OwnerOrder.on(market).objects.all().delete()
        trades.exclude(came_by=CameBy.IMPORTED).delete()
    else:
        trades.filter(came_by=CameBy.GENERATED).delete()


def _of_bots(name: str, market: str, trades: Sequence[BookedTrade]) -> set[str]:
    """Return the venue's ids of the bots' executions; raise BadFile where one lacks its zeros."""
    asked = {_venue_id(trade) for trade in trades}
    stripped = {
        _venue_id(trade, zeros): (trade, zeros)
        for trade in trades
        for zeros in range(1, MOST_ZEROS + 1)
    }
    found = own_executions.get().among(market, asked | stripped.keys())
    for trade_id in found - asked:
        trade, zeros = stripped[trade_id]
        raise _stripped(name, trade, zeros)
    return found


def _venue_id(trade: BookedTrade, zeros: int = 0) -> str:
    """Return the id that the broker's venue gives the same execution, as the ledger keeps it."""
    return kite_rows.venue_trade_id(trade.traded_on, trade.exchange, "0" * zeros + trade.trade_id)


def _stripped(name: str, trade: BookedTrade, zeros: int) -> BadFile:
    return BadFile(
        f"{name}, line {trade.line}: trade {trade.trade_id} of {trade.symbol} on "
        f"{trade.traded_on} is known as {'0' * zeros}{trade.trade_id}: Excel has taken zeros off "
        f"the ids; {AS_DOWNLOADED}"
    )


def _check_against_stored(name: str, market: str, trades: Sequence[BookedTrade]) -> None:
    by_key = {trade.key: trade for trade in trades}
    bare = {_without_zeros(*trade.key): trade for trade in trades}
    days = {trade.traded_on for trade in trades}
    stored = OwnerTrade.on(market).objects.filter(traded_on__in=days)
    for row in stored.only(*_TRADE_KEY, "quantity", "price").iterator():
        key = (row.exchange, row.traded_on, row.trade_id, row.symbol)
        trade, other = by_key.get(key), bare.get(_without_zeros(*key))
        # Of one day and symbol, and alike in size and price: not another one of the same number.
        if other and trade is None and (other.quantity, other.price) == (row.quantity, row.price):
            zeros = len(row.trade_id) - len(other.trade_id)
            if zeros > 0:
                raise _stripped(name, other, zeros)
        if trade and (trade.quantity, trade.price) != (row.quantity, row.price):
            raise BadFile(
                f"{name}, line {trade.line}: trade {row.trade_id} of {row.symbol} on "
                f"{row.traded_on} is stored as {row.quantity:+f} at {row.price:f}, the file says "
                f"{trade.quantity:+f} at {trade.price:f}"
            )


def _without_zeros(exchange: str, date: dt.date, trade_id: str, symbol: str) -> Key:
    return exchange, date, trade_id.lstrip("0"), symbol


# --- Into the tables -----------------------------------------------------------------------------


def _fetched_row(trade: AccountTrade) -> tuple[Any, ...]:
    return tuple(getattr(trade, name) for name in _TRADE_COLUMNS)


def _imported_row(trade: BookedTrade) -> tuple[Any, ...]:
    given_by = GivenBy.BROKER if trade.is_auction else GivenBy.OWNER
    known = {"product": "", "given_by": given_by.value}
    return tuple(known[name] if name in known else getattr(trade, name) for name in _TRADE_COLUMNS)


def _put_trades(market: str, rows: Iterable[tuple[Any, ...]], came_by: CameBy) -> Counts:
    # What a file or a reading does not know takes nothing from what the other one did.
    takes = {name: f"excluded.{name}" for name in _TRADE_COLUMNS if name not in _TRADE_KEY}
    takes["instrument"] = "COALESCE(NULLIF(excluded.instrument, ''), stored.instrument)"
    takes["expiry"] = "COALESCE(excluded.expiry, stored.expiry)"
    if came_by != CameBy.FETCHED:
        takes = {
            "instrument": "COALESCE(NULLIF(stored.instrument, ''), excluded.instrument)",
            "expiry": "COALESCE(stored.expiry, excluded.expiry)",
        }
    return bulk.upsert(
        market,
        OwnerTrade._meta.db_table,
        _TRADE_COLUMNS,
        rows,
        _TRADE_KEY,
        constants={"came_by": came_by.value},
        update=takes,
    )


def _put_orders(market: str, orders: Sequence[AccountOrder]) -> Counts:
    """Write orders as a reading has them, except over what a later reading said."""
    over = ", ".join(f"'{state}'" for state in sorted(kite_account.OVER))
    # The broker's times are whole seconds, in which an order may take several steps.
    newer = " >= ".join(
        f"({row}.updated_at, {row}.state IN ({over}), abs({row}.filled_quantity))"
        for row in ("excluded", "stored")
    )
    rows = (tuple(getattr(order, name) for name in _ORDER_COLUMNS) for order in orders)
    table = OwnerOrder._meta.db_table
    return bulk.upsert(market, table, _ORDER_COLUMNS, rows, ("order_id",), where=newer)
