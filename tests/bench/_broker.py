"""The simulated broker in a process of its own, as a broker is, for benches that time a bot.

Its market's time is the clock file's; it says its address and serves until its input is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served_apart(clock_file: Path, home: Path) -> Iterator[str]:
    """Start a broker beside this process; yield its address without a last slash."""
    said = f"from tests.bench import _broker; _broker.serve({str(clock_file)!r}, {str(home)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", said], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(20)


def sign_in(url: str) -> str:
    """Return the day's access token of a broker that `served_apart` gave."""
    request = urllib.request.Request(f"{url}/_sim/token", method="POST")  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return str(json.load(answer)["access_token"])


def serve(clock_file: str, home: str) -> None:
    """Serve a broker on the market's time that a file gives."""
    import django

    django.setup()
    from markets.simulator.kite.app import Kite
    from markets.simulator.world import World
    from tests.markets.simulator.served import served
    from tradingsite import clock

    clock.simulate(Path(clock_file))
    world = World.build(clock.market_seconds)
    world.board()
    kite = Kite(world, Path(home), has_limits=False, owner_trades=False)
    with served(kite.app()) as url:
        print(url, flush=True)
        sys.stdin.read()
