"""Restart to ready: from the start of a killed bot's process to its first heartbeat as running.

The real command, `manage.py runbot nifty`, at the simulated broker by the broker's client: imports,
database, the broker's list of the day, and the ledger held against the account. Each start follows
a SIGKILL of the one before. Wall time: it is what the owner waits for.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STARTS = 7
PATIENCE_SECONDS = 60.0


def run() -> dict[str, float]:
    """Return the figures, measured in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", f"from tests.bench import ready; ready.measure({folder!r})"],
            cwd=CHECKOUT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(folder: str) -> None:
    """Start and kill the bot, and print the seconds."""
    import django

    django.setup()
    import logging

    logging.disable(logging.CRITICAL)
    from markets.simulator import history
    from tests.bots.live.test_killed import Life
    from tests.cloning import cloned
    from tests.histories import seed_days
    from tests.markets.simulator.broker import broker
    from tradingsite import clock
    from tradingsite.models import Heartbeat

    vars(history)["YEARS"] = {"15m": 0.4, "1h": 0.5, "4h": 0.5, "1d": 1.5}
    times = []
    with cloned(), broker(at="2026-06-01 10:00") as served:
        seed_days("nifty")
        clock.simulate(Path(folder) / "clock.json")
        life = Life(served, Path(folder))
        command = [sys.executable, "manage.py", "runbot", "nifty"]
        for _ in range(STARTS):
            Heartbeat.objects.all().delete()
            began = time.perf_counter()
            process = subprocess.Popen(command, cwd=CHECKOUT, env=life._env)
            while not Heartbeat.objects.filter(service="nifty-bot", state="running").exists():
                if time.perf_counter() - began > PATIENCE_SECONDS or process.poll() is not None:
                    raise RuntimeError(f"the bot is not ready: {list(Heartbeat.objects.values())}")
                time.sleep(0.02)
            times.append(time.perf_counter() - began)
            process.kill()
            process.wait()
    figures = {"ready_s": statistics.median(times), "ready_most_s": max(times)}
    print(json.dumps(figures | {"starts": float(len(times))}))
