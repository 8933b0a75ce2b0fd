"""Market data by REST: the list of instruments, quotes, history, trigger ranges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
from aiohttp import web

from markets.domain.calendar import DAY_SECONDS, ist_instant, trading_date
from markets.simulator.board import Board
from markets.simulator.faults import Faults
from markets.simulator.kite import forms
from markets.simulator.kite.account import Account
from markets.simulator.kite.envelope import answer, bad_input, csv
from markets.simulator.kite.odd_rows import OddRows
from markets.simulator.listing import Listed
from markets.simulator.world import World
from tradingsite.clock import IST

# Seconds of an interval, and the days one request may span.
INTERVALS = {
    "minute": (60, 60),
    "3minute": (180, 100),
    "5minute": (300, 100),
    "10minute": (600, 100),
    "15minute": (900, 200),
    "30minute": (1_800, 200),
    "60minute": (3_600, 400),
    # Another name for the same, which the broker's own client still asks by.
    "hour": (3_600, 400),
    "day": (DAY_SECONDS, 2_000),
}
# What the broker allowed before, and a client's own older tests still expect.
OLDER_SPANS = {"minute": 30, "3minute": 90, "5minute": 90, "10minute": 90, "15minute": 180}
OLDER_SPANS |= {"30minute": 180, "60minute": 365, "hour": 365}
MOST_QUOTES = {"/quote": 500, "/quote/ohlc": 1_000, "/quote/ltp": 1_000}
DATA_FAULTS = {
    "missing_quotes": "leaves out of quotes what contains `match`",
    "stale_prices": "goes on with the quotes of now for `seconds`",
    "absurd_price": "shows ten times the price of what contains `match`",
}


class Data:
    """Answer the requests for market data."""

    def __init__(
        self, world: World, faults: Faults, account: Account, *, older_spans: bool = False
    ) -> None:
        self._world = world
        self._faults = faults
        self._account = account
        self._odd_rows = OddRows(faults)
        self._spans = OLDER_SPANS if older_spans else {}
        self._stale: tuple[Board, float] | None = None

    def routes(self, limited: Callable[[str, Any], Any]) -> list[web.RouteDef]:
        """Return the routes, each behind its limit."""
        return [
            web.get("/instruments", limited("other", self._instruments)),
            web.get(
                "/instruments/historical/{token}/{interval}",
                limited("historical", self._historical),
            ),
            web.get("/instruments/trigger_range/{side}", limited("other", self._trigger_range)),
            web.get("/instruments/{exchange}", limited("other", self._instruments)),
            web.get("/quote", limited("quote", self._quotes)),
            web.get("/quote/ohlc", limited("quote", self._quotes)),
            web.get("/quote/ltp", limited("quote", self._quotes)),
        ]

    async def _instruments(self, request: web.Request) -> web.Response:
        exchange = request.match_info.get("exchange")
        listing = self._world.listing()
        listed = self._account.listed
        rows = [listed(row) for row in listing.rows if exchange in (None, row.exchange)]
        if not rows:
            raise bad_input(f"Invalid exchange {exchange}.")
        return csv(forms.instruments_csv(rows))

    async def _quotes(self, request: web.Request) -> web.Response:
        keys = request.query.getall("i", [])
        most = MOST_QUOTES[request.path]
        if not keys:
            raise bad_input("Missing or empty field `i`.")
        if len(keys) > most:
            raise bad_input(f"Too many instruments: {len(keys)} asked for, {most} are the most.")
        board = self._board()
        places = {
            key: place
            for key in dict.fromkeys(keys)
            if (place := self._place(board, key)) is not None
            and not self._faults.take("missing_quotes", key)
        }
        if request.path == "/quote":
            rows = forms.quotes(board, list(places.values()), self._account.circuit)
        else:
            form = forms.ohlc if request.path == "/quote/ohlc" else forms.ltp
            rows = [form(board, place) for place in places.values()]
        found = dict(zip(places, rows, strict=True))
        for key, row in found.items():
            if self._faults.take("absurd_price", key):
                row["last_price"] = round(row["last_price"] * 10.0, 2)
        if request.path == "/quote":
            self._odd_rows.spoil(request.path, found)
        return answer(found)

    def _place(self, board: Board, key: str) -> int | None:
        # Clients may name an instrument by its token too.
        return (
            board.listing.by_token.get(int(key)) if key.isdigit() else board.listing.by_key.get(key)
        )

    def _board(self) -> Board:
        now = self._world.now()
        if fault := self._faults.take("stale_prices"):
            self._stale = self._world.board(), now + fault.seconds
        if self._stale and now < self._stale[1]:
            return self._stale[0]
        self._stale = None
        return self._world.board()

    async def _historical(self, request: web.Request) -> web.Response:
        interval = request.match_info["interval"]
        if interval not in INTERVALS:
            raise bad_input(f"Invalid interval {interval}.")
        seconds, days = INTERVALS[interval]
        days = self._spans.get(interval, days)
        row = self._listed(request.match_info["token"])
        start, end = (_instant(request.query.get(name), name) for name in ("from", "to"))
        if start > end:
            raise bad_input("The from date cannot be after the to date.")
        if end - start > days * DAY_SECONDS:
            raise bad_input(f"interval exceeds max limit: {days} days")
        now = self._world.now()
        if request.query.get("continuous") == "1" and interval != "day":
            raise bad_input("Continuous data is only there for day candles.")
        rows = self._candles(row, seconds, start, min(end + 1.0, now), request)
        return answer({"candles": rows})

    def _candles(
        self, row: Listed, seconds: int, start: float, end: float, request: web.Request
    ) -> list[list[Any]]:
        bars, interest = self._world.quoter.history(row, seconds, start, end)
        with_interest = request.query.get("oi") == "1"
        rows: list[list[Any]] = []
        columns = np.stack([bars.open, bars.high, bars.low, bars.close], axis=1).round(4).tolist()
        for opens_at, prices, volume, oi in zip(
            bars.opens_at.tolist(), columns, bars.volume.tolist(), interest.tolist(), strict=True
        ):
            # A day's candle is named by its midnight.
            at = (
                ist_instant(trading_date(opens_at), dt.time())
                if seconds == DAY_SECONDS
                else opens_at
            )
            text = dt.datetime.fromtimestamp(at, IST).strftime("%Y-%m-%dT%H:%M:%S%z")
            rows.append([text, *prices, int(volume), *([oi] if with_interest else [])])
        return rows

    def _listed(self, token: str) -> Listed:
        listing = self._world.listing()
        place = listing.by_token.get(int(token)) if token.isdigit() else None
        if place is None:
            raise bad_input("invalid token")
        return listing.rows[place]

    async def _trigger_range(self, request: web.Request) -> web.Response:
        found = {}
        board = self._board()
        for key in request.query.getall("i", []):
            place = board.listing.by_key.get(key)
            if place is not None:
                last = float(board.last[place])
                token = board.listing.rows[place].token
                lower, upper = round(last * 0.9, 2), round(last * 1.1, 2)
                found[key] = {"instrument_token": token, "lower": lower, "upper": upper}
        return answer(found)


def _instant(text: str | None, name: str) -> float:
    """Return the instant of a date, or of a date and time, in Indian time."""
    if not text:
        raise bad_input(f"Missing or empty field `{name}`.")
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        raise bad_input(f"Invalid `{name}` date: {text}.") from None
    if len(text) == 10 and name == "to":
        at = at.replace(hour=23, minute=59, second=59)
    return (at if at.tzinfo else at.replace(tzinfo=IST)).timestamp()
