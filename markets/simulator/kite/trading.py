"""Orders, portfolio, funds, margins and charges by REST."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from markets.domain.calendar import trading_date
from markets.simulator.faults import Faults, cut
from markets.simulator.kite import charges, forms, refusals, statements
from markets.simulator.kite.account import Account
from markets.simulator.kite.envelope import KiteError, answer, bad_input, refusal
from markets.simulator.kite.odd_rows import OddRows
from markets.simulator.kite.orders import Order, number, parse, whole
from markets.simulator.kite.portfolio import margin_of, needed
from markets.simulator.listing import Listed
from tradingsite.clock import Epoch

NOT_A_TIMEOUT = 60.0
ORDER_FAULTS = {
    "timeout_after_acceptance": "takes the order and says nothing for `seconds`",
    "late_acceptance": "says nothing or answers ambiguously; the order appears `seconds` later",
    "ambiguous_400": "answers 400 'Order request timed out ...'; the order appears `seconds` later",
    "lost_400": "answers the same 400, and the order never arrives",
    "reset_after_acceptance": "takes the order and closes the connection",
    "error_after_acceptance": "takes the order and answers 500",
    "slow_oms": "has the order in the book in its first state for `seconds`, and answers 503",
    "no_funds": "answers 400 MarginException",
    "odd_refusal": "answers 400 with a text nobody has heard of, and does not take the order",
    "rate_limit": "answers 429",
    "forbidden_address": "answers 403 PermissionException: not from a registered address",
    "no_addresses": "answers 403 PermissionException: no address is registered",
    "position_502": "answers 502 to a reading of the positions",
    "empty_book": "shows no orders and no trades",
}


class Trading:
    """Answer the requests about orders and what came of them."""

    def __init__(self, account: Account, faults: Faults) -> None:
        self._account = account
        self._faults = faults
        self._odd_rows = OddRows(faults)
        self.placements = 0
        """Requests to place that arrived, whatever was answered: nothing may be sent twice."""

    def routes(self, limited: Callable[[str, Any], Any]) -> list[web.RouteDef]:
        """Return the routes, each behind its limit."""
        return [
            web.get("/user/profile", limited("other", self._profile)),
            web.get("/user/margins", limited("other", self._funds)),
            web.get("/user/margins/{segment}", limited("other", self._funds)),
            web.get("/orders", limited("other", self._orders)),
            web.get("/orders/{order_id}", limited("other", self._history)),
            web.get("/orders/{order_id}/trades", limited("other", self._trades)),
            web.post("/orders/{variety}", limited("order", self._place)),
            web.put("/orders/{variety}/{order_id}", limited("order", self._modify)),
            web.delete("/orders/{variety}/{order_id}", limited("order", self._cancel)),
            web.get("/trades", limited("other", self._trades)),
            web.get("/portfolio/positions", limited("other", self._positions)),
            web.put("/portfolio/positions", limited("other", self._convert)),
            web.get("/portfolio/holdings", limited("other", self._holdings)),
            web.get("/portfolio/holdings/summary", limited("other", self._summary)),
            web.get("/portfolio/holdings/compact", limited("other", self._compact)),
            web.get("/portfolio/holdings/auctions", limited("other", self._auctions)),
            web.post("/margins/orders", limited("other", self._margins)),
            web.post("/margins/basket", limited("other", self._basket)),
            web.post("/charges/orders", limited("other", self._note)),
        ]

    async def _profile(self, request: web.Request) -> web.Response:
        return answer(forms.profile(self._account.user_id))

    async def _funds(self, request: web.Request) -> web.Response:
        equity = statements.margins(self._account.portfolio, self._account.worth)
        found = {"equity": equity, "commodity": statements.no_margins()}
        segment = request.match_info.get("segment")
        if segment is None:
            return answer(found)
        if segment not in found:
            raise bad_input(f"Invalid segment {segment}.")
        return answer(found[segment])

    async def _place(self, request: web.Request) -> web.StreamResponse:
        self.placements += 1
        form = await _form(request)
        symbol = form.get("tradingsymbol", "")
        self._check_address(request, symbol)
        if self._faults.take("no_funds", symbol):
            raise refusals.no_funds(250_000.0, 0.0)
        if self._faults.take("odd_refusal", symbol):
            raise refusals.unheard_of()
        ask = parse(request.match_info["variety"], form)
        if self._faults.take("lost_400", symbol):
            raise refusals.lost_sight()
        late = self._faults.take("late_acceptance", symbol) or self._faults.take(
            "ambiguous_400", symbol
        )
        if late:
            self._account.place(ask, visible_at=time.time() + late.seconds)
            if late.kind == "late_acceptance":
                await asyncio.sleep(NOT_A_TIMEOUT)
            raise refusals.lost_sight()
        if slow := self._faults.take("slow_oms", symbol):
            self._account.place(ask, held_seconds=slow.seconds)
            # Half way, so that the order is seen before the answer, and still on its way after it.
            await asyncio.sleep(slow.seconds / 2)
            raise refusals.slow_oms()
        if form.get("autoslice") == "true":
            parent, slices = self._account.place_sliced(ask)
            children = [_slice(each) for each in slices if each is not parent]
            return answer({"order_id": parent.order_id, "children": children})
        order = self._account.place(ask)
        return await self._acknowledge(request, order)

    async def _acknowledge(self, request: web.Request, order: Order) -> web.StreamResponse:
        symbol = order.ask.symbol
        if fault := self._faults.take("timeout_after_acceptance", symbol):
            await asyncio.sleep(fault.seconds)
        if self._faults.take("reset_after_acceptance", symbol):
            return cut(request)
        if self._faults.take("error_after_acceptance", symbol):
            return refusal(refusals.went_wrong())
        return answer({"order_id": order.order_id})

    def _check_address(self, request: web.Request, symbol: str) -> None:
        """Raise KiteError where a fault says that orders may not come from here."""
        if self._faults.take("forbidden_address", symbol):
            raise refusals.wrong_address(request.remote or "")
        if self._faults.take("no_addresses", symbol):
            raise refusals.no_addresses()

    def _check_change(self, request: web.Request) -> str:
        """Return the number of the order to change, once nothing forbids it."""
        order_id = request.match_info["order_id"]
        order = self._account.book.orders.get(order_id)
        self._check_address(request, order.ask.symbol if order else "")
        return order_id

    async def _modify(self, request: web.Request) -> web.Response:
        order_id = self._check_change(request)
        form = await _form(request)
        changes: dict[str, float | str] = {}
        for name in ("quantity", "disclosed_quantity"):
            if form.get(name):
                changes[name] = whole(form, name)
        for name in ("price", "trigger_price", "market_protection"):
            if form.get(name):
                changes[name] = number(form, name)
        for name in ("order_type", "validity"):
            if form.get(name):
                changes[name] = form[name]
        order = self._account.modify(order_id, changes)
        return answer({"order_id": order.order_id})

    async def _cancel(self, request: web.Request) -> web.Response:
        order = self._account.cancel(self._check_change(request))
        return answer({"order_id": order.order_id})

    async def _orders(self, request: web.Request) -> web.Response:
        if self._faults.take("empty_book"):
            return answer([])
        rows = [forms.order(each) for each in self._visible()]
        return answer(self._odd_rows.spoil_list(request.path, rows))

    async def _history(self, request: web.Request) -> web.Response:
        return answer(forms.order_history(self._find(request.match_info["order_id"])))

    async def _trades(self, request: web.Request) -> web.Response:
        order_id = request.match_info.get("order_id")
        if self._faults.take("empty_book"):
            return answer([])
        if order_id is not None:
            self._find(order_id)
        self._account.roll_day()
        rows = [each for each in self._account.book.trades if order_id in (None, each.order_id)]
        found = [forms.trade(each) for each in rows]
        return answer(self._odd_rows.spoil_list(request.path, found))

    async def _positions(self, request: web.Request) -> web.Response:
        if self._faults.take("position_502"):
            raise refusals.bad_gateway()
        self._account.roll_day()
        found = statements.positions(self._account.portfolio, self._account.worth)
        self._odd_rows.spoil_list(request.path, found["net"])
        return answer(found)

    async def _convert(self, request: web.Request) -> web.Response:
        form = await _form(request)
        portfolio = self._account.portfolio
        key = form.get("exchange", ""), form.get("tradingsymbol", "")
        position = portfolio.positions.get((*key, form.get("old_product", "")))
        quantity = whole(form, "quantity")
        if position is None or abs(position.quantity) < quantity:
            raise refusals.no_such_position()
        if form.get("transaction_type") != ("BUY" if position.quantity > 0 else "SELL"):
            raise refusals.no_such_position()
        carried = form.get("position_type") == "overnight"
        self._account.convert(position, form.get("new_product", ""), quantity, carried=carried)
        return answer(True)

    async def _holdings(self, request: web.Request) -> web.Response:
        return answer(self._held())

    async def _compact(self, request: web.Request) -> web.Response:
        names = ("exchange", "tradingsymbol", "instrument_token", "t1_quantity", "quantity")
        worth = self._account.worth
        rows = [
            statements.holding(each, worth) for each in self._account.portfolio.holdings.values()
        ]
        return answer([{name: row[name] for name in names} for row in rows])

    async def _summary(self, request: web.Request) -> web.Response:
        worth = self._account.worth
        rows = [
            statements.holding(each, worth) for each in self._account.portfolio.holdings.values()
        ]
        invested = sum(row["average_price"] * row["quantity"] for row in rows)
        value = sum(row["last_price"] * row["quantity"] for row in rows)
        today = sum(row["day_change"] * row["quantity"] for row in rows)
        before = value - today
        return answer(
            {
                "total_pnl": round(value - invested, 2),
                "total_pnl_percent": round(100 * (value / invested - 1), 4) if invested else 0.0,
                "today_pnl": round(today, 2),
                "today_pnl_percent": round(100 * today / before, 4) if before else 0.0,
                "invested_amount": round(invested, 2),
                "current_value": round(value, 2),
            }
        )

    async def _auctions(self, request: web.Request) -> web.Response:
        return answer([])

    async def _margins(self, request: web.Request) -> web.Response:
        return answer([self._margin(form) for form in await _list(request)])

    async def _basket(self, request: web.Request) -> web.Response:
        asked = await _list(request)
        rows = [self._margin(form) for form in asked]
        total = [_sum(rows, keep_names=False)]
        paid = [row["charges"] for row in rows]
        return answer(
            {
                "initial": total[0],
                "final": total[0],
                "orders": rows,
                "charges": _sum(paid, keep_names=True),
            }
        )

    async def _note(self, request: web.Request) -> web.Response:
        date = trading_date(Epoch(self._account.world.now()))
        rows = []
        for form in await _list(request):
            row, side, quantity = self._asked(form)
            price = number(form, "average_price")
            product = form.get("product", "NRML")
            items = charges.itemise(row, product, side, quantity, price, date)
            named = ("transaction_type", "tradingsymbol", "exchange", "variety", "product")
            rows.append(
                {
                    **{name: form.get(name, "") for name in named},
                    "order_type": form.get("order_type", "MARKET"),
                    "quantity": quantity,
                    "price": price,
                    "charges": statements.charges(items),
                }
            )
        return answer(rows)

    def _margin(self, form: Mapping[str, str]) -> dict[str, Any]:
        row, side, quantity = self._asked(form)
        product = form.get("product", "NRML")
        last, _ = self._account.worth(row.exchange, row.symbol)
        price = number(form, "price") or last
        need = margin_of(row, product, side * quantity, price)
        held = self._account.portfolio.quantity(row.exchange, row.symbol, product)
        if not needed(row, product, held, side * quantity, price):
            need = dict.fromkeys(need, 0.0)
        date = trading_date(Epoch(self._account.world.now()))
        paid = charges.itemise(row, product, side, quantity, price, date)
        return statements.order_margin(row, need, paid)

    def _asked(self, form: Mapping[str, str]) -> tuple[Listed, int, int]:
        row = self._account.find(form.get("exchange", ""), form.get("tradingsymbol", ""))
        side = 1 if form.get("transaction_type") == "BUY" else -1
        return row, side, whole(form, "quantity")

    def _held(self) -> list[dict[str, Any]]:
        worth = self._account.worth
        return [
            statements.holding(each, worth) for each in self._account.portfolio.holdings.values()
        ]

    def _visible(self) -> list[Order]:
        self._account.roll_day()
        now = time.time()
        return [each for each in self._account.book.orders.values() if each.visible_at <= now]

    def _find(self, order_id: str) -> Order:
        for order in self._visible():
            if order.order_id == order_id:
                return order
        raise refusals.unknown_order(is_read=True)


def _slice(each: Order | KiteError) -> dict[str, Any]:
    if isinstance(each, KiteError):
        error = {"code": each.status, "error_type": each.error_type, "message": each.message}
        return {"error": {**error, "data": None}}
    return {"order_id": each.order_id}


def _sum(rows: list[dict[str, Any]], keep_names: bool) -> dict[str, Any]:
    """Return rows added up, key by key; texts are the first row's, or nothing."""
    total: dict[str, Any] = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        if isinstance(values[0], dict):
            total[name] = _sum(values, keep_names)
        elif isinstance(values[0], str):
            total[name] = values[0] if keep_names or name == "transaction_tax_type" else ""
        else:
            total[name] = round(sum(values), 4)
    return total


async def _form(request: web.Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}


async def _list(request: web.Request) -> list[dict[str, str]]:
    """Return the orders of a JSON body, their values as text like those of a form."""
    try:
        body = json.loads(await request.text())
    except ValueError:
        raise bad_input("Invalid JSON in the request.") from None
    if not isinstance(body, list) or not all(isinstance(each, dict) for each in body):
        raise bad_input("A list of orders is expected.")
    return [{name: str(value) for name, value in each.items()} for each in body]
