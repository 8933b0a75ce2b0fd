"""Weeks of two bots at their simulated venues, with random faults and crashes, held to invariants.

The NIFTY bot trades at the simulated broker and the BTC bot at the simulated exchange, through the
unmodified clients and on real databases; only their policies are chance, so that there is an order
at almost every bar. Faults are those the simulators know; a crash ends a bot at a failpoint and
starts it again; the owner and the venue trade, convert, square off and liquidate in the same
accounts (`_hands`), and whole days pass with a bot's machine off. A person looks at the books
now and then, ends what nobody knows, says what a difference is and lets a halted bot go on. Time
goes from bar to bar, so `weeks` of it take minutes.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import _checks, _hands
from tradingsite.clock import Epoch

CHECKOUT = Path(__file__).resolve().parents[2]
ORDERS = int(os.environ.get("NIGHTDESK_SOAK_ORDERS", "2000"))
MOST_WEEKS = 30.0
SEED = 20_261
YEARS = {"15m": 0.4, "1h": 0.5, "4h": 0.5, "1d": 1.5}
BAR_SECONDS = 900
FAULTS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "nifty": (
        *((kind, {"match": "POST /orders/"}) for kind in ("server_error", "reset", "not_json")),
        *((kind, {"seconds": 0.3}) for kind in ("ambiguous_400", "slow_order")),
        *((kind, {}) for kind in ("reset_after_acceptance", "error_after_acceptance", "lost_400")),
        *((kind, {}) for kind in ("no_funds", "reject", "forbidden_address")),
        ("empty_book", {"times": 3}),
        ("partial_fill", {"quantity": 65, "seconds": 0.3}),
        ("unavailable", {"match": "GET /", "times": 2}),
        *((kind, {}) for kind in ("odd_refusal", "no_funds_open_orders", "no_addresses")),
        ("slow_oms", {"seconds": 0.3}),
        *((kind, {}) for kind in ("position_502", "late_reconcile", "rate_limit")),
        *((kind, {"match": "/orders"}) for kind in ("odd_rows", "null_quantities")),
    ),
    "btc": (
        *((kind, {"match": "POST /exchange"}) for kind in ("server_error", "reset", "not_json")),
        ("late_acceptance", {"seconds": 0.2}),
        *((kind, {}) for kind in ("reject", "partial_fill", "rate_limit", "ioc_as_filled")),
        *((kind, {"match": "BTC"}) for kind in ("reject_oracle", "reject_post_only")),
        *((kind, {"match": "order"}) for kind in ("err_halted", "err_cumulative_requests")),
        ("http_422", {"match": "exchange order"}),
        ("lost", {"match": "exchange order", "seconds": 0.1}),
        ("cancel_scheduled", {"match": "BTC"}),
        ("leverage_refused", {}),
        ("unavailable", {"match": "POST /info", "times": 2}),
    ),
}
FAULT_SHARE, CRASH_SHARE = 0.15, 0.15
HANDS_SECONDS = 0.15
SAID_EVERY = 100
SETTLE_SECONDS = 1.2


def run() -> dict[str, float]:
    """Return the figures of issue 7's soak, measured in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", f"from tests.bench import soak; soak.measure({folder!r})"],
            cwd=CHECKOUT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError("the soak's process failed; what it said is above")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(folder: str) -> None:
    """Live through the weeks and print the figures."""
    import django

    django.setup()
    import logging

    logging.disable(logging.CRITICAL)
    from bots.execution import breaks, postgres_ledger, protocol
    from bots.live import runner
    from markets.simulator.hyperliquid import app
    from markets.venues.ccxt import venue as exchange_venue
    from markets.venues.kite import calls as kite_calls
    from tests.cloning import cloned

    # A simulator is well again at once, and a bar that is not there will not come.
    vars(runner).update(VENUE_PAUSE_SECONDS=0.2, LATE_SECONDS=0.0)
    vars(runner).update(IN_FLIGHT_SECONDS=0.2, FILLS_SECONDS=0.1)
    vars(kite_calls).update(COOL_DOWN_SECONDS=0.2)
    vars(exchange_venue).update(FILLS_LAG_SECONDS=0.3)
    vars(app).update(STEP_SECONDS=0.05)
    # A minute of the soak's is a second: its bars follow each other within one.
    vars(breaks).update(SETTLES_WITHIN=dt.timedelta(seconds=0.5))
    vars(postgres_ledger).update(RESTS_SECONDS=0.7)
    vars(protocol).update(DOUBT_READ_AT_SECONDS=(0.05, 0.1, 0.2, 0.4))
    with cloned(), desks(Path(folder)) as soak:
        print(json.dumps(soak.live()))


