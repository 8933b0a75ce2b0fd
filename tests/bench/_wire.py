"""Bar close to order on the wire: the NIFTY bot at the simulated broker, by the broker's client.

Timed is everything from the moment a bar is there to the moment the broker's client is called with
its order: features, inputs, encoder, head, the decision's transaction, what is asked of the venue,
the limits' transaction. The runner looks for a due bar five times a second, which is not in it.
A bot steps on through the night; here it steps twice, five minutes before each session and as it
opens, and is as warm at its first bar as it makes itself by that. The policies answer as slowly as
real ones and then want something else than is held, so that nearly every bar has an order. The
simulated broker is a process of its own.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import _broker, soak
from tradingsite.clock import Epoch

BARS = 150
STARTS = "2026-06-01 10:00"
YEARS = {"15m": 0.4, "1h": 0.5, "4h": 0.5, "1d": 1.5}
MORNING_SECONDS = 300
OPENING_SECONDS = 0.2
SETTLES_WITHIN_SECONDS = 1.2
QUOTED = "NSE:NIFTY 50"


def measure(folder: str) -> None:
    """Close bars and print the milliseconds from each to its order."""
    import django

    django.setup()
    import logging

    logging.disable(logging.CRITICAL)
    from kiteconnect import KiteConnect

    from bots.live import runner
    from tests.cloning import cloned

    vars(runner).update(LATE_SECONDS=0.0)
    with cloned(), _desk(Path(folder)) as desk:
        place = KiteConnect.place_order

        def on_the_wire(*arguments: Any, **how: Any) -> Any:
            desk.sent.append(time.perf_counter())
            return place(*arguments, **how)

        setattr(KiteConnect, "place_order", on_the_wire)  # noqa: B010
        desk.runner.step()  # started, as a bot is long before a bar
        times = [took for took in (desk.close_bar() for _ in range(BARS)) if took]
    found = 1_000.0 * np.array(times)
    figures = {
        "wire_p50_ms": float(np.percentile(found, 50)),
        "wire_p99_ms": float(np.percentile(found, 99)),
        "wire_orders": float(len(found)),
    }
    print(json.dumps(figures))


class _Slow:
    """Ask a real policy, and then want anything."""

    def __init__(self, policy: Any, chance: Any) -> None:
        self._policy, self._chance = policy, chance

    def encode(self, windows: Any) -> Any:
        return self._policy.encode(windows)

    def act(self, code: Any, account: Any) -> Any:
        self._policy.act(code, account)
        return self._chance.act(code, account)


class _Desk:
    """The NIFTY bot, the market that its bars come from, and the broker that it trades at."""

    def __init__(self, folder: Path, clock_file: Path, url: str) -> None:
        from bots.live.runner import Runner
        from markets import store
        from markets.simulator import credentials, history
        from markets.simulator.market import Feed
        from markets.simulator.price_path import PricePath as PricePath
        from markets.venues.kite.token import KiteConfig, TokenStore
        from markets.venues.kite.venue import KiteVenue
        from markets.venues.limiter import KINDS, RateLimiter, Rule
        from tradingsite.registry import BOTS
        from tradingsite.supervision.heartbeat import Beat

        self.clock_file, self.url = clock_file, url
        self.sent: list[float] = []
        self.bot = BOTS["nifty"]
        self.calendar = store.load_calendar(self.bot.market)
        self.path = PricePath.build(self.bot.market, self.calendar)
        vars(history)["YEARS"] = YEARS
        history.make_history(self.bot.market, until=Epoch(self.now), path=self.path)
        self.feed = Feed.of(self.bot.market, self.calendar, self.path)
        self.feed.is_ours()
        self.tokens = TokenStore(folder / "token.json")
        config = KiteConfig(
            credentials.KITE_API_KEY, credentials.KITE_API_SECRET, root=url, ws_root=url
        )
        limiter = RateLimiter(folder / "limits", (Rule("all", 10**6, 1.0, KINDS),))
        venue = KiteVenue(config, self.tokens, limiter, self.calendar)
        self._sign_in()
        policies = self._policies(folder)
        self.runner: Any = Runner(self.bot, venue, self.calendar, Beat("nifty-bot"), policies)

    @property
    def now(self) -> float:
        """Return the market's time, epoch seconds."""
        from tradingsite import clock

        return clock.market_seconds()

    def close_bar(self) -> float | None:
        """Let the next bar of a session close; return the seconds until its first order left."""
        if self.calendar.session_at(Epoch(int(self.now) + soak.BAR_SECONDS)) is None:
            self._sleep_until_the_morning()
        while True:
            _go(self.clock_file, (int(self.now) // soak.BAR_SECONDS + 1) * soak.BAR_SECONDS + 3.0)
            if self.calendar.is_open(Epoch(self.now)):
                break
        self._quote()
        self.sent.clear()
        began = time.perf_counter()
        self.feed.close_bars(Epoch(self.now))
        self.runner.step()
        took = self.sent[0] - began if self.sent else None
        until = time.monotonic() + SETTLES_WITHIN_SECONDS
        while self._is_busy() and time.monotonic() < until:
            time.sleep(0.03)
            self.runner.step()
        return took

    def _sleep_until_the_morning(self) -> None:
        """Let the night pass, and the bot step twice before the next session's first bar."""
        session = self.calendar.next_session(Epoch(self.now))
        assert session is not None
        _go(self.clock_file, session.opens_at - MORNING_SECONDS)
        self._sign_in()
        self.feed.close_bars(Epoch(self.now))  # the evening's, which are stored in the evening
        self.runner.step()
        # The first order goes out some seconds after the opening, which the broker has used too.
        _go(self.clock_file, session.opens_at + 1.0)
        self._quote()
        self.runner.step()
        time.sleep(OPENING_SECONDS)

    def _quote(self) -> None:
        """Ask for a price: a broker does not make the market of the day when it is first asked."""
        self.client.ltp([QUOTED])

    def _sign_in(self) -> None:
        from kiteconnect import KiteConnect

        from markets.simulator import credentials

        token = _broker.sign_in(self.url)
        self.tokens.save(token, credentials.KITE_USER_ID)
        self.client = KiteConnect(credentials.KITE_API_KEY, access_token=token, root=self.url)

    def _is_busy(self) -> bool:
        return not self.runner._is_ready or bool(self.runner._unsettled)

    def _policies(self, folder: Path) -> Any:
        from bots.live.policies import Loaded, Policies
        from bots.modelstore.bundle import ENCODER, HEAD, OnnxPolicy

        chance = soak.Chance(random.Random(soak.SEED))
        loaded = {}
        for slot in self.bot.slots:
            files = ((folder / slot.slug / name).read_bytes() for name in (ENCODER, HEAD))
            loaded[slot.slug] = Loaded(1, f"{slot.slug} v1", _Slow(OnnxPolicy(*files), chance))
        policies = Policies(self.bot)
        setattr(policies, "current", lambda slot: loaded[slot.slug])  # noqa: B010
        return policies


@contextmanager
def _desk(folder: Path) -> Iterator[_Desk]:
    from tests.markets.simulator.broker import ist
    from tradingsite import clock

    clock_file = folder / "clock.json"
    _go(clock_file, ist(STARTS))
    clock.simulate(clock_file)
    with _broker.served_apart(clock_file, folder / "kite") as url:
        yield _Desk(folder, clock_file, url)


def _go(clock_file: Path, at: float) -> None:
    """Set the time of the market, the bot and the broker; it stands until the next."""
    from tradingsite import clock

    frozen = clock.FROZEN_AFTER_SECONDS
    clock.SimulatedClock(clock_file).write(
        clock.Anchor(at - frozen * 48.0, time.time() - frozen, 48.0)
    )
