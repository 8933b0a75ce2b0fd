"""What the exchange is told to do: the signed actions of POST /exchange.

An action is taken from whoever signed it. A nonce is a time in milliseconds of the real clock,
never used twice; whole requests are refused with `{"status": "err"}`, single orders in their place
of the list of statuses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from markets.simulator.faults import Faults
from markets.simulator.hyperliquid.account import Account, Order
from markets.simulator.hyperliquid.market import UNIVERSE, Asset
from markets.simulator.hyperliquid.matching import (
    GOOD_TILL_CANCELED,
    IMMEDIATE,
    MISSING,
    POST_ONLY,
    Ask,
    Engine,
    Refusal,
    Slice,
)
from markets.simulator.hyperliquid.signing import BadSignature, signer
from markets.simulator.hyperliquid.wire import number, text

DAY_MS = 86_400_000
NONCE_OLDEST_MS, NONCE_NEWEST_MS = 2 * DAY_MS, DAY_MS
HALF = 2

Action = Mapping[str, Any]


class Refused(Exception):
    """The exchange refuses a whole request, in its own words."""


class Exchange:
    """Take actions on behalf of accounts."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults
        self.actions: dict[str, Callable[[Account, Action], Any]] = {
            "order": self._order,
            "cancel": self._cancel,
            "cancelByCloid": self._cancel_by_cloid,
            "updateLeverage": self._update_leverage,
            "approveBuilderFee": self._approve_builder_fee,
            "setReferrer": lambda account, action: {"type": "default"},
        }

    def admit(self, request: Mapping[str, Any]) -> Account:
        """Return the account of whoever signed a request, and use up its nonce; raise Refused."""
        try:
            wallet = signer(request)
        except BadSignature as error:
            raise Refused("Unable to recover signer.") from error
        account = self._engine.accounts.get(wallet)
        if account is None:
            raise Refused(f"User or API Wallet {wallet} does not exist.")
        if request.get("vaultAddress"):
            raise Refused(f"Vault not registered: {request['vaultAddress']}")
        nonce, now = int(request["nonce"]), int(time.time() * 1_000)
        if not now - NONCE_OLDEST_MS < nonce < now + NONCE_NEWEST_MS:
            raise Refused(f"Invalid nonce: {nonce} is too far from the time {now}")
        if not account.use_nonce(nonce):
            raise Refused(f"Invalid nonce: duplicate nonce {nonce}")
        return account

    def act(self, account: Account, action: Action) -> dict[str, Any]:
        """Do what an admitted request asks, and return the answer."""
        return {"status": "ok", "response": self.actions[action["type"]](account, action)}

    def _order(self, account: Account, action: Action) -> dict[str, Any]:
        builder = action.get("builder")
        if builder and account.builders.get(str(builder["b"]).lower()) is None:
            raise Refused("Builder fee has not been approved.")
        rows = [self._place(account, row) for row in action["orders"]]
        return {"type": "order", "data": {"statuses": rows}}

    def _place(self, account: Account, row: Mapping[str, Any]) -> dict[str, Any]:
        try:
            ask = _ask(row)
            if self._faults.take("reject", ask.asset.name):
                number_of = UNIVERSE.index(ask.asset)
                message = f"Insufficient margin to place order. asset={number_of}"
                refusal = Refusal("perpMarginRejected", message)
                self._engine.refuse(account, ask, refusal)
                raise refusal
            order = self._engine.place(account, ask, self._slice(ask))
        except Refusal as refusal:
            return {"error": str(refusal)}
        return _placed(account, order)

    def _slice(self, ask: Ask) -> Slice | None:
        fault = self._faults.take("partial_fill", ask.asset.name)
        if fault is None:
            return None
        most = fault.quantity * ask.asset.size_step or ask.size / HALF
        most -= most % ask.asset.size_step
        return Slice(most, time.time() + fault.seconds)

    def _cancel(self, account: Account, action: Action) -> dict[str, Any]:
        found = [(row["a"], account.orders.get(int(row["o"]))) for row in action["cancels"]]
        return self._canceled("cancel", account, found)

    def _cancel_by_cloid(self, account: Account, action: Action) -> dict[str, Any]:
        found = [
            (row["asset"], account.by_cloid(str(row["cloid"]).lower())) for row in action["cancels"]
        ]
        return self._canceled("cancelByCloid", account, found)

    def _canceled(
        self, kind: str, account: Account, found: list[tuple[int, Order | None]]
    ) -> dict[str, Any]:
        statuses: list[Any] = []
        for place, order in found:
            done = self._engine.cancel(account, order, _asset(place).name)
            statuses.append("success" if done else {"error": f"{MISSING} asset={place}"})
        return {"type": kind, "data": {"statuses": statuses}}

    def _update_leverage(self, account: Account, action: Action) -> dict[str, Any]:
        asset, leverage = _asset(action["asset"]), int(action["leverage"])
        if not action["isCross"]:
            raise Refused("Isolated margin is not simulated.")
        if not 1 <= leverage <= asset.most_leverage:
            raise Refused("Invalid leverage value")
        account.leverage[asset.name] = leverage
        return {"type": "default"}

    def _approve_builder_fee(self, account: Account, action: Action) -> dict[str, Any]:
        account.builders[str(action["builder"]).lower()] = str(action["maxFeeRate"])
        return {"type": "default"}


def _asset(place: Any) -> Asset:
    if not isinstance(place, int) or not 0 <= place < len(UNIVERSE):
        raise Refused(f"Invalid asset {place}")
    return UNIVERSE[place]


def _ask(row: Mapping[str, Any]) -> Ask:
    """Return an order as it came over the wire; raise Refusal for one that cannot be."""
    if "limit" not in row["t"]:
        raise Refusal("rejected", "Trigger orders are not simulated.")
    tif = row["t"]["limit"]["tif"]
    if tif not in (GOOD_TILL_CANCELED, IMMEDIATE, POST_ONLY):
        raise Refusal("rejected", f"Unknown time in force {tif!r}.")
    cloid = row.get("c")
    return Ask(
        asset=_asset(row["a"]),
        is_buy=bool(row["b"]),
        limit=number(row["p"]),
        size=number(row["s"]),
        tif=tif,
        reduce_only=bool(row["r"]),
        cloid=str(cloid).lower() if cloid else None,
    )


def _placed(account: Account, order: Order) -> dict[str, Any]:
    if not order.filled:
        answer: dict[str, Any] = {"oid": order.oid}
        return {"resting": answer | ({"cloid": order.cloid} if order.cloid else {})}
    done = [fill for fill in account.fills if fill.oid == order.oid]
    paid = sum((fill.price * fill.size for fill in done), Decimal(0))
    answer = {
        "oid": order.oid,
        "totalSz": text(order.filled),
        "avgPx": text(round(paid / order.filled, 5)),
    }
    return {"filled": answer | ({"cloid": order.cloid} if order.cloid else {})}
