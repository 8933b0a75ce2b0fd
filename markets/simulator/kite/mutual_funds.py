"""Mutual funds, of which the simulated account has none: the lists are there, and empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from markets.simulator.kite.envelope import KiteError, answer, csv

_COLUMNS = (
    "tradingsymbol,amc,name,purchase_allowed,redemption_allowed,minimum_purchase_amount,"
    "purchase_amount_multiplier,minimum_additional_purchase_amount,minimum_redemption_quantity,"
    "redemption_quantity_multiplier,dividend_type,scheme_type,plan,settlement_type,last_price,"
    "last_price_date\n"
)


def routes(limited: Callable[[str, Any], Any]) -> list[web.RouteDef]:
    """Return the routes, each behind its limit."""
    return [
        web.get("/mf/instruments", limited("other", _instruments)),
        *(
            web.get(f"/mf/{name}", limited("other", _none))
            for name in ("orders", "sips", "holdings")
        ),
        web.route("*", "/mf/{path:.+}", limited("other", _unknown)),
    ]


async def _instruments(request: web.Request) -> web.Response:
    return csv(_COLUMNS)


async def _none(request: web.Request) -> web.Response:
    return answer([])


async def _unknown(request: web.Request) -> web.Response:
    raise KiteError(400, "GeneralException", "The simulated account has no mutual funds.")
