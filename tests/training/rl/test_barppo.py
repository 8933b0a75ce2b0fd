"""BarPPO: it learns what can be learned, repeats itself bit for bit, and agrees with stock PPO."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from bots.decision.engine import ReplayResult, SlotInputs, replay_slot
from bots.decision.observation import WINDOW, Float32Array
from markets.domain.price_panel import PricePanel
from tests.training.rl.toy import (
    LIMIT_LOTS,
    SMALL,
    TRAIN_BARS,
    fingerprint,
    make_model,
    mean_reverting,
)
from training.rl.barppo import BarPPO, Progress, TrainingDiverged
from training.rl.embedding_cache import EmbeddingCache
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters
from training.rl.rollout import Rollout
from training.rl.torch_policy import TorchPolicy

SHARED = replace(SMALL, group=4, segment_bars=8)


@pytest.fixture(scope="module")
def market() -> tuple[PricePanel, Float32Array]:
    return mean_reverting()


def held_out(model: BarPPO, panel: PricePanel, features: Float32Array) -> ReplayResult:
    first = TRAIN_BARS + WINDOW
    policy = TorchPolicy(model)
    return replay_slot(SlotInputs("nifty-1h", panel, features, policy, LIMIT_LOTS, start=first))


def relative_pnl(result: ReplayResult) -> tuple[float, float]:
    capital = float(result.path.equity[0])
    return result.path.net_pnl / capital, result.buy_and_hold.net_pnl / capital


# Learning


def test_learns_a_market_that_returns_to_its_level(market: tuple[PricePanel, Float32Array]) -> None:
    panel, features = market
    model = make_model(panel, features).learn(30_000)
    net, buy_and_hold = relative_pnl(held_out(model, panel, features))
    # Seeds of the market and of the learner gave 0.37 to 0.95; flat is 0.
    assert net > 0.25
    assert net > buy_and_hold + 0.25


def test_learns_nothing_from_shuffled_features(market: tuple[PricePanel, Float32Array]) -> None:
    panel, features = market
    shuffled = features.copy()
    np.random.default_rng(9).shuffle(shuffled)
    model = make_model(panel, shuffled).learn(30_000)
    net, _ = relative_pnl(held_out(model, panel, shuffled))
    # Seeds gave -0.28 to 0.02: there is nothing to learn, and churning costs.
    assert net < 0.08


# Repeatability


@pytest.mark.parametrize("settings", [SMALL, SHARED], ids=["random", "shared"])
def test_the_same_seed_gives_the_same_bits(
    market: tuple[PricePanel, Float32Array], settings: Hyperparameters
) -> None:
    def train(seed: int, disturb: bool = False) -> str:
        def draw(_: Progress) -> None:
            torch.rand(3)
            np.random.default_rng().random()

        model = make_model(*market, settings, seed)
        untrained = fingerprint(model)
        model.learn(1_024, progress=draw if disturb else None)
        assert fingerprint(model) != untrained
        return fingerprint(model)

    assert train(5) == train(5, disturb=True)
    assert train(5) != train(6)


def test_rows_after_the_training_span_change_nothing(
    market: tuple[PricePanel, Float32Array],
) -> None:
    panel, features = market
    spoilt = features.copy()
    spoilt[TRAIN_BARS:] = 1e6
    one, other = (make_model(panel, each, SMALL).learn(1_024) for each in (features, spoilt))
    assert fingerprint(one) == fingerprint(other)


# Agreement with stable-baselines3


def play_rollout(model: BarPPO) -> None:
    env = model.get_env()
    assert env is not None
    _, callback = model._setup_learn(10_000, None, reset_num_timesteps=model.num_timesteps == 0)
    model.collect_rollouts(env, callback, model.rollout_buffer, model.rollout.steps)


@pytest.mark.parametrize("settings", [SMALL, SHARED], ids=["random", "shared"])
def test_a_rollout_is_scored_as_the_stock_policy_scores_it(
    market: tuple[PricePanel, Float32Array], settings: Hyperparameters
) -> None:
    model = make_model(*market, settings)
    model.learn(256)
    rollout = model.rollout
    # The weights moved after the rollout: play one more and leave it unlearned.
    play_rollout(model)
    observations = {
        "bar": rollout.bars.reshape(-1, 1),
        "account": rollout.account_states.flatten(0, 1),
    }
    with torch.no_grad():
        values, log_probs, _ = model.policy.evaluate_actions(
            observations, rollout.actions.reshape(-1)
        )
    assert log_probs is not None
    torch.testing.assert_close(rollout.values.reshape(-1), values[:, 0])
    torch.testing.assert_close(rollout.log_probs.reshape(-1), log_probs)


def test_credit_is_stable_baselines3s_where_episodes_end() -> None:
    steps, accounts, gamma, gae_lambda = 12, 3, 0.97, 0.9
    random = np.random.default_rng(0)
    rewards, values = random.normal(size=(2, steps, accounts)).astype(np.float32)
    ends = (random.random((steps, accounts)) < 0.3).astype(np.float32)
    bootstraps = ends * random.normal(size=(steps, accounts)).astype(np.float32)
    last = torch.from_numpy(random.normal(size=accounts).astype(np.float32))
    rollout = Rollout(steps, accounts, 4, "cpu")
    rollout.rewards, rollout.values, rollout.ends, rollout.bootstraps = (
        torch.from_numpy(each) for each in (rewards, values, ends, bootstraps)
    )
    rollout.compute_gae(last, gamma, gae_lambda)

    space = spaces.Box(-1, 1, (1,))
    stock = RolloutBuffer(
        steps, space, spaces.Discrete(7), "cpu", gae_lambda, gamma, n_envs=accounts
    )
    # Stock PPO adds a cut episode's value to its last reward, and marks starts, not ends.
    stock.rewards[:] = rewards + gamma * bootstraps
    stock.values[:] = values
    stock.episode_starts[1:] = ends[:-1]
    stock.compute_returns_and_advantage(last, ends[-1])
    np.testing.assert_allclose(rollout.advantages.numpy(), stock.advantages, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rollout.returns.numpy(), stock.returns, rtol=1e-5, atol=1e-6)


def test_an_episode_cut_by_time_is_bootstrapped_from_where_it_was_cut(
    market: tuple[PricePanel, Float32Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(*market, SMALL, bars=5)
    env = model.get_env()
    assert isinstance(env, BatchEnv)
    last_seen: list[tuple[int, int, dict[str, Any]]] = []
    play, steps = env.step_wait, itertools.count()

    def watch() -> Any:
        step, result = next(steps), play()
        for account in np.flatnonzero(result[2]).tolist():
            last_seen.append((step, account, result[3][account]))
        return result

    monkeypatch.setattr(env, "step_wait", watch)
    play_rollout(model)
    assert len(last_seen) >= SMALL.accounts * (SMALL.rollout_steps // 5)
    assert float(model.rollout.ends.sum()) == len(last_seen)
    assert int((model.rollout.bootstraps != 0.0).sum()) == len(last_seen)
    for step, account, info in last_seen:
        assert info["TimeLimit.truncated"]
        observation, _ = model.policy.obs_to_tensor(info["terminal_observation"])
        with torch.no_grad():
            value = model.policy.predict_values(observation)
        torch.testing.assert_close(model.rollout.bootstraps[step, account], value[0, 0])


class _StopAfter(BaseCallback):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        return self.n_calls < self.steps


def test_stock_callbacks_can_stop_it(market: tuple[PricePanel, Float32Array]) -> None:
    model = make_model(*market, SMALL).learn(100_000, callback=_StopAfter(40))
    assert model.num_timesteps == 40 * SMALL.accounts


# Sharing


def test_each_bar_is_encoded_once_per_rollout() -> None:
    encoded: list[int] = []

    def encode(bars: torch.Tensor) -> torch.Tensor:
        encoded.extend(bars.tolist())
        return bars[:, None].float() * torch.ones(1, 2)

    cache = EmbeddingCache(encode, bars=50, hidden=2, device=torch.device("cpu"))
    for step in range(8):
        bars = np.array([10 + step, 10 + step, 40 + step])
        codes = cache.get_or_encode(bars, ahead=8 - step)
        np.testing.assert_array_equal(codes[:, 0].numpy(), bars)
    assert sorted(encoded) == [*range(10, 19), *range(40, 49)]
    cache.get_or_encode(np.array([3, 49]), ahead=20)
    assert max(np.unique(encoded, return_counts=True)[1]) == 1
    assert max(encoded) == 49
    cache.clear()
    cache.get_or_encode(np.array([12]), ahead=0)
    assert encoded[-1] == 12


def test_accounts_of_a_group_share_their_bars(market: tuple[PricePanel, Float32Array]) -> None:
    model = make_model(*market, SHARED).learn(128)
    bars = model.rollout.bars.view(SHARED.rollout_steps, -1, SHARED.group)
    assert torch.equal(bars, bars[:, :, :1].expand_as(bars))
    for rows in model.rollout.minibatches(64, 8, 4, torch.Generator()):
        assert len(torch.unique(model.rollout.bars.view(-1)[rows])) <= 64 // SHARED.group


@pytest.mark.parametrize(("segment", "group"), [(1, 1), (8, 1), (1, 4), (8, 4), (16, 8)])
def test_minibatches_hold_every_step_once_in_whole_blocks(segment: int, group: int) -> None:
    steps, accounts = 16, 8
    rollout = Rollout(steps, accounts, 4, "cpu")
    generator = torch.Generator().manual_seed(1)
    batches = list(rollout.minibatches(64, segment, group, generator))
    again = list(rollout.minibatches(64, segment, group, generator))
    if (segment, group) != (16, 8):
        assert not torch.equal(torch.cat(batches), torch.cat(again))
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(steps * accounts))
    for block in torch.cat(batches).split(segment * group):
        step, account = block // accounts, block % accounts
        assert step.unique().tolist() == list(range(int(step.min()), int(step.min()) + segment))
        assert len((account // group).unique()) == 1
        assert len(account.unique()) == group


@pytest.mark.parametrize("network", ["mlp", "lstm", "tft"])
def test_gradients_are_those_of_plain_windows_one_by_one(
    market: tuple[PricePanel, Float32Array], network: str
) -> None:
    model = make_model(*market, replace(SHARED, network=network))
    play_rollout(model)
    model.policy.double()
    for name, tensor in vars(model.rollout).items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            setattr(model.rollout, name, tensor.double())
    rows = next(model.rollout.minibatches(64, 8, 4, torch.Generator()))

    def gradients() -> list[torch.Tensor]:
        loss, _ = model._loss(rows, model.head)
        return list(torch.autograd.grad(loss, list(model.policy.parameters())))

    shared, extractor = gradients(), model.extractor

    def encode_alone(bars: torch.Tensor) -> torch.Tensor:
        windows = [extractor.rows[bar - WINDOW + 1 : bar + 1] for bar in bars.tolist()]
        return torch.cat([extractor.encoder.encode(window[None]) for window in windows])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "codes", encode_alone)
        for one, other in zip(shared, gradients(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# Progress, budgets, failures


def test_progress_is_live_and_ends_with_the_whole_story(
    market: tuple[PricePanel, Float32Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(start=100.0, step=0.2)
    monkeypatch.setattr("training.rl.progress.time.monotonic", lambda: next(clock))
    heard: list[Progress] = []
    make_model(*market, SMALL).learn(128 * 15, progress=heard.append)
    assert [each.timesteps for each in heard] == sorted(each.timesteps for each in heard)
    last = heard[-1]
    assert (last.timesteps, last.total_timesteps, last.eta_seconds) == (128 * 15, 128 * 15, 0.0)
    assert not last.stopped_early
    assert 3 <= len(heard) <= 10 * last.elapsed_seconds + 1
    middle = heard[len(heard) // 2]
    expected = (middle.total_timesteps - middle.timesteps) / middle.steps_per_second
    assert middle.eta_seconds == pytest.approx(expected)
    assert 0.0 < middle.entropy <= np.log(7)
    assert 5e-5 <= last.learning_rate < middle.learning_rate < 1e-3


def test_stops_when_its_time_is_spent(market: tuple[PricePanel, Float32Array]) -> None:
    heard: list[Progress] = []
    model = make_model(*market, SMALL)
    started = time.monotonic()
    model.learn(10**9, progress=heard.append, time_budget_seconds=0.2)
    assert 0.2 <= time.monotonic() - started < 2.0
    assert model.stopped_early
    assert heard[-1].stopped_early
    assert 0 < model.num_timesteps < 10**9


def test_a_training_that_runs_away_is_given_up(market: tuple[PricePanel, Float32Array]) -> None:
    model = make_model(*market, replace(SMALL, learning_rate=1e5, max_gradient_norm=1e9))
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        model.learn(50_000)


def test_a_reward_that_is_not_a_number_is_given_up(market: tuple[PricePanel, Float32Array]) -> None:
    panel, features = market
    close = panel.close.copy()
    close[200] = np.nan
    model = make_model(replace(panel, close=close), features, SMALL)
    with pytest.raises(TrainingDiverged, match="reward of the step to bar 200 is not"):
        model.learn(50_000)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accounts": 16}, "accounts: the environment has 8, BarPPO was given 16"),
        ({"group": 2}, "group: the environment has 1"),
        ({"window": 16}, "window: the environment has 32"),
    ],
)
def test_refuses_an_environment_set_up_otherwise(
    market: tuple[PricePanel, Float32Array], changes: dict[str, Any], reason: str
) -> None:
    panel, features = market
    env = BatchEnv(panel, features, Episodes(LIMIT_LOTS), SMALL.accounts)
    with pytest.raises(ValueError, match=reason):
        BarPPO(env, features, replace(SMALL, **changes))
    with pytest.raises(ValueError, match="feature rows: the environment has 5000"):
        BarPPO(env, features[:-1], SMALL)
    rows = BatchEnv(panel, features, Episodes(LIMIT_LOTS), SMALL.accounts, as_rows=True)
    with pytest.raises(ValueError, match="needs one that shows bar numbers"):
        BarPPO(rows, features, SMALL)


# Hyperparameters


def test_hyperparameters_survive_the_manifest() -> None:
    settings = Hyperparameters(hidden=48, learning_rate=3e-4)
    assert Hyperparameters.from_manifest(settings.to_manifest()) == settings
    with pytest.raises(ValueError, match="unknown hyperparameters: momentum"):
        Hyperparameters.from_manifest({"momentum": 0.9})


def test_learning_rate_falls_in_a_line_to_its_floor() -> None:
    settings = Hyperparameters(learning_rate=1e-3, final_learning_rate_ratio=0.05)
    rates = [settings.learning_rate_at(left) for left in (1.0, 0.5, 0.04, 0.0)]
    assert rates == pytest.approx([1e-3, 5e-4, 5e-5, 5e-5])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"gamma": 1.1}, "gamma must be between 0 and 1"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"group": 7}, "accounts 64 is not a multiple of group 7"),
        ({"segment_bars": 3}, "rollout_steps 128 is not a multiple of segment_bars 3"),
        ({"batch_size": 1000}, "does not make whole batches"),
        ({"batch_size": 8, "segment_bars": 16}, r"not a multiple of segment_bars \* group 16"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
    ],
)
def test_hyperparameters_that_do_not_fit_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Hyperparameters(**changes)
