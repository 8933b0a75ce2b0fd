"""The other hands in the soak's accounts: the owner's, the venue's, and the person who is asked.

The owner trades by the broker's own client, converts and modifies; the broker squares off, fails at
it, and is slow; the exchange liquidates, deleverages and is traded at by hand. A person ends what
nobody knows, by the venue's own records, and says what a difference is.
"""

from __future__ import annotations

import contextlib
import io
from decimal import Decimal
from typing import Any

OWNER_SHARE = 0.06
"""Of the bars at which somebody else acts."""
AWAY_SHARE = 0.02
"""Of the days that the bot's machine is off, whatever it had sent."""
STEPS_A_LOT = 1_000
"""Of BTC: the exchange's faults count in its smallest steps."""


class Broker:
    """Be the owner and the broker at the simulated Kite."""

    def __init__(self, kite: Any, url: str, tokens: Any) -> None:
        """Take the simulator, its address and where the day's token is."""
        from kiteconnect import KiteConnect

        from markets.simulator import credentials

        self._kite = kite
        self._tokens = tokens
        self._client = KiteConnect(credentials.KITE_API_KEY, root=url)

    def act(self, chance: Any, instrument: str) -> str:
        """Do one thing by hand or by force; return what."""
        from kiteconnect.exceptions import KiteException

        self._client.set_access_token(self._tokens.current())
        what = chance.choice(("trade", "trade", "close", "convert", "square_off", "fails"))
        # What cannot be done just now is not done, as by a person.
        with contextlib.suppress(KiteException):
            getattr(self, f"_{what}")(chance, instrument)
        return f"broker {what}"

    def held(self) -> Decimal:
        """Return what the account holds of futures, from the broker's own records."""
        positions = self._kite.account.portfolio.positions.values()
        return Decimal(sum(each.quantity for each in positions))

    def covers(self, symbol: str, quantity: Decimal, product: str) -> bool:
        """Return whether an exit of a quantity in a product only closes."""
        positions = self._kite.account.portfolio.positions.values()
        held = sum(
            each.quantity
            for each in positions
            if each.product == product and each.row.symbol == symbol
        )
        return bool(held * quantity < 0 and abs(quantity) <= abs(held))

    def filled(self, tag: str) -> Decimal:
        """Return what an order has traded, from all executions the account ever had."""
        book = self._kite.account.book
        numbers = {order.order_id for order in self.orders if order.ask.tag == tag}
        done = (trade for trade, _ in book.executions if trade.order_id in numbers)
        return Decimal(sum(trade.side * trade.quantity for trade in done))

    def remember(self) -> None:
        """Keep the orders of the book, which forgets them."""
        known = {order.order_id for order in self.orders}
        for order in list(self._kite.account.book.orders.values()):
            if order.order_id not in known:
                self.orders.append(order)

    orders: list[Any] = []

    def _trade(self, chance: Any, instrument: str) -> None:
        self._send(chance.choice((-2, -1, 1, 2)) * 65, "NRML")

    def _close(self, chance: Any, instrument: str) -> None:
        for position in list(self._kite.account.portfolio.positions.values()):
            if position.quantity:
                self._send(-position.quantity, position.product, position.row.symbol)

    def _convert(self, chance: Any, instrument: str) -> None:
        for position in list(self._kite.account.portfolio.positions.values()):
            if position.quantity:
                into = "MIS" if position.product == "NRML" else "NRML"
                self._client.convert_position(
                    exchange="NFO",
                    tradingsymbol=position.row.symbol,
                    transaction_type="BUY" if position.quantity > 0 else "SELL",
                    position_type="overnight" if position.overnight else "day",
                    quantity=abs(position.quantity),
                    old_product=position.product,
                    new_product=into,
                )

    def _square_off(self, chance: Any, instrument: str) -> None:
        self._kite.faults.put("square_off")

    def _fails(self, chance: Any, instrument: str) -> None:
        self._kite.faults.put("square_off_fails")

    def _send(self, quantity: int, product: str, symbol: str = "") -> None:
        listed = self._kite.account.world.listing()
        symbol = (
            symbol
            or min(
                (row for row in listed.rows if row.kind == "FUT" and row.name == "NIFTY"),
                key=lambda row: row.expiry,
            ).symbol
        )
        self._client.place_order(
            variety="regular",
            exchange="NFO",
            tradingsymbol=symbol,
            transaction_type="BUY" if quantity > 0 else "SELL",
            quantity=abs(quantity),
            product=product,
            order_type="MARKET",
            validity="DAY",
            market_protection=-1,
        )


