"""Profit and loss from the books: the hero figures, the bots' day, the positions, the curve.

Everything counts after charges. Each market keeps its own currency; only sums over markets are in
rupees, at the stated rate.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from bots.execution.closures import SIDES
from bots.models import Position
from bots.modelstore.models import ModelVersion
from monitoring.dashboard import curve, sparkline
from monitoring.dashboard.books import TRADES_SHOWN, Book, by_bot
from tradingsite.registry import BOTS, SLOTS, Bot, Market, Slot

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Account:
    """What a slot, a bot or a market has made; amounts in the market's currency."""

    equity: Decimal = ZERO
    """Since the start, after charges."""
    today: Decimal = ZERO
    charges: Decimal = ZERO
    charges_today: Decimal = ZERO
    exposure: Decimal = ZERO
    """Absolute value of what is held, at the last price; of a market, net of its slots."""
    gross: Decimal = ZERO
    """The same with every slot's counted, though one be long and another short."""

    def __add__(self, other: Account) -> Account:
        return Account(
            self.equity + other.equity,
            self.today + other.today,
            self.charges + other.charges,
            self.charges_today + other.charges_today,
            self.exposure + other.exposure,
            self.gross + other.gross,
        )

    def at_rate(self, rate: Decimal) -> Account:
        """Return the account in another currency."""
        return Account(
            self.equity * rate,
            self.today * rate,
            self.charges * rate,
            self.charges_today * rate,
            self.exposure * rate,
            self.gross * rate,
        )


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One slot's line in the table of positions."""

    slot: Slot
    title: str
    currency: str
    instrument: str
    side: str
    lots: int
    quantity: Decimal
    entry: Decimal | None
    last: Decimal | None
    unrealised: Decimal | None
    model: str

    @property
    def version(self) -> str:
        """Return the model without its slot's name, which stands beside it."""
        return self.model.removeprefix(f"{self.slot.slug} ")


@dataclass(frozen=True, slots=True)
class BotRow:
    """One bot's day."""

    bot: Bot
    currency: str
    today: Decimal
    trades: int
    holding: str
    held_lots: int
    spark: sparkline.Sparkline
    loss: Decimal
    loss_ratio: float
    is_halted: bool
    is_closing: bool
    """Halted, and told to close what it holds."""
    halt_reason: str
    is_latched: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill, as a line."""

    at: dt.datetime
    title: str
    verb: str
    quantity: Decimal
    price: Decimal
    currency: str
    closed_by: str = ""
    """Who closed it for the bot, where it was no order of its own."""


@dataclass(frozen=True, slots=True)
class MarketSum:
    """One market's part of the total."""

    market: Market
    account: Account
    error: str


@dataclass(frozen=True, slots=True)
class Money:
    """The sums over all markets, in rupees."""

    total: Account
    markets: list[MarketSum]
    drawdown: Decimal
    curve: curve.Curve


def rates(usdc_inr: float) -> dict[str, Decimal]:
    """Return the rupees for one unit of each currency."""
    return {"INR": Decimal(1), "USDC": Decimal(str(usdc_inr))}


def slot_account(book: Book, slot: str) -> Account:
    """Return a slot's account at the last price, or at its last mark before there is one."""
    opening = book.opening.get(slot)
    position = book.positions.get(slot)
    if position is None:
        return Account()
    newest = [mark for mark in book.today if mark.slot == slot] or ([opening] if opening else [])
    last = _last_price(book, position)
    if position.quantity == 0:
        equity = position.cash
    elif last is None:
        equity = newest[-1].equity if newest else ZERO
    else:
        equity = position.cash + position.quantity * last
    before = opening.equity if opening else ZERO
    charged_before = opening.charges if opening else ZERO
    return Account(
        equity=equity,
        today=equity - before,
        charges=position.charges,
        charges_today=position.charges - charged_before,
        exposure=abs(position.quantity) * (last or ZERO),
        gross=abs(position.quantity) * (last or ZERO),
    )


def market_account(book: Book) -> Account:
    """Return the sum of a market's slots, its exposure net of those that trade against others.

    Slots net within one account only: a long on paper takes nothing off a short at the broker.
    """
    held: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for position in book.positions.values():
        if position.slot in book.slots:
            held[position.venue, position.instrument] += position.quantity
    net = sum(
        (
            abs(quantity) * (book.quotes[name].price if name in book.quotes else ZERO)
            for (_, name), quantity in held.items()
        ),
        ZERO,
    )
    whole = sum((slot_account(book, slot) for slot in book.slots), Account())
    return replace(whole, exposure=net)


