"""Checkpoints: an interrupted training ends on the very bits of one that was not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bots.decision.observation import Float32Array
from markets.domain.price_panel import PricePanel
from tests.training.rl.toy import SMALL, fingerprint, make_model, mean_reverting
from training.rl.barppo import Progress
from training.rl.checkpoints import LAYOUT, Checkpoint
from training.rl.hyperparameters import Hyperparameters
from training.rl.training_state import training_identity

STEPS = 8 * SMALL.rollout_size
FROZEN = replace(SMALL, network="lstm", hidden=16, forecast_epochs=3, freeze_encoder=True)


class Killed(Exception):
    """The worker dies."""


@pytest.fixture(scope="module")
def market() -> tuple[PricePanel, Float32Array]:
    return mean_reverting()


def train(
    market: tuple[PricePanel, Float32Array],
    settings: Hyperparameters,
    path: Path | None,
    until: tuple[str, int] | None = None,
    seed: int = 5,
) -> tuple[str, list[Progress]]:
    """Train, or die after the epoch or the timesteps of `until`; return the weights' hash."""
    heard: list[Progress] = []

    def hear(progress: Progress) -> None:
        heard.append(progress)
        at = progress.forecast_epoch if progress.phase == "forecast" else progress.timesteps
        if until is not None and until[0] == progress.phase and at >= until[1]:
            raise Killed

    model = make_model(*market, settings, seed, bars=40)
    checkpoint = Checkpoint(path, every_seconds=0.0) if path else None
    model.learn(STEPS, progress=hear, checkpoint=checkpoint)
    return fingerprint(model), heard


def identity_of(market: tuple[PricePanel, Float32Array]) -> str:
    model = make_model(*market, SMALL, 5, bars=40)
    return training_identity(model.batch_env, model.features, SMALL, 5, STEPS)


@pytest.mark.parametrize(
    ("settings", "until"),
    [
        (SMALL, ("policy", STEPS // 2)),
        (replace(SMALL, group=4, segment_bars=8, network="lstm"), ("policy", STEPS // 2)),
        (FROZEN, ("policy", STEPS // 2)),
        (FROZEN, ("forecast", 2)),
    ],
    ids=["mlp", "lstm", "frozen", "forecasting"],
)
def test_a_killed_training_goes_on_to_the_same_bits(
    market: tuple[PricePanel, Float32Array],
    settings: Hyperparameters,
    until: tuple[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.rl.progress.REPORT_EVERY_SECONDS", 0.0)
    whole, _ = train(market, settings, None)
    path = tmp_path / "run.checkpoint"
    with pytest.raises(Killed):
        train(market, settings, path, until)
    again, heard = train(market, settings, path)
    assert again == whole
    if until[0] == "policy":
        assert heard[0].phase == "policy" and heard[0].timesteps >= until[1]
        assert heard[0].steps_per_second > 0.0
    else:
        # The epoch whose end was heard was kept after it, so it is done once more.
        assert [each.forecast_epoch for each in heard if each.phase == "forecast"] == [2, 3]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_another_training_left_is_not_taken_up(
    market: tuple[PricePanel, Float32Array], tmp_path: Path
) -> None:
    path = tmp_path / "run.checkpoint"
    expected, _ = train(market, SMALL, None)
    train(market, SMALL, path, seed=6)
    assert train(market, SMALL, path)[0] == expected
    train(market, replace(SMALL, epochs=1), path)
    assert train(market, SMALL, path)[0] == expected
    panel, features = market
    train((panel, features * 1.1), SMALL, path)
    assert train(market, SMALL, path)[0] == expected


def test_a_file_of_another_layout_is_left_out_and_said_so(
    market: tuple[PricePanel, Float32Array], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first layout had its counters side by side and no number; one of the future has."""
    path = tmp_path / "run.checkpoint"
    expected, _ = train(market, SMALL, None)
    state = {"num_timesteps": 128, "belongs_to": "x", "forecast_epochs_done": 0}
    for header in (state, {"layout": LAYOUT + 1}):
        save_file({"random": torch.zeros(4)}, path, metadata={"state": json.dumps(header)})
        assert train(market, SMALL, path)[0] == expected
        assert f"layout {header.get('layout', 1)}, this release reads {LAYOUT}" in caplog.text
    # And the training's own file, which took its place, is taken up.
    assert Checkpoint(path).open(identity_of(market)) is not None


@pytest.mark.parametrize("content", [b"", b"half a file", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_half_a_file_is_no_checkpoint(
    market: tuple[PricePanel, Float32Array], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(content)
    expected, _ = train(market, SMALL, None)
    assert train(market, SMALL, path)[0] == expected