class Crash(BaseException):
    """The process is killed here."""


class Chance:
    """Want anything at every bar, but to keep what is held."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def encode(self, windows: Any) -> Any:
        return np.zeros((len(windows), 1), dtype=np.float32)

    def act(self, code: Any, account: Any) -> Any:
        logits = np.zeros((1, 7), dtype=np.float32)
        side = 0 if account[0, 0] <= 0 else 6
        logits[0, side if self._chance.random() < 0.7 else self._chance.randrange(7)] = 1.0
        return logits


class _Desk:
    """One bot, the simulator of its venue, and what a person sees of both."""

    def __init__(self, slug: str, venue: Any, faults: Any, hands: Any, soak: Soak) -> None:
        from bots.live.policies import Loaded, Policies
        from markets import store
        from markets.simulator import history
        from markets.simulator.market import Feed
        from markets.simulator.price_path import PricePath as PricePath
        from tradingsite.registry import BOTS

        self.bot, self.venue, self.faults = BOTS[slug], venue, faults
        self.market = self.bot.market
        self.soak, self.hands = soak, hands
        self.is_away = False
        self.calendar = store.load_calendar(self.market)
        chance = random.Random(SEED)

        class Chances(Policies):
            def current(self, slot: Any) -> Loaded:
                return Loaded(1, f"{slot.slug} v1", Chance(chance))

        self.policies = Chances(self.bot)
        path = PricePath.build(self.market, self.calendar)
        vars(history)["YEARS"] = YEARS
        history.make_history(self.market, until=Epoch(soak.now), path=path)
        self.feed = Feed.of(self.market, self.calendar, path)
        self.feed.is_ours()
        self.runner: Any = None
        self.start()

    def start(self) -> None:
        """Start the bot, as a supervisor does of one that was killed."""
        from django.db import connections

        from bots.live.runner import Runner
        from tradingsite.supervision.heartbeat import Beat

        connections[self.market].close()  # what a dead process held is free
        name = f"{self.bot.slug}-bot"
        self.runner = Runner(self.bot, self.venue, self.calendar, Beat(name), self.policies)

    def step(self) -> None:
        """Let the bot do what is due; killed, it is started again."""
        try:
            self.runner.step()
        except Crash:
            self.soak.counted["restarts"] += 1
            self.start()

    def close_bar(self) -> None:
        """Let a bar close, perhaps with a fault or a crash on the way, and the bot settle."""
        from bots.execution import protocol

        chance = self.soak.chance
        self.feed.close_bars(Epoch(self.soak.now))
        if self.is_away:
            return
        if chance.random() < _hands.OWNER_SHARE:
            self.soak.counted[self.hands.act(chance, "")] += 1
            # Done before the bot looks: what is done while its order leaves, nobody can see.
            time.sleep(HANDS_SECONDS)
        if chance.random() < FAULT_SHARE:
            kind, how = chance.choice(FAULTS[self.market])
            self.faults.put(kind, **how)
            self.soak.counted["faults"] += 1
        if chance.random() < CRASH_SHARE:
            self.soak.dies_at = chance.choice(protocol.FAILPOINTS)
        until = time.monotonic() + SETTLE_SECONDS
        for number in range(1_000):
            self.step()
            if number > 1 and not self._is_busy():
                break
            if time.monotonic() > until:
                break
            time.sleep(0.03)
        self.soak.dies_at = ""
        self.faults.clear()
        self.hands.remember()

    def _is_busy(self) -> bool:
        return not self.runner._is_ready or bool(self.runner._unsettled)

    def look(self) -> None:
        """Be the person who is asked, and let the bot go on."""
        done = _hands.answer(self.bot, self.hands, self.runner._instruments)
        self.soak.counted.update(done)
        self.step()

    def check(self) -> None:
        """Hold the ledger against the venue's own truth."""
        violations = [*_checks.wrong_orders(self), *_checks.wrong_position(self)]
        for each in violations:
            print(f"{self.market} at {self.soak.now:.0f}: {each}", file=sys.stderr)
        self.soak.counted["violations"] += len(violations)
        self.soak.counted["checks"] += 1


