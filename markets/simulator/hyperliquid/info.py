"""What the exchange tells: the questions of POST /info, each by its type.

Answers have the shapes of the real exchange: numbers are text, times are milliseconds of market
time. Prices are those of `shown_at`, which a fault can hold back while the market goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from markets.simulator.faults import Faults
from markets.simulator.hyperliquid.account import MAKER_RATE, OPEN, TAKER_RATE, Account
from markets.simulator.hyperliquid.market import (
    BY_NAME,
    DAY,
    HOUR,
    INTERVALS,
    UNIVERSE,
    Asset,
    Book,
)
from markets.simulator.hyperliquid.matching import GOOD_TILL_CANCELED, POST_ONLY, Engine
from markets.simulator.hyperliquid.shapes import (
    NO_HASH,
    SPOT_META,
    fill_row,
    meta,
    order_row,
    position_row,
    short,
    status_row,
)
from markets.simulator.hyperliquid.wire import milliseconds, text

MOST_FILLS = 2_000
FILLS_KEPT = 10_000
AGENT_DAYS = 180
MOST_FUNDINGS = 500
MOST_ORDERS = 2_000
ABSURDITY = 10
REQUESTS_ALLOWED = 10_000
_SECOND = 1_000

Body = Mapping[str, Any]


class BadQuestion(ValueError):
    """A body that the exchange cannot read: HTTP 422."""


class Info:
    """Answer questions about the market and its accounts."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults
        self._frozen: tuple[float, float] | None = None
        self.answers: dict[str, Callable[[Body], Any]] = {
            "allMids": self._all_mids,
            "candleSnapshot": self._candles,
            "clearinghouseState": self._clearinghouse,
            "exchangeStatus": self._status,
            "extraAgents": self._agents,
            "frontendOpenOrders": self._open_orders,
            "fundingHistory": self._funding_history,
            "historicalOrders": self._historical_orders,
            "l2Book": self._book,
            "meta": lambda body: meta(),
            "metaAndAssetCtxs": lambda body: [meta(), list(map(self._context, UNIVERSE))],
            "openOrders": self._open_orders,
            "orderStatus": self._order_status,
            "perpDexs": lambda body: [None],
            "spotClearinghouseState": lambda body: {"balances": []},
            "spotMeta": lambda body: SPOT_META,
            "spotMetaAndAssetCtxs": lambda body: [SPOT_META, []],
            "userAbstraction": lambda body: "default",
            "userFees": self._fees,
            "userFills": lambda body: self._fills(body)[::-1][:MOST_FILLS],
            "userFillsByTime": self._fills_by_time,
            "userFunding": self._user_funding,
            "userRateLimit": self._rate_limit,
            "userRole": self._role,
        }

    def answer(self, body: Body) -> Any:
        """Return the answer to a question; raise BadQuestion where there is no such."""
        found = self.answers.get(str(body.get("type")))
        if found is None:
            raise BadQuestion(f"no question of the type {body.get('type')!r}")
        try:
            return found(body)
        except (KeyError, TypeError, ValueError) as error:
            raise BadQuestion(str(error)) from error

    # --- The market --------------------------------------------------------------------------

    def shown_at(self) -> float:
        """Return the market time whose prices are shown: now, unless a fault holds them back."""
        if fault := self._faults.take("stale_prices"):
            self._frozen = (self._engine.at, time.monotonic() + fault.seconds)
        if self._frozen and time.monotonic() >= self._frozen[1]:
            self._frozen = None
        return self._frozen[0] if self._frozen else self._engine.at

    def _factor(self, asset: Asset) -> int:
        return ABSURDITY if self._faults.take("absurd_price", asset.name) else 1

    def _shown_book(self, asset: Asset) -> Book:
        return self._engine.market.book(asset, self.shown_at())

    def _all_mids(self, body: Body) -> dict[str, str]:
        return {
            asset.name: text(self._shown_book(asset).mid * self._factor(asset))
            for asset in UNIVERSE
        }

    def _book(self, body: Body) -> dict[str, Any]:
        asset = BY_NAME[body["coin"]]
        book, factor = self._shown_book(asset), self._factor(asset)
        levels = [
            [
                {"px": text(row.price * factor), "sz": text(row.size), "n": row.orders}
                for row in side
            ]
            for side in (book.bids, book.asks)
        ]
        return {"coin": asset.name, "time": milliseconds(book.at), "levels": levels}

    def _context(self, asset: Asset) -> dict[str, Any]:
        market, book, factor = self._engine.market, self._shown_book(asset), self._factor(asset)
        mark = market.mark(asset, book.at) * factor
        notional = round(market.day_volume(asset, book.at) * float(mark), 2)
        best = (book.bids[0].price, book.asks[0].price)
        return {
            "funding": text(market.funding_rate(asset, book.at)),
            "openInterest": text(market.open_interest(asset, book.at)),
            "prevDayPx": text(market.mark(asset, book.at - DAY)),
            "dayNtlVlm": text(Decimal(repr(notional))),
            "premium": text(Decimal(repr(round(market.premium(asset, book.at), 8)))),
            "oraclePx": text(market.oracle(asset, book.at)),
            "markPx": text(mark),
            "midPx": text(book.mid * factor),
            "impactPxs": [text(price * factor) for price in best],
        }

    def _candles(self, body: Body) -> list[dict[str, Any]]:
        wanted = body["req"]
        asset, interval = BY_NAME[wanted["coin"]], wanted["interval"]
        if interval not in INTERVALS:
            raise BadQuestion(f"no interval {interval!r}")
        start, end = self._window(wanted)
        bars = self._engine.market.candles(asset, interval, start, end, self._engine.at)
        return [
            {
                "t": opens_at * _SECOND,
                "T": (opens_at + INTERVALS[interval]) * _SECOND - 1,
                "s": asset.name,
                "i": interval,
                "o": repr(opened),
                "c": repr(closed),
                "h": repr(high),
                "l": repr(low),
                "v": repr(volume),
                "n": int(volume * 12.0),
            }
            for opens_at, opened, high, low, closed, volume in zip(
                bars.opens_at.tolist(),
                *(bars.open.tolist(), bars.high.tolist(), bars.low.tolist()),
                *(bars.close.tolist(), bars.volume.tolist()),
                strict=True,
            )
        ]

    def _window(self, body: Body) -> tuple[float, float]:
        """Return the start and end of a question in market seconds, the end not included.

        A client that counts back from its own clock asks for a window on the real calendar; one
        that lies wholly in the market's future therefore ends now, and keeps its length.
        """
        now = self._engine.at
        start = int(body.get("startTime") or 0) / _SECOND
        given = body.get("endTime")
        end = now if given is None else (int(given) + 1) / _SECOND
        if start > now:
            real = end if given is not None else time.time()
            return now - max(real - start, 0.0), now
        return start, min(end, now)

    def _funding_history(self, body: Body) -> list[dict[str, Any]]:
        asset, market = BY_NAME[body["coin"]], self._engine.market
        start, end = self._window(body)
        first = int(-(-start // HOUR))
        hours = range(first, min(int(end) // HOUR + 1, first + MOST_FUNDINGS))
        return [
            {
                "coin": asset.name,
                "fundingRate": text(market.funding_rate(asset, hour * HOUR - 1)),
                "premium": text(Decimal(repr(round(market.premium(asset, (hour - 1) * HOUR), 8)))),
                "time": hour * HOUR * _SECOND,
            }
            for hour in hours
        ]

    def _status(self, body: Body) -> dict[str, Any]:
        return {"specialStatuses": None, "time": milliseconds(self._engine.at)}

    # --- The accounts ------------------------------------------------------------------------

    def _account(self, body: Body) -> Account:
        """Return a wallet's account; whoever has none is shown an empty one."""
        wallet = str(body["user"]).lower()
        return self._engine.accounts.get(wallet) or Account(wallet, Decimal(0))

    def _clearinghouse(self, body: Body) -> dict[str, Any]:
        account, marks = self._account(body), self._engine.marks()
        equity, used = account.equity(marks), account.margin_used(marks)
        notional = account.notional(marks)
        held = sum((each.size * marks[coin] for coin, each in account.positions.items()), Decimal())
        summary = {
            "accountValue": text(equity),
            "totalNtlPos": text(notional),
            "totalRawUsd": text(equity - held),
            "totalMarginUsed": text(short(used)),
        }
        free = equity - max(used, notional / 10) - account.held_back()
        return {
            "marginSummary": summary,
            "crossMarginSummary": summary,
            "crossMaintenanceMarginUsed": text(short(account.maintenance(marks))),
            "withdrawable": text(short(max(free, Decimal(0)))),
            "assetPositions": [
                position_row(account, coin, marks[coin]) for coin in account.positions
            ],
            "time": milliseconds(self._engine.at),
        }

    def _open_orders(self, body: Body) -> list[dict[str, Any]]:
        return [order_row(order) for order in reversed(self._account(body).open_orders())]

    def _historical_orders(self, body: Body) -> list[dict[str, Any]]:
        """Return the newest orders; one that rested is there twice, as it came and as it is."""
        rows: list[dict[str, Any]] = []
        for order in reversed(self._account(body).orders.values()):
            rows.append(status_row(order))
            is_over = order.status != OPEN and not order.status.lower().endswith("rejected")
            if is_over and order.tif in (GOOD_TILL_CANCELED, POST_ONLY):
                shown = {**order_row(order), "sz": text(order.size)}
                rows.append({"order": shown, "status": "open", "statusTimestamp": order.placed_ms})
        return rows[:MOST_ORDERS]

    def _order_status(self, body: Body) -> dict[str, Any]:
        account, wanted = self._account(body), body["oid"]
        if isinstance(wanted, str) and wanted.startswith("0x"):
            order = account.by_cloid(wanted.lower())
        else:
            order = account.orders.get(int(wanted))
        if order is None:
            return {"status": "unknownOid"}
        return {"status": "order", "order": status_row(order)}

    def _fills(self, body: Body) -> list[dict[str, Any]]:
        """Return the newest executions, oldest first."""
        account = self._account(body)
        fills = sorted(account.fills, key=lambda each: each.time_ms)[-FILLS_KEPT:]
        return [fill_row(each, account.wallet) for each in fills]

    def _fills_by_time(self, body: Body) -> list[dict[str, Any]]:
        """Return the oldest executions of a window, whatever they are in, as many as fit a page."""
        start = int(body["startTime"])
        end = int(body.get("endTime") or milliseconds(self._engine.at))
        return [row for row in self._fills(body) if start <= row["time"] <= end][:MOST_FILLS]

    def _user_funding(self, body: Body) -> list[dict[str, Any]]:
        start = int(body.get("startTime") or 0)
        end = int(body.get("endTime") or milliseconds(self._engine.at))
        return [
            {
                "time": each.time_ms,
                "hash": NO_HASH,
                "delta": {
                    "type": "funding",
                    "coin": each.coin,
                    "usdc": text(each.amount),
                    "szi": text(each.size),
                    "fundingRate": text(each.rate),
                    "nSamples": None,
                },
            }
            for each in self._account(body).payments
            if start <= each.time_ms <= end
        ][:MOST_FUNDINGS]

    def _fees(self, body: Body) -> dict[str, Any]:
        rates = {"cross": text(TAKER_RATE), "add": text(MAKER_RATE)}
        return {
            "dailyUserVlm": [],
            "feeSchedule": {**rates, "tiers": {"vip": [], "mm": []}, "referralDiscount": "0.04"},
            "userCrossRate": rates["cross"],
            "userAddRate": rates["add"],
            "activeReferralDiscount": "0.0",
        }

    def _rate_limit(self, body: Body) -> dict[str, Any]:
        account = self._account(body)
        traded, most = account.traded(), self._engine.rules.address_requests
        return {
            "cumVlm": text(traded),
            "nRequestsUsed": account.requests,
            "nRequestsCap": (REQUESTS_ALLOWED if most is None else most) + int(traded),
        }

    def _role(self, body: Body) -> dict[str, Any]:
        """Return what an address is: whoever asks for an agent's gets no error, only nothing."""
        asked = str(body["user"]).lower()
        if asked in self._engine.accounts:
            return {"role": "user"}
        for wallet, account in self._engine.accounts.items():
            if asked in account.agents:
                return {"role": "agent", "data": {"user": wallet}}
        return {"role": "missing"}

    def _agents(self, body: Body) -> list[dict[str, Any]]:
        until = int((time.time() + AGENT_DAYS * DAY) * _SECOND)
        return [
            {"address": each, "name": "desk", "validUntil": until}
            for each in self._account(body).agents
        ]