class Exchange:
    """Be the owner and the exchange at the simulated Hyperliquid."""

    def __init__(self, exchange: Any) -> None:
        """Take the simulator."""
        from markets.simulator.credentials import EXCHANGE_WALLET

        self._exchange = exchange
        self._account = exchange.engine.accounts[EXCHANGE_WALLET]

    def act(self, chance: Any, instrument: str) -> str:
        """Do one thing by hand or by force; return what."""
        what = chance.choice(("owner_trade", "owner_trade", "liquidate", "adl", "foreign_fills"))
        how: dict[str, Any] = {}
        if what == "owner_trade":
            how["quantity"] = chance.choice((-2, -1, 1, 2)) * STEPS_A_LOT
        elif what == "adl":
            how["quantity"] = chance.choice((0, STEPS_A_LOT))
        elif what == "foreign_fills":
            how["quantity"] = 50
        if what in ("liquidate", "adl") and not self.held():
            return ""  # it would wait for a position
        self._exchange.faults.put(what, **how)
        return f"exchange {what}"

    def held(self) -> Decimal:
        """Return what the account holds, from the exchange's own records."""
        return sum((each.size for each in self._account.positions.values()), Decimal(0))

    def covers(self, symbol: str, quantity: Decimal, product: str) -> bool:
        """Return True: the exchange itself cuts what only reduces."""
        return True

    def filled(self, tag: str) -> Decimal:
        """Return what an order has traded."""
        from markets.venues.ccxt.client import tag_of

        fills = (fill for fill in list(self._account.fills) if tag_of(fill.cloid) == tag)
        return sum(((1 if fill.is_buy else -1) * fill.size for fill in fills), Decimal(0))

    def remember(self) -> None:
        """Keep nothing: it forgets nothing."""

    def tags(self) -> list[str]:
        """Return the tag of every order the account ever had."""
        from markets.venues.ccxt.client import tag_of

        tags = (tag_of(order.cloid) for order in list(self._account.orders.values()))
        return [tag for tag in tags if tag]


def answer(bot: Any, hands: Any, instruments: Any) -> dict[str, int]:
    """Be the person: end what is unknown and over, say what a difference is, and let it go on."""
    from django.core.management import call_command

    from bots.execution import break_resolution, kill_switch
    from bots.execution.states import State
    from bots.models import Discrepancy, Order, RiskState

    counted = {"given_up": 0, "resumed": 0, "resolved": 0}
    market, silent = bot.market, io.StringIO()
    for order in Order.on(market).objects.filter(bot=bot.slug, state=State.UNKNOWN):
        filled = abs(hands.filled(order.tag)) - abs(order.filled_quantity)
        words = ("giveup", market, order.tag, "--filled", f"{filled:f}", "--yes")
        call_command(*words, stdout=silent)
        counted["given_up"] += 1
    for row in Discrepancy.on(market).objects.filter(closed_at=None):
        # An order that has not ended comes first; the person is asked again.
        with contextlib.suppress(ValueError):
            choice = break_resolution.choices(market, row)[0]
            break_resolution.resolve(market, row, choice.key, "a person", instruments)
            counted["resolved"] += 1
    if RiskState.on(market).objects.filter(bot=bot.slug, halted=True).exists():
        kill_switch.resume(bot, "a person")
        counted["resumed"] += 1
    return counted