class Soak:
    """Two desks on one clock."""

    def __init__(self, folder: Path, hand: Any) -> None:
        from tradingsite import clock

        self.hand = hand
        self.chance = random.Random(SEED)
        self.counted: Counter[str] = Counter()
        self.dies_at = ""
        self.lot = {"nifty": Decimal(65), "btc": Decimal("0.01")}
        self.tags: dict[str, list[str]] = {"nifty": [], "btc": []}
        self.desks: list[_Desk] = []
        self.crossed: list[str] = []
        self.kite: Any = None
        self.exchange: Any = None
        self._clock = clock.SimulatedClock(folder / "clock.json")
        clock.simulate(self._clock.path)
        self.go(hand.at)

    @property
    def now(self) -> float:
        """Return the market's time, epoch seconds."""
        return float(self.hand.at)

    def go(self, at: float) -> None:
        """Set every side's time."""
        from tradingsite import clock

        self.hand.at = at
        frozen = clock.FROZEN_AFTER_SECONDS
        self._clock.write(clock.Anchor(at - frozen * 48.0, time.time() - frozen, 48.0))

    def tags_at(self, market: str) -> list[str]:
        """Return the tag of every order that a venue ever took, from its own records."""
        if market == "btc":
            return list(self.exchange.tags())
        book = self.kite.account.book
        today = {order.order_id: order.ask.tag for order in book.orders.values() if order.ask.tag}
        self._kept.update(today)
        return list(self._kept.values())

    _kept: dict[str, str] = {}

    def live(self) -> dict[str, float]:
        """Go from bar to bar until there were orders enough; return the figures."""
        from bots.execution import protocol
        from bots.models import Order

        def fail(point: str) -> None:
            if point == self.dies_at:
                self.dies_at = ""
                raise Crash(point)

        before, protocol.on_failpoint = protocol.on_failpoint, fail
        first, began, orders, said = self.now, time.monotonic(), 0, 0
        try:
            while orders < ORDERS and self.now - first < MOST_WEEKS * 7 * 86_400:
                self._next_bar()
                orders = sum(Order.on(each.market).objects.count() for each in self.desks)
                if orders >= said + SAID_EVERY:
                    said = orders
                    took = time.monotonic() - began
                    print(f"{orders} of {ORDERS} orders, {took:.0f} s", file=sys.stderr)
        finally:
            protocol.on_failpoint = before
        found = {"orders": orders, "weeks": (self.now - first) / 7 / 86_400}
        names = ("faults", "restarts", "given_up", "resumed", "resolved", "away", "checks")
        for name in (*names, "violations"):
            found[name] = self.counted[name]
        found["other_hands"] = sum(
            count for name, count in self.counted.items() if name.startswith(("broker", "exchange"))
        )
        for each in self.desks:
            rows = Order.on(each.market).objects.filter(leg__in=("by_owner", "by_venue"))
            found[f"{each.market}_closed_for_it"] = rows.count()
        return found | {"wall_s": time.monotonic() - began}

    def go_to_next_bar(self) -> None:
        """Let a quarter of an hour pass, and a little for its bar to be there."""
        at = (int(self.now) // BAR_SECONDS + 1) * BAR_SECONDS + 3.0
        day = self._broker_day()
        self.go(at)
        if self._broker_day() != day:
            self.sign_in()
            for desk in self.desks:
                desk.is_away = self.chance.random() < _hands.AWAY_SHARE
                self.counted["away"] += desk.is_away
                if desk.is_away:
                    desk.start()  # what it knew is gone with its machine

    def _broker_day(self) -> int:
        """Return the number of the day, which begins at 07:00 in India: a token dies at 06:00."""
        return int(self.now + 5.5 * 3_600 - 7 * 3_600) // 86_400

    def _next_bar(self) -> None:
        self.go_to_next_bar()
        at = self.now
        for desk in self.desks:
            bars = desk.market == "btc" and int(at) % 3_600 < BAR_SECONDS
            if bars or (desk.market == "nifty" and desk.calendar.is_open(Epoch(at))):
                desk.close_bar()
                if not desk.is_away:
                    if desk._is_busy() or self.chance.random() < 0.1:
                        desk.look()
                    desk.check()

    def sign_in(self) -> None:
        """Store the broker's token of the day."""
        from markets.simulator import credentials

        self.tokens.save(self.kite.sessions.issue(), credentials.KITE_USER_ID)

    tokens: Any = None


@contextmanager
def desks(folder: Path) -> Iterator[Soak]:
    from markets.domain.calendar import NseCalendar, nse_sessions
    from markets.simulator import credentials
    from markets.simulator.hyperliquid.app import Hyperliquid
    from markets.simulator.kite.app import Kite
    from markets.venues.ccxt.client import ExchangeConfig
    from markets.venues.ccxt.venue import ExchangeVenue
    from markets.venues.kite.token import KiteConfig, TokenStore
    from markets.venues.kite.venue import KiteVenue
    from markets.venues.limiter import KINDS, RateLimiter, Rule
    from tests.markets.simulator.broker import shared_world
    from tests.markets.simulator.served import served

    world, hand = shared_world()
    soak = Soak(folder, hand)
    with ExitStack() as stack:
        kite = Kite(world, folder / "kite", has_limits=False, owner_trades=False)
        exchange = Hyperliquid(world, weight_per_minute=10**9)
        kite_url = stack.enter_context(served(kite.app()))
        exchange_url = stack.enter_context(served(exchange.app()))
        soak.kite, soak.exchange = kite, _hands.Exchange(exchange)
        soak.tokens = TokenStore(folder / "token.json")
        soak.sign_in()
        limiter = RateLimiter(folder / "limits", (Rule("all", 10**6, 1.0, KINDS),))
        config = KiteConfig(
            *(credentials.KITE_API_KEY, credentials.KITE_API_SECRET),
            root=kite_url,
            ws_root=kite_url,
        )
        calendar = NseCalendar(nse_sessions())
        at_broker = KiteVenue(config, soak.tokens, limiter, calendar)
        at_exchange = ExchangeVenue(
            ExchangeConfig(
                wallet=credentials.EXCHANGE_WALLET,
                private_key=credentials.EXCHANGE_PRIVATE_KEY,
                url=exchange_url,
                pause_ms=0.0,
                timeout_seconds=1.0,
            )
        )
        broker = _hands.Broker(kite, kite_url, soak.tokens)
        soak.desks = [
            _Desk("nifty", _watched(at_broker, broker, soak), kite.faults, broker, soak),
            _Desk("btc", at_exchange, exchange.faults, soak.exchange, soak),
        ]
        yield soak


def _watched(venue: Any, hands: Any, soak: Soak) -> Any:
    """Return a venue whose exits are held against the account as they leave."""
    place = venue.place

    def watched(tag: str, name: str, quantity: Decimal, *more: Any, **how: Any) -> Any:
        symbol = venue._directory().find(name).symbol.partition(":")[2]
        product = how.get("product") or venue.product
        if how.get("reduces") and not hands.covers(symbol, quantity, product):
            soak.crossed.append(f"an exit of {quantity} leaves where {hands.held()} is held")
        return place(tag, name, quantity, *more, **how)

    venue.place = watched
    return venue


if __name__ == "__main__":
    print(json.dumps(run()))
