"""Bar close to order on the wire: the NIFTY bot at the simulated broker, by the broker's client.

Timed is everything from the moment a bar is there to the moment the broker's client is called with
its order: features, inputs, encoder, head, the decision's transaction, what is asked of the venue,
the limits' transaction. The runner looks for a due bar five times a second, which is not in it.
A bot steps on through the night; here it steps twice, five minutes before each session and as it
opens, and is as warm at its first bar as it makes itself by that. The policies answer as slowly as
real ones and then want something else than is held, so that nearly every bar has an order. The
simulated broker is a thread of the same process and takes its part of the time.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import soak

BARS = 150
MORNING_SECONDS = 300
OPENING_SECONDS = 0.2


class _Slow:
    """Ask a real policy, and then want anything."""

    def __init__(self, policy: Any, chance: Any) -> None:
        self._policy, self._chance = policy, chance

    def encode(self, windows: Any) -> Any:
        return self._policy.encode(windows)

    def act(self, code: Any, account: Any) -> Any:
        self._policy.act(code, account)
        return self._chance.act(code, account)


def measure(folder: str) -> None:
    """Close bars and print the milliseconds from each to its order."""
    import django

    django.setup()
    import logging

    logging.disable(logging.CRITICAL)
    from kiteconnect import KiteConnect

    from bots.bundle import ENCODER, HEAD, OnnxPolicy
    from bots.live import runner
    from bots.live.policies import Loaded
    from tests.cloning import cloned

    vars(runner).update(LATE_SECONDS=0.0)
    with cloned(), soak.desks(Path(folder)) as week:
        desk = week.desks[0]
        chance = soak.Chance(random.Random(soak.SEED))
        loaded = {}
        for slot in desk.bot.slots:
            files = ((Path(folder) / slot.slug / name).read_bytes() for name in (ENCODER, HEAD))
            loaded[slot.slug] = Loaded(1, f"{slot.slug} v1", _Slow(OnnxPolicy(*files), chance))
        setattr(desk.policies, "current", lambda slot: loaded[slot.slug])  # noqa: B010
        sent: list[float] = []
        place = KiteConnect.place_order

        def on_the_wire(*arguments: Any, **how: Any) -> Any:
            sent.append(time.perf_counter())
            return place(*arguments, **how)

        setattr(KiteConnect, "place_order", on_the_wire)  # noqa: B010
        desk.runner.step()  # started, as a bot is long before a bar
        times = [took for took in (_close(week, desk, sent) for _ in range(BARS)) if took]
    found = 1_000.0 * np.array(times)
    figures = {
        "wire_p50_ms": float(np.percentile(found, 50)),
        "wire_p99_ms": float(np.percentile(found, 99)),
        "wire_orders": float(len(found)),
    }
    print(json.dumps(figures))


def _close(week: Any, desk: Any, sent: list[float]) -> float | None:
    """Let the next bar of a session close; return the seconds until its first order left."""
    if desk.calendar.session_at(int(week.now) + soak.BAR_SECONDS) is None:
        _sleep_until_the_morning(week, desk)
    while True:
        week.go_to_next_bar()
        if desk.calendar.is_open(int(week.now)):
            break
    # A broker does not make the market of the day when it is first asked.
    week.kite.account.world.board()
    sent.clear()
    began = time.perf_counter()
    desk.feed.close_bars(int(week.now))
    desk.runner.step()
    took = sent[0] - began if sent else None
    until = time.monotonic() + soak.SETTLE_SECONDS
    while desk._is_busy() and time.monotonic() < until:
        time.sleep(0.03)
        desk.runner.step()
    return took


def _sleep_until_the_morning(week: Any, desk: Any) -> None:
    """Let the night pass, and the bot step once before the next session."""
    session = desk.calendar.next_session(int(week.now))
    while session.opens_at - week.now > soak.BAR_SECONDS:
        week.go_to_next_bar()
    week.go(session.opens_at - MORNING_SECONDS)
    desk.feed.close_bars(int(week.now))  # the evening's, which are stored in the evening
    desk.runner.step()
    # The first order goes out some seconds after the opening, which the broker has used as well.
    week.go(session.opens_at + 1.0)
    week.kite.account.world.board()
    desk.runner.step()
    time.sleep(OPENING_SECONDS)
