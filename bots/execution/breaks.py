"""Whose is what the account holds: the bots', the owner's, or nobody knows.

The bots' fills and the owner's trades and whatever a person has adopted must add up to the venue's
position. Where they do not, the instrument is stopped with both numbers on show, until they agree
again, until what closed a bot's position is found (`bots.execution.closures`), or until a person
says what it was. No bot touches what is not its own.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from bots.execution.cover import lacking
from bots.execution.netting import BY_OWNER
from bots.execution.states import IN_FLIGHT
from bots.models import Discrepancy, Fill, Order, Position
from markets.domain.instruments import BadInstrument, Instruments
from markets.models import GivenBy, OwnerTrade
from markets.venues.base import BookOrder, Venue, VenueTrade, net
from markets.venues.kite.rows import venue_trade_id
from tradingsite import clock, notices

Quantities = Mapping[str, Decimal]
# A broker's list of executions is of its day; the ones before are in the ledger.
TRADES_SINCE = dt.timedelta(hours=16)
BY_WORD = "word-"
"""How the execution of a closing begins that a person told of, and no list of the venue's."""
DETAIL_CHARACTERS = 300
SETTLES_WITHIN = dt.timedelta(minutes=1)
"""Real time after its sending in which an order may still explain a difference; no longer."""


def compare(
    market: str, venue: Venue, instruments: Instruments, strangers: Sequence[BookOrder] = ()
) -> list[str]:
    """Open a discrepancy where the account is not explained, close those that are by now.

    Returns every open one in words. While an order was sent within the last minute, or a fill came
    in between, the two sides may rightly differ and nothing is changed.
    """
    lost: dict[str, str] = {}
    for each in strangers:
        if not _is_adopted(market, venue.name, each.tag):
            words = f"order {each.tag} ({each.quantity.normalize():+f})"
            lost[each.instrument] = ", ".join(filter(None, [lost.get(each.instrument), words]))
    is_moved = is_moving(market, venue.name)
    if lost or not is_moved:
        before = explained(market, venue)
        there = net(venue.holdings())
        is_moved = is_moved or is_moving(market, venue.name) or explained(market, venue) != before
        names = {name for name in (*before, *there) if _is_ours(instruments, name)}
        for name in sorted(names | set(stopped(market, venue.name)) | lost.keys()):
            ours, theirs = before.get(name, Decimal(0)), there.get(name, Decimal(0))
            if name in lost:
                _open(
                    *(market, venue.name, name, ours, theirs),
                    f"{venue.name} has {lost[name]}, the ledger not"[:DETAIL_CHARACTERS],
                )
            elif is_moved:
                continue
            elif ours != theirs:
                _open(market, venue.name, name, ours, theirs)
            else:
                _close(market, venue.name, name)
    return [f"{name}: {text}" for name, text in sorted(stopped(market, venue.name).items())]


def stopped(market: str, venue: str) -> Mapping[str, str]:
    """Return the instruments in which the ledger and a venue differ, with both numbers."""
    rows = Discrepancy.on(market).objects.filter(venue=venue, closed_at=None)
    return {row.instrument: str(row) for row in rows}


def bots_hold(market: str, venue: str, instrument: str) -> Decimal:
    """Return what all bots together hold of an instrument in a venue's account, as booked."""
    rows = Position.on(market).objects.filter(venue=venue, instrument=instrument)
    return sum(rows.values_list("quantity", flat=True), Decimal(0))


def unended(market: str, instrument: str) -> Order | None:
    """Return the oldest order of an instrument that has not ended, in doubt or not."""
    rows = Order.on(market).objects.filter(instrument=instrument, state__in=IN_FLIGHT)
    return rows.order_by("pk").first()


def require_ended(market: str, instrument: str) -> None:
    """Raise ValueError while an order of an instrument has not ended: its fills are not foreign."""
    order = unended(market, instrument)
    if order is not None:
        raise ValueError(
            f"order {order.tag} of {instrument} is {order.get_state_display().lower()}: what it "
            f"trades may be the difference. First it must end: it is looked up every few seconds, "
            f"cancelled where it rests, and an unknown one is ended by manage.py giveup {market} "
            f"{order.tag}"
        )


def adopt(market: str, instrument: str, by: str) -> Discrepancy | None:
    """Take what the venue has over the ledger for the owner's; return what was adopted.

    Raises ValueError where the venue has less than the bots hold: that is nobody's to take over,
    something closed it (`bots.execution.closures.close_by_word`).
    """
    require_ended(market, instrument)
    with transaction.atomic(using=market):
        row = (
            Discrepancy.on(market)
            .objects.select_for_update()
            .filter(instrument=instrument, closed_at=None)
            .first()
        )
        if row is None:
            return None
        held = bots_hold(market, row.venue, instrument)
        missing = lacking(held, row.venue_quantity)
        if missing:
            raise ValueError(
                f"{row.venue} has {row.venue_quantity.normalize():+f} of {instrument} and the bots "
                f"hold {held.normalize():+f}: {missing.normalize():f} of it was closed for them. "
                f"Say by whom, the venue or the owner, and at what price"
            )
        row.closed_at = clock.market()
        row.adopted_by = by
        row.save(update_fields=["closed_at", "adopted_by"])
    notices.resolve(_key(market, instrument))
    text = f"{instrument}: {by} took over what the bots have not traded ({row})."
    notices.notify("trading", "warning", f"adopted:{market}:{row.pk}", text)
    return row


