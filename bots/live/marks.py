"""What a bot's slots are worth: marks at their bars' closes, snapshots between, the daily loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from bots.decision import accounting
from bots.decision.observation import Float32Array
from bots.decision.risk import GateState, RiskGate
from bots.decision.sleeve import Sleeve
from bots.execution import ledger
from bots.models import PnlSnapshot, Position, RiskState
from markets.domain.instruments import Instruments
from markets.venues.base import Venue
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS, Bot

MARK_FIELDS = [
    *("lots", "equity", "entry_equity", "peak_equity", "bars_held", "rolled_side"),
    *("model", "updated_at"),
]
SNAPSHOT_FIELDS = ["equity", "unrealised", "charges", "lots", "mark"]


@dataclass(frozen=True, slots=True)
class MarkedSlot:
    """Hold one slot at its bar's close: its row, brought up to the mark, and what a policy sees."""

    row: Position
    sleeve: Sleeve
    account: Float32Array
    price: Decimal


def mark(
    bot: Bot, row: Position, instruments: Instruments, underlying: float, opens_at: Epoch
) -> MarkedSlot:
    """Mark a slot at the close of the bar that opened at an instant, without saving it.

    A position is valued in its own contract, a flat slot sees the front one.
    """
    front = instruments.front(opens_at)
    instrument = instruments.parse(row.instrument) if row.quantity else front
    price = instruments.price(instrument, underlying, opens_at)
    if price is None:
        # Rolled after this bar: the contract it is in now had no price of its own then.
        price = instruments.price(front, underlying, opens_at) or underlying
    sleeve = ledger.sleeve_of(row, bot, instrument.lot_size)
    account = sleeve.observe(price, float(instrument.lot_size))
    ledger.save_sleeve(row, sleeve, clock.market())
    worth = accounting.equity(row.cash, row.quantity, ledger.money(price))
    row.equity = ledger.money(worth)
    return MarkedSlot(row, sleeve, account, ledger.money(price))


def save_marks(bot: Bot, marked: Sequence[tuple[MarkedSlot, int]]) -> None:
    """Save rows marked at their bars' closes, with a snapshot each, inside a transaction."""
    for each, _ in marked:
        each.row.save(update_fields=MARK_FIELDS)
    PnlSnapshot.on(bot.market).objects.bulk_create(
        [_snapshot(bot, each.row, each.price, Epoch(closes_at)) for each, closes_at in marked],
        update_conflicts=True,
        unique_fields=["slot", "at"],
        update_fields=SNAPSHOT_FIELDS,
    )


def snapshot(
    bot: Bot, rows: Sequence[Position], venue: Venue, instruments: Instruments, at: Epoch
) -> int:
    """Write what each slot is worth at the last quote, where no bar's close has said so."""
    front = instruments.front(at).name
    made = []
    for row in rows:
        price = venue.quote(row.instrument if row.quantity else front)
        if price is not None:
            made.append(_snapshot(bot, row, price, at))
    PnlSnapshot.on(bot.market).objects.bulk_create(made, ignore_conflicts=True)
    return len(made)


def gate_of(bot: Bot, risk: RiskState) -> RiskGate:
    """Return the bot's daily-loss gate as its row remembers it."""
    state = GateState(risk.trading_date, risk.start_equity, risk.last_equity, risk.loss_latched)
    return RiskGate(bot.daily_loss_limit, state)


def save_gate(bot: Bot, gate: RiskGate) -> None:
    """Store the gate; a new trading date starts the day's counters anew.

    Bots of one account lose together: once their losses of a date reach the account's limit, each
    of them is latched, and a latch of that date is never taken back.
    """
    rows = list(RiskState.on(bot.market).objects.select_for_update().order_by("bot"))
    row = next(each for each in rows if each.bot == bot.slug)
    state = gate.state()
    was_latched = row.loss_latched and row.trading_date == state.date
    if state.date != row.trading_date:
        row.orders_today = 0
    row.trading_date = state.date
    row.start_equity = state.opening_equity
    row.last_equity = state.last_equity
    row.loss_latched = state.is_latched or was_latched
    row.updated_at = clock.market()
    row.save(
        update_fields=[
            *("orders_today", "trading_date", "start_equity", "last_equity", "loss_latched"),
            "updated_at",
        ]
    )
    today = [each for each in rows if each.trading_date == state.date]
    lost = sum((each.start_equity - each.last_equity for each in today), Decimal(0))
    if lost >= MARKETS[bot.market].daily_loss_limit:
        slugs = [each.bot for each in today]
        RiskState.on(bot.market).objects.filter(bot__in=slugs).update(loss_latched=True)


def notify_loss_limit(bot: Bot) -> None:
    """Tell people that the daily loss limit was reached."""
    currency = MARKETS[bot.market].currency
    notices.notify(
        "trading",
        "critical",
        f"daily-loss:{bot.slug}",
        f"{bot.title} bot has lost its daily limit of {currency} {bot.daily_loss_limit:,}. Until "
        f"the next trading date it only reduces its positions; winning the money back does not "
        f"change that.",
    )


def _snapshot(bot: Bot, row: Position, price: Decimal, at: Epoch) -> PnlSnapshot:
    worth = ledger.money(accounting.equity(row.cash, row.quantity, price))
    return PnlSnapshot.on(bot.market)(
        slot=row.slot,
        at=clock.from_seconds(at),
        equity=worth,
        unrealised=worth - row.entry_equity if row.quantity else Decimal(0),
        charges=row.charges,
        lots=row.lots,
        mark=price,
    )
