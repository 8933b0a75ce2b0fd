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
from decimal import Decimal
from typing import Any

from markets.venues.base import BookOrder, Margins, OrderRefused, TokenRefused, VenueTrade
from markets.venues.exchange_client import ExchangeConfig, Wire, cloid_of, tag_of
from markets.venues.exchange_data import MILLISECONDS, ExchangeData, decimal_of
from tradingsite import clock
from tradingsite.errors import Degraded, Retry

# How far from the far side an order may fill: ten times what we reckon with, a floor below it.
COLLAR_FACTOR = 10.0
LEAST_COLLAR_BPS = 50.0
TRADES_PER_PAGE = 1_000
STATES = {
    "open": "open",
    "closed": "filled",
    "canceled": "cancelled",
    "expired": "cancelled",
    "rejected": "rejected",
}
_BASIS_POINTS = 10_000.0
_MINUTE_SECONDS = 60.0


class ExchangeVenue(ExchangeData):
    """Trade and read one perpetual contract of one account."""

    is_shared_with_owner = False
    """Nobody fetches the owner's trades: what he does there stops the bot until it is adopted."""
    takes_orders_when_closed = True
    """It never closes."""
    closes_positions_daily = False

    def __init__(self, config: ExchangeConfig) -> None:
        """Take where and who; nothing is asked of the exchange before the first call."""
        super().__init__(config)
        self._account = Wire(config, with_keys=True)
        self._tags: dict[str, str] = {}
        self._fees: dict[str, Decimal] = {}
        self._leverage_is_set = False

    # --- Orders ------------------------------------------------------------------------------

    def place(
        self,
        tag: str,
        instrument: str,
        quantity: Decimal,
        slippage_bps: float,
        *,
        reduces: bool = False,
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
            self._set_leverage()
        except OrderRefused:
            raise
        except (Degraded, Retry, ValueError) as error:
            raise OrderRefused(f"the order was not sent: {error}") from error
        how: dict[str, Any] = {"timeInForce": "IOC", "clientOrderId": cloid}
        if reduces:
            how["reduceOnly"] = True
        self._note()
        return self._account.order(self.config.symbol, "limit", side, amount, price, how)

    def cancel(self, order: BookOrder) -> None:
        """Ask that what is left of an order be cancelled; one that is over is none of our worry."""
        import ccxt

        how = {} if order.venue_id else {"clientOrderId": cloid_of(order.tag)}
        name = order.venue_id or cloid_of(order.tag)
        try:
            self._signed("cancel_order", name, self._symbol(order.instrument), how)
        except ccxt.OrderNotFound:
            return

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the exchange's book holds."""
        found = []
        for tag in tags:
            try:
                cloid = cloid_of(tag)
            except ValueError:
                continue  # never sent by us, so it cannot be there
            row = self._order_row(cloid, {"clientOrderId": cloid})
            if row is not None:
                found.append(self._book_order(row, tag))
        return found

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant whose client order id is of our form."""
        rows = self._signed("fetch_orders", self.config.symbol, _ms(since))
        tagged = [(row, tag_of(row.get("clientOrderId"))) for row in rows]
        return [self._book_order(row, tag) for row, tag in tagged if tag]

    def rule_out(self, tag: str) -> bool:
        """Return False: an order may arrive however late, and no exchange promises that none will.

        A person who has looked says so instead.
        """
        return False

    # --- The account -------------------------------------------------------------------------

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the executions since an instant, oldest first."""
        found: dict[str, dict[str, Any]] = {}
        cursor = _ms(since)
        while True:
            page = self._signed("fetch_my_trades", self.config.symbol, cursor, TRADES_PER_PAGE)
            fresh = {str(row["id"]): row for row in page if str(row["id"]) not in found}
            found |= fresh
            if not fresh or len(page) < TRADES_PER_PAGE:
                break
            cursor = max(int(row["timestamp"]) for row in page)
        rows = sorted(found.values(), key=lambda row: (row["timestamp"], str(row["id"])))
        return [self._trade(row) for row in rows]

    def positions(self) -> dict[str, Decimal]:
        """Return the account's quantity in each contract; a foreign one has its symbol as name."""
        held = {}
        for row in self._signed("fetch_positions"):
            units = decimal_of(row["contracts"] or 0) * decimal_of(row.get("contractSize") or 1)
            if units:
                sign = 1 if row["side"] == "long" else -1
                held[self._name(row["symbol"])] = sign * units
        return held

    def margins(self) -> Margins:
        """Return what the account can still use, and what its positions bind."""
        currency = str(self._market(self._account)["settle"])
        row = self._signed("fetch_balance").get(currency) or {}
        return Margins(currency, decimal_of(row.get("free") or 0), decimal_of(row.get("used") or 0))

    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return what a market order would bind: its worth over the leverage that we set."""
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
        book = self._book(self._account)
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
        import ccxt

        try:
            return dict(self._signed("fetch_order", name, self.config.symbol, how))
        except ccxt.OrderNotFound:
            return None

    def _book_order(self, row: dict[str, Any], tag: str) -> BookOrder:
        state = STATES.get(row["status"] or "")
        if state is None:
            raise Degraded(f"{self.name} calls an order {row['status']!r}, which we do not know")
        size = decimal_of(self._market(self._account).get("contractSize") or 1)
        sign = 1 if row["side"] == "buy" else -1
        raw = row.get("info") or {}
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

    def _trade(self, row: dict[str, Any]) -> VenueTrade:
        trade_id, order_id = str(row["id"]), str(row["order"])
        # An order that the book does not show yet is asked for again: absence proves nothing.
        if order_id not in self._tags and (order := self._order_row(order_id, {})):
            self._tags[order_id] = tag_of(order.get("clientOrderId"))
        market, fee = self._market(self._account), row.get("fee") or {}
        # A fee in another currency is none we could add up.
        if fee.get("cost") is not None and fee.get("currency") == market["settle"]:
            self._fees[trade_id] = decimal_of(fee["cost"])
        sign = 1 if row["side"] == "buy" else -1
        return VenueTrade(
            trade_id=trade_id,
            tag=self._tags.get(order_id, ""),
            instrument=self._name(row["symbol"]),
            quantity=sign * decimal_of(row["amount"]) * decimal_of(market.get("contractSize") or 1),
            price=decimal_of(row["price"]),
            at=clock.from_seconds(row["timestamp"] / MILLISECONDS),
        )


def from_settings() -> ExchangeConfig:
    """Return where the exchange is and who we are there, as the settings say."""
    from django.conf import settings

    return ExchangeConfig(
        id=settings.EXCHANGE_ID,
        wallet=settings.EXCHANGE_WALLET,
        private_key=settings.EXCHANGE_PRIVATE_KEY,
        api_key=settings.EXCHANGE_API_KEY,
        secret=settings.EXCHANGE_SECRET,
        url=settings.EXCHANGE_URL,
    )


def _ms(at: dt.datetime) -> int:
    return int(at.timestamp() * MILLISECONDS)