def _open(
    market: str, venue: str, name: str, ours: Decimal, theirs: Decimal, detail: str = ""
) -> None:
    row, is_new = Discrepancy.on(market).objects.get_or_create(
        venue=venue,
        instrument=name,
        closed_at=None,
        defaults={
            "ledger_quantity": ours,
            "venue_quantity": theirs,
            "detail": detail,
            "seen_at": clock.market(),
        },
    )
    if not is_new:
        detail = detail or row.detail
        if (row.ledger_quantity, row.venue_quantity, row.detail) == (ours, theirs, detail):
            return
        # The numbers and orders on show are those that would be adopted.
        row.ledger_quantity, row.venue_quantity, row.detail = ours, theirs, detail
        row.save(update_fields=["ledger_quantity", "venue_quantity", "detail"])
    notices.notify(
        "trading",
        "critical",
        _key(market, name),
        f"{name}: {row}, and neither the bots' fills nor the owner's trades explain it. No bot "
        f"trades it until the two agree again, or a person says what it is: "
        f'manage.py adopt {market} "{name}" shows the choices and what each of them books',
    )


def _is_adopted(market: str, venue: str, tag: str) -> bool:
    """Return whether a person has taken over what an order did that the ledger never had."""
    rows = Discrepancy.on(market).objects.filter(venue=venue, detail__contains=tag)
    return rows.exclude(adopted_by="").exists()


def _close(market: str, venue: str, name: str) -> None:
    rows = Discrepancy.on(market).objects.filter(venue=venue, instrument=name, closed_at=None)
    if rows.update(closed_at=clock.market()):
        notices.resolve(_key(market, name))


def is_moving(market: str, venue: str) -> bool:
    """Return whether an order in flight may still explain a difference at a venue.

    An order older than a minute explains nothing: an open
    position must not hide behind one that is never heard of again.
    """
    bots = Position.on(market).objects.filter(venue=venue).values("bot")
    rows = Order.on(market).objects.filter(bot__in=bots, state__in=IN_FLIGHT)
    # One that was sent in the future, for the clock was set back, is as good as an old one.
    now = clock.real()
    return rows.filter(sent_at__gt=now - SETTLES_WITHIN, sent_at__lt=now + SETTLES_WITHIN).exists()


def explained(market: str, venue: Venue) -> Quantities:
    """Return what the account should hold by what is booked, fetched and adopted."""
    held: dict[str, Decimal] = {}
    rows = Position.on(market).objects.filter(venue=venue.name)
    _add(held, _sums(rows.values_list("instrument", "quantity")))
    _add(held, _adopted(market, venue))
    if venue.is_shared_with_owner:
        _add(held, _owners(market, venue.trades(clock.market() - TRADES_SINCE)))
    return {name: quantity for name, quantity in held.items() if quantity}


def owners_share(market: str, venue: Venue, instrument: str) -> Decimal:
    """Return what the owner holds of an instrument in a venue's account, as it was last fetched."""
    held = _adopted(market, venue)
    if venue.is_shared_with_owner:
        rows = OwnerTrade.on(market).objects.filter(instrument=instrument, given_by=GivenBy.OWNER)
        _add(held, _sums(rows.values_list("instrument", "quantity")))
        _add(held, _closed_by_owner(market))
    return held.get(instrument, Decimal(0))


def _adopted(market: str, venue: Venue) -> dict[str, Decimal]:
    """Return what people have taken over as the owner's in a venue's account."""
    rows = Discrepancy.on(market).objects.filter(venue=venue.name).exclude(adopted_by="")
    return _sums(rows.values_list("instrument", F("venue_quantity") - F("ledger_quantity")))


def _owners(market: str, trades: Sequence[VenueTrade]) -> Quantities:
    """Return what the owner has traded by hand: as fetched, and what was not fetched yet."""
    # What the broker itself did, squaring off, is exactly what a person must see.
    rows = OwnerTrade.on(market).objects.filter(given_by=GivenBy.OWNER)
    held = _sums(rows.values_list("instrument", "quantity"))
    _add(held, _closed_by_owner(market))
    recent = OwnerTrade.on(market).objects.filter(at__gte=clock.market() - 2 * TRADES_SINCE)
    fetched = {
        venue_trade_id(row.traded_on, row.exchange, row.trade_id)
        for row in recent.only("traded_on", "exchange", "trade_id")
    }
    ours = set(
        Fill.on(market)
        .objects.filter(trade_id__in=[each.trade_id for each in trades])
        .values_list("trade_id", flat=True)
    )
    fresh = [
        each
        for each in trades
        if not each.tag and not each.by_venue and each.trade_id not in fetched | ours
    ]
    _add(held, _sums((each.instrument, each.quantity) for each in fresh))
    return held


def _closed_by_owner(market: str) -> Quantities:
    """Return what of the owner's trades closed a bot's position, with the sign that takes it off.

    It is booked with the bot, so it is no position of the owner's any more.
    """
    rows = Fill.on(market).objects.filter(order__leg=BY_OWNER)
    rows = rows.exclude(trade_id__startswith=BY_WORD)
    return _sums(rows.values_list("instrument", -F("quantity")))


def _sums(rows: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    held: dict[str, Decimal] = {}
    for name, quantity in rows:
        held[name] = held.get(name, Decimal(0)) + quantity
    return held


def _add(held: dict[str, Decimal], more: Quantities) -> None:
    for name, quantity in more.items():
        held[name] = held.get(name, Decimal(0)) + quantity


def _is_ours(instruments: Instruments, name: str) -> bool:
    """Return whether the bots could trade it: the owner's options are nobody's business here."""
    try:
        expiry = instruments.parse(name).expiry
    except BadInstrument:
        return False
    return expiry is None or expiry >= clock.trading_date(clock.market())


def _key(market: str, instrument: str) -> str:
    return f"discrepancy:{market}:{instrument}"
