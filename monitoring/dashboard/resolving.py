"""What only a person can say, on the page: whose a difference is, what became of an order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from django.http import HttpRequest, HttpResponse

from bots.execution import break_resolution, breaks, manual_resolution
from bots.models import Discrepancy, Order
from markets import store
from markets.domain.instruments import Instruments
from monitoring.dashboard import acts, confirm
from monitoring.dashboard.acts import Act, Field, Said
from monitoring.dashboard.broker import CALM, FAIL
from tradingsite import clock
from tradingsite.format import price as as_price
from tradingsite.registry import MARKETS

ADOPTED_BY_CHARACTERS = 60
PRICE = "The price"
FILLED = "What filled"


@confirm.guarded("adopt")
def adopt(request: HttpRequest, market: str, number: int) -> HttpResponse:
    """Ask what a difference that nobody explains is; by POST, book the answer."""
    market = acts.named_market(market)
    row = Discrepancy.on(market).objects.filter(pk=number, closed_at=None).first()
    if row is None:
        return acts.back(request, "The ledger and the venue agree there by now.")
    choices = break_resolution.choices(market, row)
    held = breaks.bots_hold(market, row.venue, row.instrument)
    act = Act(
        f"What is the difference in {row.instrument}?",
        "The bots' fills and your own trades do not explain what the account holds. Look at the "
        "venue's own pages first. Every answer says what it books, and none sends an order.",
        "Book it",
        (
            ("The ledger has, with yours", _signed(row.ledger_quantity)),
            (f"{row.venue} has", _signed(row.venue_quantity)),
            ("The bots hold", _signed(held)),
        ),
        choices=choices,
        fields=_price_fields(market, row, choices),
        seen=f"{_signed(row.ledger_quantity)} {_signed(row.venue_quantity)} {_signed(held)}",
    )

    def carry_out() -> Sequence[Said]:
        key = request.POST.get("answer", "")
        chosen = next((each for each in choices if each.key == key), None)
        if chosen is None:
            raise ValueError("choose what it is; nothing was changed")
        price = acts.figure(request, "price", PRICE) if chosen.needs_price else None
        if chosen.needs_price and not price:
            raise ValueError(f"say at what price {row.instrument} was closed; nothing was changed")
        by = acts.person(request)
        if not chosen.needs_price:
            by = by[:ADOPTED_BY_CHARACTERS]  # kept in the difference's own row
        booked = break_resolution.resolve(market, row, key, by, _instruments(market), price)
        return [Said(CALM, f"{booked}.")]

    return acts.confirmed(request, act, carry_out)


@confirm.guarded("give_up")
def give_up(request: HttpRequest, market: str, tag: str) -> HttpResponse:
    """Ask what became of an unknown order; by POST, end it so."""
    market = acts.named_market(market)
    order = Order.on(market).objects.filter(tag=tag, state=Order.State.UNKNOWN).first()
    if order is None:
        return acts.back(request, f"Order {tag} is not unknown any more.")
    booked = order.filled_quantity
    sent_at = _sent_at(order, market)
    act = _giving_up(order, sent_at)

    def carry_out() -> Sequence[Said]:
        filled = acts.figure(request, "filled", FILLED) or Decimal(0)
        price = acts.figure(request, "price", PRICE)
        if price is not None and not (filled and price):
            raise ValueError(
                "a price goes with what filled at it: give both above zero, or leave the price "
                "empty; nothing was changed"
            )
        by = acts.person(request)
        if not manual_resolution.give_up(market, tag, by, _instruments(market), filled, price):
            return [Said(FAIL, f"Order {tag} is not unknown any more; nothing was changed.")]
        ended = Order.on(market).objects.get(tag=tag)
        at = as_price(price, MARKETS[market].currency) if price else sent_at
        nothing = "nothing more booked" if booked else "nothing booked"
        words = f"{filled.normalize():f} booked at {at}" if filled else nothing
        return [Said(CALM, f"Order {tag}: {words}. It is {ended.get_state_display().lower()}.")]

    return acts.confirmed(request, act, carry_out)


def _sent_at(order: Order, market: str) -> str:
    """Return the price at which an order was sent, in words."""
    return as_price(order.arrival_price or order.reference_price, MARKETS[market].currency)


def _giving_up(order: Order, sent_at: str) -> Act:
    """Return what a person is asked of an order that nobody knows the fate of."""
    booked, left = order.filled_quantity, abs(order.quantity) - abs(order.filled_quantity)
    more = "more " if booked else ""
    return Act(
        f"What became of order {order.tag}?",
        f"Look at the venue's own order book, executions and positions first. Where nothing {more}"
        f"filled, nothing {more}is booked and the order ends. Where something did, it is booked "
        f"with the bot's slots at the price you give, charges as for any trade, and the rest of "
        f"the order ends. Nothing is sent. Should the venue show more of it after all, that is "
        f"taken in as late, on top of what was traded since.",
        "End it so",
        (
            ("Order", f"{_signed(order.quantity)} {order.instrument}"),
            ("Since", f"{order.created_at.astimezone(clock.IST):%a %d %b %H:%M}"),
            ("Booked so far", _signed(booked) if booked else "nothing"),
            ("Still open of it", f"{left.normalize():f}"),
            ("What is known", order.message),
        ),
        fields=(
            Field(
                "filled",
                f"{'What filled beyond that' if booked else FILLED}, in units without a sign",
                "0",
                f"0 ends it {'with what is booked' if booked else 'as never placed'}; at most "
                f"{left.normalize():f}",
            ),
            Field("price", "At what price", "", f"left empty: that of its sending, {sent_at}"),
        ),
        seen=f"{_signed(order.quantity)} {_signed(booked)}",
    )


def _price_fields(
    market: str, row: Discrepancy, choices: Sequence[break_resolution.Choice]
) -> Sequence[Field]:
    if not any(each.needs_price for each in choices):
        return ()
    known = break_resolution.suggested_price(market, row.instrument)
    return (
        Field(
            "price",
            f"At what price it was closed, in {MARKETS[market].currency}",
            f"{known.normalize():f}" if known else "",
            "the last price is filled in: put the one of the venue's own record in its place"
            if known
            else "no price of it is known here: take the one of the venue's own record",
        ),
    )


def _instruments(market: str) -> Instruments:
    return Instruments(market, store.load_calendar(market))


def _signed(quantity: Decimal) -> str:
    return f"{quantity.normalize():+f}" if quantity else "0"
