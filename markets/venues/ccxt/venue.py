"""A crypto exchange as the desk's venue, through the unified methods of ccxt.

An order goes out as an immediate limit order a collar away from the book's far side, which is what
such exchanges call a market order; what it does not fill is cancelled by the exchange. It carries
the desk's tag as its client order id, and the book is asked by that. Executions are the truth of
what was filled and paid: what an exchange answers to an order says little, and differs.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from markets.venues import lean_import
from markets.venues.base import (
    BookOrder,
    Holding,
    Margins,
    OrderRefused,
    TokenRefused,
    VenueTrade,
    net,
    refuse_if_late,
)
from markets.venues.ccxt import signing
from markets.venues.ccxt.client import ExchangeConfig, Wire, cloid_of, tag_of
from markets.venues.ccxt.market_data import MILLISECONDS, ExchangeData, decimal_of, positive
from markets.venues.ccxt.rows import is_forced, state_of
from markets.venues.odd_rows import UNREADABLE, OddRows, legible
from tradingsite import clock
from tradingsite.errors import Degraded, Retry

# How far from the far side an order may fill: ten times what we reckon with, a floor below it.
COLLAR_FACTOR = 10.0
LEAST_COLLAR_BPS = 50.0
TRADES_PER_PAGE = 1_000
# Hyperliquid's page, of all coins together: a filter by symbol after it would hide our own.
FILLS_PER_PAGE = 2_000
FILLS_LAG_SECONDS = 10.0
"""Real time after an order ended in which its executions may still come to be shown."""
TURN_SECONDS = 5.0
"""Real time for which a look at the book, taken with an order's turn, is good enough for it."""
NONCE_SETTLES = dt.timedelta(seconds=60)
"""After its sending, until a nonce that is used and an order that is not there are a proof."""
_BASIS_POINTS = 10_000.0
_MINUTE_SECONDS = 60.0


