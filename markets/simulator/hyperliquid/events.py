"""What happens to the account without a signature of its client's: the exchange's, the owner's.

Each is a fault that waits for its occasion and then happens at once, before the next request is
answered. Of `quantity`, one is the asset's smallest step of a size.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from markets.simulator.faults import Fault, Faults
from markets.simulator.hyperliquid import forced
from markets.simulator.hyperliquid.account import CANCELED, SCHEDULED_CANCEL, Account, Fill, Order
from markets.simulator.hyperliquid.market import BY_NAME, UNIVERSE, Asset
from markets.simulator.hyperliquid.matching import FRONTEND, Ask, Engine
from markets.simulator.hyperliquid.refusals import Refusal
from markets.simulator.hyperliquid.wire import milliseconds

FOREIGN_COIN = "ETH"
FOREIGN_PRICE, FOREIGN_SIZE = Decimal(3_000), Decimal("0.01")
CLOSES: dict[str, Callable[[Engine, Account, str, Decimal], None]] = {
    "liquidate": forced.liquidate,
    "backstop": forced.backstop,
    "adl": forced.deleverage,
    "settle": forced.settle,
}
FAULTS = {
    "liquidate": "ends the open orders and sells `quantity` (0: all) of a position in the book",
    "backstop": "ends the open orders and takes over `quantity` (0: all) of a position",
    "adl": "deleverages `quantity` (0: all) of a position at the mark of the minute before",
    "settle": "delists: ends the asset's orders and settles `quantity` (0: all) of a position",
    "owner_trade": "lets the owner buy, or with a minus sell, `quantity` by hand",
    "owner_modify": "lets the owner give the oldest open order the size `quantity`: it is "
    "cancelled, and another with the same client's id takes its place",
    "owner_cancel": "lets the owner cancel the oldest open order",
    "foreign_fills": f"shows `quantity` executions in {FOREIGN_COIN}, a millisecond apart, the "
    "last of them now",
    "agent_pruned": "forgets the agents, who cannot sign from then on",
}


class Events:
    """Make happen to one account what waits."""

    def __init__(self, engine: Engine, account: Account, faults: Faults) -> None:
        self._engine = engine
        self.account = account
        self._faults = faults

    def happen(self, real: float) -> bool:
        """Do all that waits and has its occasion at a real time; return whether anything may have.

        A fault that finds nothing to happen to goes on waiting.
        """
        due_ms = self.account.scheduled_cancel_ms
        is_due = due_ms is not None and real * 1_000 >= due_ms
        if is_due:
            self.account.scheduled_cancel_ms = None
            self.account.end_all(SCHEDULED_CANCEL, milliseconds(self._engine.at))
        before = self._left()
        if not before:
            return is_due
        for asset in UNIVERSE:
            self._happen_to(asset)
        if fault := self._faults.take("foreign_fills", FOREIGN_COIN):
            self.show_foreign(fault.quantity)
        if self._faults.take("agent_pruned"):
            self.account.agents.clear()
        return is_due or self._left() < before

    def _left(self) -> int:
        return sum(fault.times for fault in self._faults.waiting())

    def _happen_to(self, asset: Asset) -> None:
        coin = asset.name
        if fault := self._faults.take("owner_trade", coin):
            self.trade_by_hand(coin, fault.quantity * asset.size_step)
        if (order := self._oldest(coin)) and self._faults.take("owner_cancel", coin):
            self._engine.cancel(self.account, order, coin)
        if (order := self._oldest(coin)) and (fault := self._faults.take("owner_modify", coin)):
            self.modify(order, fault.quantity * asset.size_step)
        for kind in CLOSES:
            if coin in self.account.positions and (fault := self._faults.take(kind, coin)):
                self.close(kind, coin, _size(fault, asset))

    def close(self, kind: str, coin: str, size: Decimal | None = None) -> None:
        """Close a position by force, or a part of it; `CLOSES` names the kinds."""
        held = abs(self.account.size_of(coin))
        CLOSES[kind](self._engine, self.account, coin, min(size or held, held))

    def trade_by_hand(self, coin: str, signed: Decimal) -> Order | None:
        """Buy, or with a minus sell, at the market without a client's id; None if refused."""
        asset = BY_NAME[coin]
        book = self._engine.market.book(asset, self._engine.at)
        limit = (book.asks if signed > 0 else book.bids)[-1].price
        ask = Ask(asset, signed > 0, limit, abs(signed), FRONTEND, False, None)
        try:
            return self._engine.place(self.account, ask)
        except Refusal:
            return None

    def modify(self, order: Order, size: Decimal) -> Order | None:
        """Put an order of another size in an order's place; None if that is refused."""
        self.account.end(order, CANCELED, milliseconds(self._engine.at))
        shape = (order.is_buy, order.limit, size, order.tif, order.reduce_only, order.cloid)
        try:
            return self._engine.place(self.account, Ask(BY_NAME[order.coin], *shape), again=True)
        except Refusal:
            return None

    def show_foreign(self, count: int) -> None:
        """Show executions in an asset that is not simulated; they change no cash."""
        now_ms = milliseconds(self._engine.at)
        for place in range(count):
            number, is_buy = self._engine.next_number(), place % 2 == 0
            self.account.fills.append(
                Fill(
                    tid=number,
                    oid=number,
                    cloid=None,
                    coin=FOREIGN_COIN,
                    is_buy=is_buy,
                    price=FOREIGN_PRICE,
                    size=FOREIGN_SIZE,
                    fee=Decimal(0),
                    crossed=True,
                    start_position=Decimal(0) if is_buy else FOREIGN_SIZE,
                    closed_pnl=Decimal(0),
                    direction="Open Long" if is_buy else "Close Long",
                    time_ms=now_ms - count + 1 + place,
                )
            )

    def _oldest(self, coin: str) -> Order | None:
        return next((each for each in self.account.open_orders() if each.coin == coin), None)


def _size(fault: Fault, asset: Asset) -> Decimal | None:
    return fault.quantity * asset.size_step or None
