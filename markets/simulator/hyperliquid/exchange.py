"""What the exchange is told to do: the signed actions of POST /exchange.

An action is taken from whoever signed it, the account's own key or an agent's. Nonces, the end of a
request's life and scheduled cancellations are times in milliseconds of the real clock; whole
requests are refused with `{"status": "err"}`, single orders in their place of the list of statuses.
What is refused as a whole has used up no nonce, unless the action itself was at fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from markets.simulator.faults import Faults
from markets.simulator.hyperliquid.account import FILLED, Account, Order
from markets.simulator.hyperliquid.limits import exceeded, size_of_action
from markets.simulator.hyperliquid.market import UNIVERSE, Asset
from markets.simulator.hyperliquid.matching import (
    FRONTEND,
    GOOD_TILL_CANCELED,
    IMMEDIATE,
    MISSING,
    POST_ONLY,
    Ask,
    Engine,
    Slice,
)
from markets.simulator.hyperliquid.nonces import BadNonce, used
from markets.simulator.hyperliquid.refusals import (
    CUMULATIVE,
    EXPIRED,
    NO_WALLET,
    ORDERS,
    REQUESTS,
    Refusal,
    Refused,
)
from markets.simulator.hyperliquid.signing import BadSignature, signer
from markets.simulator.hyperliquid.wire import number, text

HALF = 2
SOONEST_CANCEL_MS = 5_000
# An expired request costs an address five times its requests.
EXPIRED_COST = 5
# The words that an order can end with though its client did not cancel it, by their faults.
ENDS = {
    "cancel_liquidated": "liquidatedCanceled",
    "cancel_margin": "marginCanceled",
    "cancel_reduce_only": "reduceOnlyCanceled",
    "cancel_scheduled": "scheduledCancel",
    "cancel_self_trade": "selfTradeCanceled",
    "cancel_delisted": "delistedCanceled",
    "cancel_open_interest": "openInterestCapCanceled",
    "cancel_sibling": "siblingFilledCanceled",
}
FAULTS = {
    "partial_fill": "fills `quantity` steps of size (0: half) of the next order; what is left of "
    "an immediate order is cancelled, of another waits for `seconds`",
    "ioc_as_filled": "calls the next immediate order filled, though a partial fill leaves a rest",
    "leverage_refused": "refuses to change the leverage",
    **{
        kind: f"fills `quantity` steps of size (0: none) of the next order, which ends as {word}"
        for kind, word in ENDS.items()
    },
}

Action = Mapping[str, Any]


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
            # It does nothing, but no other action can have its nonce any more.
            "noop": lambda account, action: {"type": "default"},
            "scheduleCancel": self._schedule_cancel,
            "setReferrer": lambda account, action: {"type": "default"},
        }

    def admit(self, request: Mapping[str, Any]) -> Account:
        """Return the account of whoever signed a request, and use up its nonce; raise Refused."""
        now, nonce, action = int(time.time() * 1_000), int(request["nonce"]), request["action"]
        try:
            wallet = signer(request)
        except BadSignature as error:
            raise Refused("Unable to recover signer.") from error
        account, kept = self._signed_for(wallet)
        for kind, words in REQUESTS.items():
            if self._faults.take(kind, f"POST /exchange {action['type']}"):
                raise Refused(words.format(signer=wallet, nonce=nonce, now=now))
        if request.get("vaultAddress"):
            raise Refused(f"Vault not registered: {request['vaultAddress']}")
        expires = request.get("expiresAfter")
        if expires is not None and now > int(expires):
            account.requests += EXPIRED_COST * size_of_action(action)
            raise Refused(EXPIRED.format(expires=expires, now=now))
        self._spare(account, action, now)
        try:
            kept[:] = used(kept, nonce, now)
        except BadNonce as error:
            raise Refused(str(error)) from error
        account.requests += size_of_action(action)
        return account

    def _signed_for(self, signed_by: str) -> tuple[Account, list[int]]:
        """Return the account that an address may sign for, and the nonces it has used."""
        for wallet, account in self._engine.accounts.items():
            if signed_by == wallet:
                return account, account.nonces
            if signed_by in account.agents:
                return account, account.agents[signed_by]
        raise Refused(NO_WALLET.format(signer=signed_by))

    def _spare(self, account: Account, action: Action, now_ms: int) -> None:
        """Raise Refused for one request more than the account may make, if that is the rule."""
        most = self._engine.rules.address_requests
        if most is None:
            return
        allowed = exceeded(account, action, most, now_ms)
        if allowed is not None:
            sent, traded = account.requests + size_of_action(action), account.traded()
            raise Refused(CUMULATIVE.format(sent=sent, allowed=allowed, traded=f"{traded:.2f}"))

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
            if refusal := self._refusal(ask):
                self._engine.refuse(account, ask, refusal)
                raise refusal
            order = self._engine.place(account, ask, self._slice(ask))
        except Refusal as refusal:
            return {"error": str(refusal)}
        return _placed(account, order)

    def _refusal(self, ask: Ask) -> Refusal | None:
        for kind, words in ORDERS.items():
            if kind == "reject_post_only" and ask.tif == POST_ONLY:
                continue
            if self._faults.take(kind, ask.asset.name):
                message = f"{words.text} asset={UNIVERSE.index(ask.asset)}"
                return Refusal(words.status, message)
        return None

    def _slice(self, ask: Ask) -> Slice | None:
        coin, step = ask.asset.name, ask.asset.size_step
        for kind, word in ENDS.items():
            if fault := self._faults.take(kind, coin):
                return Slice(fault.quantity * step, ends=word)
        fault = self._faults.take("partial_fill", coin)
        is_called_filled = ask.is_immediate and self._faults.take("ioc_as_filled", coin)
        ends = FILLED if is_called_filled else None
        if fault is None:
            return Slice(ask.size, ends=ends) if ends else None
        most = fault.quantity * step or ask.size / HALF
        return Slice(most - most % step, time.time() + fault.seconds, ends)

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
        if self._faults.take("leverage_refused", asset.name):
            raise Refused("Cannot switch leverage type with open position.")
        account.leverage[asset.name] = leverage
        return {"type": "default"}

    def _schedule_cancel(self, account: Account, action: Action) -> dict[str, Any]:
        at_ms, needed = action.get("time"), self._engine.rules.schedule_volume
        if at_ms is not None:
            if account.traded() < needed:
                raise Refused(
                    "Cannot set scheduled cancel time until enough volume traded. "
                    f"Required: ${needed}. Traded: ${account.traded():.2f}."
                )
            if int(at_ms) < time.time() * 1_000 + SOONEST_CANCEL_MS:
                raise Refused("Scheduled cancel time too early, must be at least 5 seconds ahead.")
        account.scheduled_cancel_ms = None if at_ms is None else int(at_ms)
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
    if tif not in (GOOD_TILL_CANCELED, IMMEDIATE, FRONTEND, POST_ONLY):
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