class ExchangeVenue(ExchangeData):
    """Trade and read one perpetual contract of one account."""

    is_shared_with_owner = False
    """Nobody fetches the owner's trades: what he does there stops the bot until it is adopted."""
    takes_orders_when_closed = True
    """It never closes."""
    product = ""
    keeps_day_book = False
    honours_reduce_only = True
    is_remote = True

    def __init__(self, config: ExchangeConfig) -> None:
        """Take where and who; nothing is asked of the exchange before the first call."""
        super().__init__(config)
        self._account = Wire(config, with_keys=True)
        self._tags: dict[str, str] = {}
        self._fees: dict[str, Decimal] = {}
        self._leverage_is_set = False
        self._turn: tuple[tuple[Decimal, Decimal] | None, float] | None = None
        self._ended_at: dict[str, float] = {}
        self.odd_rows = OddRows(self.name)

    # --- Orders ------------------------------------------------------------------------------

    def take_turn(self, instrument: str) -> None:
        """Look at the book and set the leverage, so that an order then goes out at once.

        A leverage that cannot be set is no reason to keep an exit: it is asked for again then.
        """
        try:
            self._symbol(instrument)
            book = self._book(self._account)
            if not self.config.has_keys:
                raise TokenRefused(f"there are no keys for {self.name}")
        except (Degraded, Retry) as error:
            raise OrderRefused(f"not sent: {error}") from error
        self._turn = (book[:2] if book else None), time.monotonic()

    def place(
        self,
        tag: str,
        instrument: str,
        quantity: Decimal,
        slippage_bps: float,
        *,
        reduces: bool = False,
        product: str = "",
        sent_at: dt.datetime | None = None,
    ) -> str:
        """Send one order and return the exchange's id; called once for a tag, never retried.

        Raises OrderRefused for a known refusal and for an order that was not sent at all;
        OrderUncertain for everything else.
        """
        side = "buy" if quantity > 0 else "sell"
        try:
            cloid = cloid_of(tag)
            amount = self._amount(instrument, abs(quantity))
            price = self._collar(side, slippage_bps)
            if not reduces:
                self._set_leverage()
        except OrderRefused:
            raise
        except (Degraded, Retry, ValueError) as error:
            raise OrderRefused(f"the order was not sent: {error}") from error
        how: dict[str, Any] = {"timeInForce": "IOC", "clientOrderId": cloid}
        if reduces:
            how["reduceOnly"] = True
        refuse_if_late(sent_at, clock.real())
        self._note()
        return self._account.order(sent_at, self.config.symbol, "limit", side, amount, price, how)

    def cancel(self, order: BookOrder) -> None:
        """Ask that what is left of an order be cancelled; one that is over is none of our worry."""
        ccxt = lean_import.module("ccxt.base.errors")
        how = {} if order.venue_id else {"clientOrderId": cloid_of(order.tag)}
        name = order.venue_id or cloid_of(order.tag)
        try:
            self._signed("cancel_order", name, self._symbol(order.instrument), how)
        except ccxt.OrderNotFound:
            return

    @legible
    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the exchange's book holds."""
        rows = []
        for tag in tags:
            try:
                cloid = cloid_of(tag)
            except ValueError:
                continue  # never sent by us, so it cannot be there
            row = self._order_row(cloid, {"clientOrderId": cloid})
            if row is not None:
                rows.append((row, tag))
        return self.odd_rows.read("order", rows, lambda each: self._own_order(*each))

    @legible
    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant whose client order id is of our form."""
        rows = self._signed("fetch_orders", self.config.symbol, _ms(since))
        tagged = [(row, tag) for row in rows if (tag := tag_of(row.get("clientOrderId")))]
        return self.odd_rows.read("order", tagged, lambda each: self._book_order(*each))

    def rule_out(self, tag: str, sent_at: dt.datetime | None = None) -> bool:
        """Return whether an order the book does not hold can never arrive, by its nonce.

        Only where orders are signed with one: a `noop` that uses it up makes the order impossible.
        A nonce that was used already proves it too, once the book has had the time to show what
        used it, and so does one that is too old. Elsewhere an order may arrive however late.
        """
        if self.config.id != signing.CHAIN or sent_at is None:
            return False
        age = clock.real() - sent_at
        self._note()
        against = self._account.use_up_nonce(sent_at)
        if not against:
            return True
        if signing.USED in against and age < NONCE_SETTLES:
            return False
        is_gone = signing.USED in against or signing.TOO_LOW in against
        cloid = cloid_of(tag)
        return is_gone and self._order_row(cloid, {"clientOrderId": cloid}) is None

    # --- The account -------------------------------------------------------------------------

    @legible
    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the executions since an instant, oldest first."""
        found: dict[str, dict[str, Any]] = {}
        cursor = _ms(since)
        is_chain = self.config.id == signing.CHAIN
        symbol = None if is_chain else self.config.symbol
        most = FILLS_PER_PAGE if is_chain else TRADES_PER_PAGE
        while True:
            page = self._signed("fetch_my_trades", symbol, cursor, most)
            fresh = {str(row["id"]): row for row in page if str(row["id"]) not in found}
            found |= fresh
            if not fresh or len(page) < most:
                break
            cursor = max(int(row["timestamp"] or 0) for row in page)
        ours = [row for row in found.values() if row["symbol"] == self.config.symbol]
        rows = sorted(ours, key=lambda row: (row["timestamp"] or 0, str(row["id"])))
        return self.odd_rows.read("execution", rows, self._trade, lambda row: row["id"])

    def positions(self) -> dict[str, Decimal]:
        """Return the account's net quantity; a foreign contract has its symbol as name."""
        return net(self.holdings())

    @legible
    def holdings(self) -> list[Holding]:
        """Return what the account holds; both sides of an account that hedges are rows.

        Raises Degraded where our own contract's row cannot be read.
        """
        found = []
        for row in self._signed("fetch_positions"):
            try:
                found.append(self._holding(row))
            except UNREADABLE as error:
                symbol = str(row.get("symbol"))
                if symbol in (self.config.symbol, "None", ""):
                    raise Degraded(f"{self.name}'s position cannot be read: {row}") from error
                self.odd_rows.tell("position", symbol, error)
        return [each for each in found if each.quantity]

    def squares_off_at(self, product: str, date: dt.date) -> dt.datetime | None:
        """Return None: it never closes, and squares nothing off by the clock."""
        return None

    @legible
    def margins(self) -> Margins:
        """Return what the account can still use, and what its positions bind."""
        currency = str(self._market(self._account)["settle"])
        row = self._signed("fetch_balance").get(currency) or {}
        return Margins(currency, decimal_of(row.get("free") or 0), decimal_of(row.get("used") or 0))

    @legible
    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return what a market order would bind on either side: its worth over our leverage."""
        book = self._book(self._account)
        if book is None or self._symbol(instrument) != self.config.symbol:
            raise Degraded(f"{self.name} shows no two sides of {instrument}")
        return abs(quantity) * decimal_of(book[1]) / self.config.leverage

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return the fee of each execution; raise Degraded for one the exchange has no fee of."""
        if unknown := [trade for trade in trades if trade.trade_id not in self._fees]:
            self.trades(min(trade.at for trade in unknown))
        missing = [trade.trade_id for trade in trades if trade.trade_id not in self._fees]
        if missing:
            raise Degraded(f"{self.name} names no fee in our currency of {', '.join(missing)}")
        return [self._fees[trade.trade_id] for trade in trades]

    def health(self) -> dict[str, object]:
        """Return what a person wants to know before trusting the connection; the wallet is cut.

        The offset is the exchange's clock less ours, in seconds, and as good as the latency.
        """
        self._data.client()
        before, asked_at = clock.market_seconds(), time.monotonic()
        theirs = int(self._read(self._data, "fetch_time")) / MILLISECONDS
        latency = time.monotonic() - asked_at
        ours = (before + clock.market_seconds()) / 2.0
        fees = self._signed("fetch_trading_fee", self.config.symbol)
        pause = float(self._account.client().rateLimit)
        recent = sum(1 for each in self._asked if asked_at - each < _MINUTE_SECONDS)
        margins = self.margins()
        return {
            "exchange": self.name,
            "account": self.config.account,
            "margins": {
                "currency": margins.currency,
                "available": margins.available,
                "used": margins.used,
            },
            "latency_ms": round(1_000.0 * latency, 1),
            "clock_offset_s": round(theirs - ours, 3),
            "fees": {"taker": fees["taker"], "maker": fees["maker"]},
            "requests_last_minute": recent,
            "requests_allowed_a_minute": int(60_000.0 / pause) if pause else None,
        }

    # --- What the rest is made of ------------------------------------------------------------

    def _signed(self, method: str, *arguments: Any) -> Any:
        if not self.config.has_keys:
            raise TokenRefused(f"there are no keys for {self.name}: set them and start again")
        return self._read(self._account, method, *arguments)

    def _amount(self, instrument: str, units: Decimal) -> float:
        """Return an order's size in contracts; raise OrderRefused for one the step would round."""
        symbol, market = self._symbol(instrument), self._market(self._account)
        contracts = units / decimal_of(market.get("contractSize") or 1)
        step = decimal_of(market["precision"]["amount"])
        if not contracts or contracts % step:
            raise OrderRefused(
                f"the order was not sent: {units:f} is not a whole number of {symbol}'s steps of "
                f"{step:f}"
            )
        return float(contracts)

    def _collar(self, side: str, slippage_bps: float) -> float:
        """Return the worst price an order may fill at, from the far side of the book of now."""
        turn, self._turn = self._turn, None
        if turn is not None and time.monotonic() - turn[1] < TURN_SECONDS:
            book = turn[0]
        else:
            looked = self._book(self._account)
            book = looked[:2] if looked else None
        if book is None:
            raise OrderRefused("the order was not sent: a side of the book is empty")
        ratio = max(COLLAR_FACTOR * slippage_bps, LEAST_COLLAR_BPS) / _BASIS_POINTS
        price = float(book[1]) * (1.0 + ratio) if side == "buy" else float(book[0]) * (1.0 - ratio)
        client = self._account.client()
        return float(client.price_to_precision(self.config.symbol, price))

    def _set_leverage(self) -> None:
        if not self._leverage_is_set:
            self._signed("set_leverage", self.config.leverage, self.config.symbol)
            self._leverage_is_set = True

    def _order_row(self, name: str, how: dict[str, Any]) -> dict[str, Any] | None:
        ccxt = lean_import.module("ccxt.base.errors")

        try:
            return dict(self._signed("fetch_order", name, self.config.symbol, how))
        except ccxt.OrderNotFound:
            return None

    def _own_order(self, row: dict[str, Any], tag: str) -> BookOrder:
        """Return one of our orders with the sum of its executions, which alone say what filled.

        A status may say filled of an order that filled in part, and a size may be an old one. An
        order that is over counts as open until its executions agree with it, or had the time to.
        """
        order = self._book_order(row, tag)
        if order.state in ("open", "rejected"):
            return order
        trades = self.trades(order.accepted_at - dt.timedelta(minutes=1))
        filled = sum((trade.quantity for trade in trades if trade.tag == tag), Decimal(0))
        said = order.quantity if order.state == "filled" else order.filled_quantity
        ended_at = self._ended_at.setdefault(tag, time.monotonic())
        is_settled = filled == said or time.monotonic() - ended_at > FILLS_LAG_SECONDS
        if not is_settled or (order.state == "filled" and not filled):
            return replace(order, state="open", filled_quantity=filled)
        return replace(order, filled_quantity=filled)

    def _book_order(self, row: dict[str, Any], tag: str) -> BookOrder:
        raw = row.get("info") or {}
        state = state_of(row["status"])
        if not state:
            # Whatever it means, the order may still change what is held.
            self.odd_rows.tell("order status", str(row["status"]), ValueError("an unknown word"))
            state = "open"
        size, sign = self._size(row["symbol"]), 1 if row["side"] == "buy" else -1
        return BookOrder(
            tag=tag,
            instrument=self._name(row["symbol"]),
            quantity=sign * size * decimal_of(row["amount"]),
            state=state,
            accepted_at=clock.from_seconds(row["timestamp"] / MILLISECONDS),
            message=str(raw.get("status", "")) if state == "rejected" else "",
            filled_quantity=sign * size * decimal_of(row["filled"] or 0),
            venue_id=str(row["id"]),
        )

    def _holding(self, row: dict[str, Any]) -> Holding:
        sign = {"long": 1, "short": -1}[row["side"]] if row["contracts"] else 1
        size = decimal_of(row.get("contractSize") or self._size(row["symbol"]))
        price = row.get("entryPrice")
        return Holding(
            self._name(row["symbol"]),
            sign * decimal_of(row["contracts"] or 0) * size,
            average_price=decimal_of(price) if price else None,
        )

    def _trade(self, row: dict[str, Any]) -> VenueTrade:
        trade_id, order_id, raw = str(row["id"]), str(row["order"]), row.get("info") or {}
        forced = is_forced(raw, self.config.wallet)
        if cloid := raw.get("cloid"):
            self._tags[order_id] = tag_of(cloid)
        # An order that the book does not show yet is asked for again: absence proves nothing.
        if not forced and order_id not in self._tags and (order := self._order_row(order_id, {})):
            self._tags[order_id] = tag_of(order.get("clientOrderId"))
        market, fee = self._market(self._account), row.get("fee") or {}
        # A fee in another currency is none we could add up.
        if fee.get("cost") is not None and fee.get("currency") == market["settle"]:
            self._fees[trade_id] = decimal_of(fee["cost"])
        sign = {"buy": 1, "sell": -1}[row["side"]]
        return VenueTrade(
            trade_id=trade_id,
            tag="" if forced else self._tags.get(order_id, ""),
            instrument=self._name(row["symbol"]),
            quantity=sign * positive(row["amount"]) * self._size(row["symbol"]),
            price=positive(row["price"]),
            at=clock.from_seconds(row["timestamp"] / MILLISECONDS),
            by_venue=forced,
        )

    def _size(self, symbol: str) -> Decimal:
        """Return the units of one contract, by the exchange's own list."""
        market = self._account.client().markets.get(symbol) or {}
        return decimal_of(market.get("contractSize") or 1)


def _ms(at: dt.datetime) -> int:
    return int(at.timestamp() * MILLISECONDS)
