"""A bot in a process of its own: all of it real but its policy, which trades at every bar."""

import sys
import threading

import django

django.setup()

import numpy as np  # noqa: E402 - models need the settings

from bots.decision.actions import DELTAS  # noqa: E402
from bots.decision.observation import Float32Array  # noqa: E402
from bots.live.bot_venues import venue_of  # noqa: E402
from bots.live.policies import Loaded, Policies  # noqa: E402
from bots.live.runner import Runner  # noqa: E402
from markets import store  # noqa: E402
from tradingsite.registry import BOTS, Slot  # noqa: E402
from tradingsite.supervision.heartbeat import Beat  # noqa: E402
from tradingsite.supervision.serving import serve  # noqa: E402

SLOT = "nifty-15m"
LOOP_SECONDS = 0.05


class Restless:
    """Buy two lots where nothing is held, else sell them."""

    def encode(self, windows: Float32Array) -> Float32Array:
        """Return codes that say nothing."""
        return np.zeros((len(windows), 1), dtype=np.float32)

    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Return the logits of half a sale or purchase."""
        logits = np.zeros((1, len(DELTAS)), dtype=np.float32)
        logits[0, DELTAS.index(-0.5 if account[0, 0] > 0 else 0.5)] = 1.0
        return logits


class OneSlot(Policies):
    """Give one slot the restless policy, the others none."""

    def current(self, slot: Slot) -> Loaded | None:
        """Return the policy of a slot."""
        return Loaded(1, f"{SLOT} v1", Restless()) if slot.slug == SLOT else None


def main(slug: str) -> None:
    """Run a bot until it is told to stop, or killed."""
    bot = BOTS[slug]
    beat = Beat(f"{slug}-bot")
    calendar = store.load_calendar(bot.market)
    runner = Runner(bot, venue_of(bot, calendar), calendar, beat, OneSlot(bot))
    serve(beat, runner.step, LOOP_SECONDS, threading.Event())


if __name__ == "__main__":
    main(sys.argv[1])
