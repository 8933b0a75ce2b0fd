"""Forecasting first: what an encoder is taught, and that nothing later than its span teaches it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bots.decision.observation import WINDOW, Float32Array
from markets.domain.price_panel import PricePanel
from tests.panels import make_panel
from tests.training.rl.toy import SMALL, TRAIN_BARS, fingerprint, make_model, mean_reverting
from training.rl.barppo import BarPPO, Progress, TrainingDiverged
from training.rl.forecasting import HORIZONS, Forecaster, forecast_targets
from training.rl.hyperparameters import RECIPES, Hyperparameters

FROZEN = replace(
    SMALL, network="lstm", hidden=16, forecast_epochs=2, freeze_encoder=True, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def market() -> tuple[PricePanel, Float32Array]:
    return mean_reverting()


def hidden_from(model: BarPPO, features: Float32Array) -> float:
    """Return the share of the planted state's variance that unseen codes do not tell, linearly."""
    bars = torch.arange(WINDOW, len(features))
    with torch.no_grad():
        codes = model.extractor.encode_distinct(bars)
    codes = torch.cat([codes, torch.ones(len(codes), 1)], dim=1)
    state = torch.from_numpy(features[bars.numpy(), :1])
    seen, unseen = slice(0, TRAIN_BARS - WINDOW), slice(TRAIN_BARS, None)
    fit = torch.linalg.lstsq(codes[seen], state[seen]).solution
    return float((codes[unseen] @ fit - state[unseen]).square().mean() / state[unseen].var())


def test_targets_are_the_next_returns_over_volatility() -> None:
    close = 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).normal(size=80)))
    close[60] = close[59] * 2.0
    panel = make_panel(close)
    targets = forecast_targets(panel)
    returns = np.diff(np.log(close), prepend=np.log(panel.open[0]))
    for bar in (30, 41):
        volatility = np.sqrt(np.mean(returns[bar - 19 : bar + 1] ** 2))
        for column, ahead in enumerate(HORIZONS):
            moved = np.log(close[bar + ahead] / close[bar])
            expected = moved / (volatility * np.sqrt(ahead))
            assert targets[bar, column] == pytest.approx(expected, rel=1e-5)
    assert targets[59, 0] == 4.0  # a doubling is clipped
    assert np.isnan(targets[-16:]).all() and np.isfinite(targets[:-16]).all()


def test_a_roll_is_no_return() -> None:
    close = 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).normal(size=80)))
    rolled = make_panel(close, roll_rows=(40,), basis=0.05)
    targets, plain = forecast_targets(rolled), forecast_targets(make_panel(close))
    # The old contract is worth 5 % less at the roll, so its holder saw a fall; the new one's did
    # not, and a contract without basis is the plain one.
    assert targets[39, 0] < plain[39, 0]
    same = forecast_targets(make_panel(close, roll_rows=(40,)))
    np.testing.assert_array_equal(same, plain)


def test_the_encoder_learns_what_comes_next(market: tuple[PricePanel, Float32Array]) -> None:
    panel, features = market
    settings = Hyperparameters.of("tft", accounts=8, rollout_steps=16, batch_size=128)
    model, fresh = (make_model(panel, features, settings) for _ in range(2))
    heard: list[Progress] = []
    model.learn(128, progress=heard.append)
    # Two seeds gave 0.20 and 0.22, and 0.45 and 0.54 untrained.
    assert hidden_from(model, features) < 0.3
    assert hidden_from(fresh, features) > 0.4
    epochs = [each for each in heard if each.phase == "forecast"]
    assert [each.forecast_epoch for each in epochs] == [1, 2, 3, 4]
    assert epochs[-1].forecast_loss < epochs[0].forecast_loss
    assert (epochs[0].timesteps, epochs[0].total_timesteps) == (0, 128)
    assert heard[-1].phase == "policy" and heard[-1].forecast_epochs == 4


def test_a_frozen_encoder_stays_and_its_codes_are_worked_out_once(
    market: tuple[PricePanel, Float32Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(*market, FROZEN)
    model.learn(128)
    encoder = {name: each.clone() for name, each in model.encoder.state_dict().items()}
    head = model.policy.get_parameter("action_net.weight").clone()

    def refuse(*_: Any) -> Any:
        raise AssertionError("a bar was encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(model.encoder, "encode_bars", refuse)
        model.learn(1_024, reset_num_timesteps=False)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, encoder[name]), name
    assert not torch.equal(model.policy.get_parameter("action_net.weight"), head)
    bars = torch.arange(WINDOW - 1, TRAIN_BARS)
    with torch.no_grad():
        torch.testing.assert_close(model.codes.get(bars), model.extractor.codes(bars))


def test_rows_after_the_training_span_teach_nothing(
    market: tuple[PricePanel, Float32Array],
) -> None:
    panel, features = market
    spoilt, close = features.copy(), panel.close.copy()
    spoilt[TRAIN_BARS:] = 1e6
    close[TRAIN_BARS:] *= 3.0
    one, other = (
        make_model(*each, FROZEN).learn(128)
        for each in ((panel, features), (replace(panel, close=close), spoilt))
    )
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("network", ["lstm", "tft"])
def test_the_same_seed_gives_the_same_bits(
    market: tuple[PricePanel, Float32Array], network: str
) -> None:
    settings = replace(FROZEN, network=network, forecast_epochs=1)

    def train(seed: int) -> str:
        def draw(_: Progress) -> None:
            torch.rand(3)

        return fingerprint(make_model(*market, settings, seed).learn(256, progress=draw))

    assert train(5) == train(5) != train(6)


def test_a_spent_time_budget_ends_the_forecasting_too(
    market: tuple[PricePanel, Float32Array],
) -> None:
    heard: list[Progress] = []
    model = make_model(*market, replace(FROZEN, forecast_epochs=10_000))
    model.learn(128, progress=heard.append, time_budget_seconds=0.2)
    assert model.stopped_early and model.num_timesteps == 0
    assert heard[-1].stopped_early and 0 < heard[-1].forecast_epoch < 10_000


def test_what_cannot_be_forecast_is_refused(market: tuple[PricePanel, Float32Array]) -> None:
    panel, features = market
    model = make_model(panel, features, FROZEN)
    few = range(WINDOW, WINDOW + 300)
    targets = torch.from_numpy(forecast_targets(panel))
    with pytest.raises(ValueError, match="300 bars to forecast do not make a batch of 256"):
        Forecaster(model.encoder, model.extractor.rows, targets, few, FROZEN, 0)
    with pytest.raises(ValueError, match="learned nothing is not to be frozen"):
        make_model(panel, features, replace(FROZEN, forecast_epochs=0)).learn(128)
    close = panel.close.copy()
    close[500] = np.nan
    with pytest.raises(TrainingDiverged, match="the forecast loss is nan after 0 epochs"):
        make_model(replace(panel, close=close), features, FROZEN).learn(128)


def test_every_network_has_settings() -> None:
    assert Hyperparameters.of("mlp") == Hyperparameters()
    for network in RECIPES:
        assert Hyperparameters.of(network).network == network
        assert Hyperparameters.of(network).freeze_encoder
    assert Hyperparameters.of("tft", group=1).group == 1
    with pytest.raises(ValueError, match="forecast_batch_size 100 is not a multiple of the chunk"):
        Hyperparameters(forecast_batch_size=100)
    with pytest.raises(ValueError, match="forecast_epochs must be at least 0, not -1"):
        Hyperparameters(forecast_epochs=-1)
