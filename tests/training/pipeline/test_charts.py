"""A run's charts: its whole curves however long it ran, and a picture that is one."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from bots.decision.engine import SlotInputs, replay_slot
from tests.policies import NoisePolicy
from tests.training.rl import toy
from training.pipeline import charts
from training.pipeline.charts import MOST_POINTS, TrainingCurves
from training.rl.progress import Progress


def progress(timesteps: int, reward: float = 0.1) -> Progress:
    return Progress(timesteps, 1_000_000, 1.0, 1.0, mean_reward=reward, entropy=1.9)


@pytest.mark.parametrize("reports", [1, 100, 241, 5_000])
def test_a_story_keeps_its_shape_however_long(reports: int) -> None:
    curves = TrainingCurves()
    for number in range(1, reports + 1):
        curves.add(progress(number * 100, reward=float(number)))
    steps = [point["timesteps"] for point in curves.policy]
    assert len(steps) <= MOST_POINTS + 1 and steps == sorted(set(steps))
    assert len(steps) >= min(reports, MOST_POINTS // 2)
    gaps = np.diff(steps)
    assert len(gaps) == 0 or gaps.max() == gaps.min()
    assert steps[-1] >= 0.95 * reports * 100


def test_what_is_said_twice_is_kept_once_and_forecasts_apart() -> None:
    curves = TrainingCurves()
    curves.add(Progress(0, 100, 1.0, 1.0, phase="forecast", forecast_loss=1.25))
    curves.add(progress(100))
    curves.add(progress(100))
    assert curves.forecast == [1.25] and len(curves.policy) == 1


def test_the_picture_is_drawn_from_the_data(tmp_path: Path) -> None:
    panel, values = toy.mean_reverting(900)
    result = replay_slot(
        SlotInputs("toy", panel, values, NoisePolicy(toy.FEATURES), toy.LIMIT_LOTS)
    )
    curves = TrainingCurves()
    for number in range(1, 30):
        curves.add(progress(number * 100, reward=number / 10.0))
    data = curves.to_json(result)
    held = data["held_out"]
    assert len(held["at"]) == len(held["model"]) == len(held["buy_and_hold"]) == MOST_POINTS
    assert held["model"][0] == 0.0
    last = result.path.equity[-1] / result.path.equity[0] - 1.0
    assert held["model"][-1] == pytest.approx(last, abs=1e-6)
    assert sum(data["actions"].values()) == pytest.approx(1.0, abs=1e-3)
    place = tmp_path / "new" / "run1.png"
    charts.draw(data, "toy run 1 (simulated)", place)
    picture = place.read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1_600, 1_000)
    assert len(picture) > 20_000 and not list(place.parent.glob("*.half"))


def test_only_the_newest_pictures_are_kept(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / f"run{number}.png"
        path.write_bytes(b"x")
        os.utime(path, (number, number))
    charts.prune(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"run{n}.png" for n in range(2, 6)]