def position_rows(
    books: Mapping[str, Book], active: Mapping[str, ModelVersion | None]
) -> list[PositionRow]:
    """Return one line per slot, flat ones too; a market without a database has none.

    The model is the one that decided last, or that will decide next where none has yet.
    """
    rows = []
    for slot in SLOTS.values():
        book = books.get(slot.market)
        if book is None or book.error:
            continue
        position = book.positions.get(slot.slug)
        quantity = position.quantity if position else ZERO
        lots = position.lots if position else 0
        last = _last_price(book, position)
        entry = position.average_price if position and quantity else None
        rows.append(
            PositionRow(
                slot=slot,
                title=f"{BOTS[slot.bot].title} {slot.timeframe}",
                currency=book.market.currency,
                instrument=position.instrument if position else book.market.instrument,
                side="Long" if quantity > 0 else "Short" if quantity < 0 else "Flat",
                lots=lots,
                quantity=quantity,
                entry=entry,
                last=last,
                unrealised=(last - entry) * quantity if last and entry else None,
                model=(position.model if position else "") or str(active.get(slot.slug) or ""),
            )
        )
    return rows


def bot_rows(books: Mapping[str, Book]) -> list[BotRow]:
    """Return one line per bot."""
    return [_bot_row(bot, books[bot.market]) for bot in BOTS.values() if bot.market in books]


def _bot_row(bot: Bot, book: Book) -> BotRow:
    slugs = [slot.slug for slot in bot.slots]
    account = sum((slot_account(book, slug) for slug in slugs), Account())
    opening = {slug: book.opening[slug].equity for slug in slugs if slug in book.opening}
    path = [
        float(total - sum(opening.values(), ZERO))
        for _, total in curve.totals(by_bot(book.today).get(bot.slug, []), opening)
    ]
    if path:
        path = [0.0, *path, float(account.today)]
    risk = book.risk.get(bot.slug)
    held = [book.positions[slug] for slug in slugs if slug in book.positions]
    lots = sum(position.lots for position in held)
    loss = max(-account.today, ZERO)
    return BotRow(
        bot=bot,
        currency=book.market.currency,
        today=account.today,
        trades=book.fills_today.get(bot.slug, 0),
        holding="Long" if lots > 0 else "Short" if lots < 0 else "Flat",
        held_lots=abs(lots),
        spark=sparkline.draw(path),
        loss=loss,
        loss_ratio=min(float(loss / bot.daily_loss_limit), 1.0),
        is_halted=bool(risk and risk.halted),
        is_closing=bool(risk and risk.halted and risk.flatten and any(p.quantity for p in held)),
        halt_reason=risk.halt_reason if risk else "",
        is_latched=bool(risk and risk.loss_latched and risk.trading_date == book.date),
        error=book.error,
    )


def latest_trades(books: Iterable[Book]) -> list[Trade]:
    """Return the newest fills of all markets, newest first."""
    trades = [
        Trade(
            at=fill.at,
            title=BOTS[fill.bot].title if fill.bot in BOTS else fill.bot,
            verb="bought" if fill.quantity > 0 else "sold",
            quantity=fill.quantity,
            price=fill.price,
            currency=book.market.currency,
            closed_by=SIDES.get(fill.order.leg, ""),
        )
        for book in books
        for fill in book.latest_fills
    ]
    return sorted(trades, key=lambda trade: trade.at, reverse=True)[:TRADES_SHOWN]


def summary(
    books: Mapping[str, Book],
    day_starts_at: dt.datetime,
    now: dt.datetime,
    rate_of: Mapping[str, Decimal],
) -> Money:
    """Return the sums over the markets and the curve."""
    markets = [MarketSum(book.market, market_account(book), book.error) for book in books.values()]
    total = sum(
        (each.account.at_rate(rate_of[each.market.currency]) for each in markets), Account()
    )
    drawn = curve.build(books.values(), day_starts_at, (now, total.equity), rate_of)
    return Money(
        total=total,
        markets=markets,
        drawdown=min(total.equity - drawn.peak, ZERO),
        curve=drawn,
    )


def _last_price(book: Book, position: Position | None) -> Decimal | None:
    instrument = position.instrument if position else book.market.instrument
    quote = book.quotes.get(instrument)
    return quote.price if quote else None
