"""The seven steps of one slot's training, and the way back: seconds a step, bytes, spoilt bundles.

The slot is NIFTY 15m on a generated history of four years, as long as a real one, or on the bars
of a folder that NIGHTDESK_BARS names (nifty_15m.csv.gz and so on). `overhead_share`
is what the steps beside the training take of a run whose training lasts three minutes. `rollback_s`
is from asking for an older version, which only PC's archive has, to a bot's process holding its
policy, verified; it decides with it at its next bar. Both roles are on this machine here: the link
between two is not in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tradingsite.clock import Epoch

CHECKOUT = Path(__file__).resolve().parents[2]
SLOT = "nifty-15m"
YEARS: dict[str, float] = {"15m": 4.0, "1h": 4.0, "4h": 4.0, "1d": 6.0}
TIMESTEPS = 16_384
LONG_TRAINING_SECONDS = 180.0


def run() -> dict[str, float]:
    """Return the figures of issue 6, measured in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"from tests.bench import pipeline; pipeline.measure({folder!r})",
            ],
            cwd=CHECKOUT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the pipeline's process failed: {done.stderr[-2_000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(folder: str) -> None:
    """Train twice, go back, spoil bundles, and print the figures."""
    import django

    django.setup()
    import logging

    logging.disable(logging.CRITICAL)
    from django.conf import settings

    from tests.cloning import cloned

    settings.PROD_DIR, settings.PC_DIR = Path(folder) / "prod", Path(folder) / "pc"
    with cloned():
        _make_market()
        figures = _train()
        figures |= _go_back()
        figures |= _spoil(Path(folder))
    print(json.dumps(figures))


def _make_market() -> None:
    """Import NIFTY's bars from the folder that NIGHTDESK_BARS names, else generate some."""
    from django.core.management import call_command

    from markets.simulator import history

    folder = os.environ.get("NIGHTDESK_BARS")
    if not folder:
        vars(history)["YEARS"] = YEARS
        history.make_history("nifty", Epoch(history.first_instant()))
        return
    for timeframe in ("15m", "1h", "1d"):
        file = str(Path(folder) / f"nifty_{timeframe}.csv.gz")
        call_command("importbars", "nifty", timeframe, file, stdout=sys.stderr)


def _train() -> dict[str, float]:
    """Return the seconds of each step of a second run, and the bytes that both moved."""
    runs = [_run(seed) for seed in range(2)]
    figures: dict[str, float] = {}
    beside = 0.0
    for step in runs[1].steps.all():
        took = (step.finished_at - step.started_at).total_seconds()
        figures[f"{step.name}_s"] = took
        beside += took if step.name != "train" else 0.0
    figures["train_steps"] = float(runs[1].progress["timesteps"])
    figures["overhead_share"] = beside / (beside + LONG_TRAINING_SECONDS)
    figures["bytes_first"], figures["bytes_second"] = (_bytes(each) for each in runs)
    return figures


def _run(seed: int) -> Any:
    from markets.simulator import history
    from tradingsite import clock
    from tradingsite.registry import SLOTS
    from training.pipeline import runs as pipeline_runs

    until = clock.from_seconds(history.first_instant())
    run = pipeline_runs.enqueue(
        SLOTS[SLOT],
        "bench",
        clock.real(),
        timesteps=TIMESTEPS,
        until=until,
        seed=seed,
        send=False,
    )
    assert run is not None
    done = pipeline_runs.run_in_place(run)
    if done.state != done.State.DONE:
        raise RuntimeError(done.detail)
    return done


def _bytes(run: Any) -> float:
    """Return what the second step says that it moved."""
    return float(run.steps.get(number=2).detail.split()[0].replace(",", "")) * 1_000.0


def _go_back() -> dict[str, float]:
    import shutil

    from bots.live.policies import Policies
    from bots.modelstore import services as modelstore
    from tradingsite.registry import BOTS, SLOTS

    slot = SLOTS[SLOT]
    running = Policies(BOTS[slot.bot])
    running.current(slot)
    old = modelstore.get(SLOT, 1)
    shutil.rmtree(modelstore.folder(old))  # PROD has it no longer
    began = time.perf_counter()
    modelstore.choose(SLOT, 1, "bench")
    found = running.current(slot)
    assert found is not None and found.version_id == old.pk
    return {"rollback_s": time.perf_counter() - began}


def _spoil(folder: Path) -> dict[str, float]:
    """Return how many ways of spoiling the trained bundle were tried, and how many were refused."""
    import shutil

    from bots.modelstore import bundle
    from bots.modelstore import services as modelstore
    from tests.bots.modelstore.mutations import corpus

    good = modelstore.folder(modelstore.get(SLOT, 2))
    other = modelstore.folder(modelstore.get(SLOT, 1))
    tried = refused = 0
    for _, spoil in corpus(other):
        place = folder / "spoilt"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(good, place)
        spoil(place)
        tried += 1
        try:
            manifest = modelstore.verify(place, SLOT)
            bundle.check(bundle.load(place, manifest), manifest)
        except bundle.BundleRejected:
            refused += 1
    return {"mutations_tried": float(tried), "mutations_rejected": float(refused)}
