"""What tests of training runs stand on: a data folder, bars to learn from, light steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markets import store
from markets.models import Source
from tests import histories
from training.models import TrainingRun
from training.pipeline import runs as pipeline_runs
from training.pipeline.runs import STAGES, STEPS


@pytest.fixture
def desk(tmp_path: Path, settings: Any) -> Path:
    """Have a data folder of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    return tmp_path


@pytest.fixture
def learnable() -> None:
    """Have 4h bars of BTC, enough for feature rows."""
    store.save_bars("btc", "4h", histories.four_hours(600), Source.IMPORTED)
    store.rebuild_features("btc", "4h")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return a function that puts light steps in the place of the real ones.

    The list it returns fills with the numbers of the steps that ran.
    """

    def put(**bodies: Callable[[TrainingRun], str]) -> list[int]:
        ran: list[int] = []

        def light(number: int) -> Callable[[TrainingRun], str]:
            def step(run: TrainingRun) -> str:
                ran.append(number)
                body = bodies.get(STEPS[number - 1])
                return body(run) if body else f"did {STEPS[number - 1]}"

            return step

        for first, (task, real) in STAGES.items():
            replaced = tuple(light(first + place) for place in range(len(real)))
            monkeypatch.setitem(pipeline_runs.STAGES, first, (task, replaced))
        return ran

    return put
