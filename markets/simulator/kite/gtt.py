"""Good-till-triggered orders: kept and shown; a trigger that is reached places its order."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from markets.domain.calendar import DAY_SECONDS, ist_instant
from markets.simulator.kite.account import Account
from markets.simulator.kite.envelope import KiteError, answer, bad_input
from markets.simulator.kite.forms import stamp
from markets.simulator.kite.orders import parse
from markets.simulator.listing import Listed

SHARES_LIVE_DAYS = 365


class Triggers:
    """Keep the account's triggers for as long as the process lives."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._rows: dict[int, dict[str, Any]] = {}
        self._ends_at: dict[int, float] = {}
        """Epoch seconds of the market, by trigger."""
        self._number = 100_000

    def routes(self, limited: Callable[[str, Any], Any]) -> list[web.RouteDef]:
        """Return the routes, each behind its limit."""
        one = "/gtt/triggers/{number}"
        return [
            web.get("/gtt/triggers", limited("other", self._list)),
            web.post("/gtt/triggers", limited("other", self._place)),
            web.get(one, limited("other", self._show)),
            web.put(one, limited("other", self._modify)),
            web.delete(one, limited("other", self._delete)),
        ]

    def step(self) -> None:
        """Place the orders of triggers that have been reached."""
        now = self._account.world.now()
        for row in self._rows.values():
            if row["status"] != "active":
                continue
            if now >= self._ends_at[row["id"]]:
                row["status"], row["updated_at"] = "expired", self._now()
                continue
            condition = row["condition"]
            last, _ = self._account.worth(condition["exchange"], condition["tradingsymbol"])
            before = condition["last_price"]
            for value, order in zip(condition["trigger_values"], row["orders"], strict=False):
                if (before - value) * (last - value) <= 0.0:
                    self._fire(row, order)
                    break

    def _fire(self, row: dict[str, Any], order: dict[str, Any]) -> None:
        row["status"], row["updated_at"] = "triggered", self._now()
        try:
            placed = self._account.place(parse("regular", {k: str(v) for k, v in order.items()}))
        except KiteError as error:
            order["result"] = {"order_result": {"status": "failed", "rejection": error.message}}
            return
        result = {"status": "success", "order_id": placed.order_id, "rejection_reason": ""}
        order["result"] = {"account_id": self._account.user_id, "order_result": result}

    async def _list(self, request: web.Request) -> web.Response:
        return answer([row for row in self._rows.values() if row["status"] != "deleted"])

    async def _show(self, request: web.Request) -> web.Response:
        return answer({**self._find(request), "meta": None})

    async def _place(self, request: web.Request) -> web.Response:
        self._number += 1
        self._rows[self._number] = await self._row(request, self._number)
        return answer({"trigger_id": self._number})

    async def _modify(self, request: web.Request) -> web.Response:
        row = self._find(request)
        changed = await self._row(request, row["id"])
        self._rows[row["id"]] = {**changed, "created_at": row["created_at"]}
        return answer({"trigger_id": row["id"]})

    async def _delete(self, request: web.Request) -> web.Response:
        row = self._find(request)
        row["status"], row["updated_at"] = "deleted", self._now()
        return answer({"trigger_id": row["id"]})

    async def _row(self, request: web.Request, number: int) -> dict[str, Any]:
        form = await request.post()
        try:
            condition = json.loads(str(form["condition"]))
            orders = json.loads(str(form["orders"]))
            kind = str(form["type"])
            found = self._account.find(condition["exchange"], condition["tradingsymbol"])
            values = [float(value) for value in condition["trigger_values"]]
        except (KeyError, TypeError, ValueError) as error:
            raise bad_input(f"Invalid trigger: {error}.") from None
        if kind not in ("single", "two-leg") or len(values) != {"single": 1, "two-leg": 2}[kind]:
            raise bad_input("A single trigger has one value, a two-leg one has two.")
        now = self._account.world.now()
        self._ends_at[number] = self._end_of(found, now)
        return {
            "id": number,
            "user_id": self._account.user_id,
            "parent_trigger": None,
            "type": kind,
            "created_at": stamp(now),
            "updated_at": stamp(now),
            "expires_at": stamp(self._ends_at[number]),
            "status": "active",
            "condition": {
                "exchange": found.exchange,
                "last_price": float(condition["last_price"]),
                "tradingsymbol": found.symbol,
                "trigger_values": values,
                "instrument_token": found.token,
            },
            "orders": [
                {**each, "exchange": found.exchange, "tradingsymbol": found.symbol, "result": None}
                for each in orders
            ],
            "meta": {},
        }

    def _end_of(self, row: Listed, now: float) -> float:
        """Return when a trigger ends: with its contract, or after a year for shares."""
        if row.expiry is None:
            return now + SHARES_LIVE_DAYS * DAY_SECONDS
        session = self._account.world.prices.nse.session_on(row.expiry)
        return float(session.closes_at if session else ist_instant(row.expiry, dt.time(15, 30)))

    def _find(self, request: web.Request) -> dict[str, Any]:
        text = request.match_info["number"]
        row = self._rows.get(int(text)) if text.isdigit() else None
        if row is None:
            raise KiteError(404, "GeneralException", f"Trigger {text} does not exist.")
        return row

    def _now(self) -> str | None:
        return stamp(self._account.world.now())
