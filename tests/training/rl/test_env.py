import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.decision.observation import ACCOUNT_SIZE, WINDOW, Float32Array
from markets.domain.bars import BoolArray, IntArray
from markets.domain.price_panel import PricePanel
from tests.panels import make_panel, random_features, random_funding, random_panel
from training.rl.env import BatchEnv, Episodes, SingleEnv
from training.rl.reward import RewardSettings

ROWS = 700


def _single(panel: PricePanel, episodes: Episodes, values: Float32Array | None = None) -> SingleEnv:
    return SingleEnv(panel, random_features(len(panel)) if values is None else values, episodes)


def _batch(panel: PricePanel, episodes: Episodes, **options: Any) -> BatchEnv:
    return BatchEnv(panel, random_features(len(panel)), episodes, **options)


def test_single_env_passes_gymnasiums_checks_without_a_warning() -> None:
    env = _single(random_panel(ROWS), Episodes(limit_lots=4, exploring_starts=True))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    assert [str(each.message) for each in warned] == []


def test_single_env_shows_the_row_of_the_last_close_and_the_account() -> None:
    panel, values = random_panel(ROWS), random_features(ROWS)
    env = _single(panel, Episodes(limit_lots=4), values)
    observation, _ = env.reset(options={"bar": 100})
    assert np.array_equal(observation, np.append(values[100], np.zeros(4, dtype=np.float32)))
    observation, *_ = env.step(1)
    assert np.array_equal(observation[:-ACCOUNT_SIZE], values[101])
    assert observation[-ACCOUNT_SIZE] == 0.5


def test_single_env_pays_by_hand() -> None:
    # Bought at the open of the next bar, marked at its close; charges and slippage are paid.
    close = np.full(100, 100.0)
    close[41:] = 110.0
    opens = np.full(100, 100.0)
    opens[41:] = 105.0
    panel = make_panel(close, opens, buy_rate=0.001, slippage=0.01)
    env = _single(panel, Episodes(limit_lots=4, bars=10))
    env.reset(options={"bar": 40})
    _, reward, ruined, truncated, info = env.step(0)
    equity = 20_000 - 200 * 106.05 * 1.001 + 200 * 110
    assert env.capital == 20_000
    assert info == {"equity": pytest.approx(equity), "lots": 4}
    assert reward == pytest.approx(100 * np.log(equity / 20_000))
    assert not (ruined or truncated)


def test_funding_is_paid_on_what_is_held_at_the_close() -> None:
    rates = np.zeros(100)
    rates[[40, 41, 43]] = 0.5, 0.001, -0.002
    env = _single(
        make_panel(np.full(100, 100.0), funding_rate=rates), Episodes(limit_lots=4, bars=10)
    )
    env.reset(options={"bar": 40})
    # Long 200 from the next open on: the payment at the close it was decided at is not its own.
    worth = [env.step(action)[-1]["equity"] for action in (0, 3, 6)]
    assert worth == pytest.approx([20_000 - 20, 20_000 - 20, 20_000 - 20])
    env.reset(options={"bar": 41})
    worth = [env.step(action)[-1]["equity"] for action in (6, 3)]
    assert worth == pytest.approx([20_000, 20_000 - 40])


def test_an_episode_is_truncated_at_its_length_inside_its_rows() -> None:
    episodes = Episodes(limit_lots=4, start=50, stop=50 + WINDOW + 20, bars=20)
    env = _single(random_panel(ROWS), episodes)
    assert env.first_bar == env.last_bar == 50 + WINDOW - 1
    env.reset()
    ends = [env.step(3)[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(False, True)]
    assert env.bar == 50 + WINDOW + 19


@pytest.mark.parametrize("stop", [50 + WINDOW + 19, ROWS + 1])
def test_rows_that_hold_no_episode_are_refused(stop: int) -> None:
    episodes = Episodes(limit_lots=4, start=50, stop=stop, bars=20 if stop < ROWS else 10)
    with pytest.raises(ValueError, match="does not fit"):
        _single(random_panel(ROWS), episodes)
    with pytest.raises(ValueError, match="does not fit"):
        _batch(random_panel(ROWS), episodes)


def _step(env: BatchEnv, actions: IntArray) -> Any:
    return env.step(actions)


def _compare(
    panel: PricePanel, episodes: Episodes, starts: IntArray, lots: IntArray, actions: IntArray
) -> tuple[BoolArray, BatchEnv]:
    """Play the same actions in both environments and compare everything they say."""
    accounts = len(starts)
    batch = _batch(panel, episodes, accounts=accounts, as_rows=True, stagger=False)
    batch.start_episodes(np.arange(accounts), starts, lots)
    singles = [_single(panel, episodes) for _ in starts]
    for env, bar, held in zip(singles, starts, lots, strict=True):
        env.reset(options={"bar": bar, "lots": held})
    alive = np.ones(accounts, dtype=bool)
    for taken in actions:
        rewards, ruined, truncated = batch.advance(taken)
        observed = batch.observe()
        for each in np.flatnonzero(alive):
            env = singles[each]
            observation, reward, *ends, _ = env.step(taken[each])
            assert rewards[each] == pytest.approx(reward, rel=0, abs=1e-12)
            assert np.array_equal(observed[each], observation)
            assert [ruined[each], truncated[each]] == ends
            assert batch.equity[each] == env.sleeve.equity
            assert batch.lots[each] == env.sleeve.lots
            alive[each] = not any(ends)
    return ruined, batch


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpe_weight", [0.0, 0.01])
def test_both_environments_agree_over_rolls_and_flips(seed: int, sharpe_weight: float) -> None:
    rng = np.random.default_rng(seed)
    episodes = Episodes(limit_lots=4, bars=256, reward=RewardSettings(sharpe_weight=sharpe_weight))
    starts = rng.integers(WINDOW - 1, ROWS - 257, 12)
    lots = rng.integers(-4, 5, 12)
    actions = rng.integers(0, 7, (256, 12))
    panel = random_panel(ROWS, seed, funding_rate=random_funding(ROWS, seed) if seed % 2 else 0.0)
    _, batch = _compare(panel, episodes, starts, lots, actions)
    assert (batch.elapsed == 256).all()


def test_both_environments_agree_when_accounts_are_ruined() -> None:
    rng = np.random.default_rng(9)
    panel = random_panel(ROWS, volatility=0.2)
    starts = rng.integers(WINDOW - 1, ROWS - 257, 24)
    actions = rng.choice([0, 1, 3], (200, 24))
    ruined, _ = _compare(panel, Episodes(limit_lots=3), starts, np.full(24, -3), actions)
    assert ruined.any()


def test_ruin_on_the_last_bar_is_a_termination() -> None:
    close = np.full(60, 100.0)
    close[50:] = 10.0
    panel, episodes = make_panel(close), Episodes(limit_lots=4, bars=10)
    ruined, batch = _compare(
        panel, episodes, np.array([40]), np.array([4]), np.full((10, 1), 3, dtype=np.int64)
    )
    assert ruined.all()
    assert batch.elapsed.tolist() == [10]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([0.01, 0.5, 65.0]))
def test_both_environments_agree_at_any_limit_and_lot(seed: int, limit: int, lot: float) -> None:
    rng = np.random.default_rng(seed)
    panel = random_panel(120, seed, lot_sizes=(lot, lot * 1.3), roll_rows=(50, 70))
    episodes = Episodes(limit_lots=limit, bars=40)
    starts = np.full(4, 45)
    lots = rng.integers(-limit, limit, 4, endpoint=True)
    _compare(panel, episodes, starts, lots, rng.integers(0, 7, (40, 4)))


def test_index_observations_fit_their_space() -> None:
    env = _batch(random_panel(ROWS), Episodes(limit_lots=4), accounts=8, seed=1)
    observation = env.reset()
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert observation["bar"].shape == (8, 1)
        assert observation["account"].dtype == np.float32
        one = {name: column[0] for name, column in observation.items()}
        assert env.observation_space.contains(one)
        observation, rewards, ended, infos = _step(env, rng.integers(0, 7, 8))
        assert rewards.dtype == np.float32
        assert ended.dtype == np.bool_
        assert len(infos) == 8


def test_an_observation_once_returned_stays_as_it_was() -> None:
    env = _batch(random_panel(ROWS), Episodes(limit_lots=4), accounts=8, seed=1)
    first = env.reset()
    kept = {name: column.copy() for name, column in first.items()}
    for _ in range(5):
        _step(env, np.zeros(8, dtype=int))
    assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_a_truncated_account_tells_where_it_was_and_starts_anew() -> None:
    episodes = Episodes(limit_lots=4, bars=20)
    env = _batch(random_panel(ROWS), episodes, accounts=6, seed=1, stagger=False)
    start = env.reset()["bar"].copy()
    for _ in range(19):
        _, _, ended, infos = _step(env, np.zeros(6, dtype=int))
        assert not ended.any()
        assert infos == [{}] * 6
    observation, _, ended, infos = _step(env, np.zeros(6, dtype=int))
    assert ended.all()
    for each, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        assert info["terminal_observation"]["bar"] == start[each] + 20
        assert info["terminal_observation"]["account"][0] == 1.0
    assert observation["account"].tolist() == [[0.0] * 4] * 6
    assert (env.elapsed == 0).all()


@pytest.mark.parametrize("as_rows", [False, True])
def test_accounts_that_begin_anew_show_what_observing_all_would(as_rows: bool) -> None:
    panel = random_panel(ROWS, volatility=0.1)
    episodes = Episodes(limit_lots=4, bars=30, exploring_starts=True)
    env = _batch(panel, episodes, accounts=16, group=4, seed=3, as_rows=as_rows)
    rng = np.random.default_rng(1)
    ends = 0
    for _ in range(200):
        shown, _, ended, infos = _step(env, rng.integers(0, 7, 16))
        again = env.observe()
        for name in shown if not as_rows else [...]:
            assert np.array_equal(shown[name], again[name])
        for each in np.flatnonzero(ended):
            last = infos[each]["terminal_observation"]
            kept = last if as_rows else last["account"]
            assert not np.shares_memory(kept, shown if as_rows else shown["account"])
            ends += 1
    assert ends > 100


def test_ruin_is_terminal_and_begins_anew_at_the_bar_of_its_group() -> None:
    close = np.full(200, 100.0)
    close[45:] = 15.0
    panel = make_panel(close)
    env = _batch(panel, Episodes(limit_lots=4, bars=150), accounts=4, group=2, stagger=False)
    env.start_episodes(np.arange(4), np.full(4, 40))
    for _ in range(4):
        _step(env, np.array([0, 3, 6, 3]))
    observation, _, ended, infos = _step(env, np.full(4, 3))
    assert ended.tolist() == [True, False, False, False]
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["terminal_observation"]["account"][0] == 1.0
    assert observation["bar"].ravel().tolist() == [45] * 4
    assert observation["account"][0].tolist() == [0.0] * 4
    assert env.capital.tolist() == [3_000.0, 20_000.0, 20_000.0, 20_000.0]
    assert env.elapsed.tolist() == [5] * 4


def test_groups_share_one_path_for_ever() -> None:
    panel = random_panel(ROWS, volatility=0.1)
    episodes = Episodes(limit_lots=4, bars=30, exploring_starts=True)
    env = _batch(panel, episodes, accounts=24, group=8, seed=3)
    rng = np.random.default_rng(1)
    ruins = 0
    for _ in range(400):
        _, _, ended, infos = _step(env, rng.integers(0, 7, 24))
        ruins += sum(not infos[each]["TimeLimit.truncated"] for each in np.flatnonzero(ended))
        assert (np.ptp(env.bar.reshape(3, 8), axis=1) == 0).all()
    assert ruins > 0
    assert len(set(env.bar.tolist())) == 3


def test_first_episodes_end_at_different_times() -> None:
    env = _batch(random_panel(ROWS), Episodes(limit_lots=4, bars=100), accounts=32, seed=0)
    env.reset()
    assert len(set(env.elapsed.tolist())) > 20


def test_a_seed_repeats_everything() -> None:
    def play(seed: int) -> list[list[float]]:
        env = _batch(random_panel(ROWS), Episodes(limit_lots=4, bars=9), accounts=8, seed=seed)
        rng = np.random.default_rng(5)
        return [_step(env, rng.integers(0, 7, 8))[1].tolist() for _ in range(40)]

    assert play(1) == play(1)
    assert play(1) != play(2)
    env = _batch(random_panel(ROWS), Episodes(limit_lots=4), accounts=8)
    env.seed(4)
    first = env.reset()["bar"]
    env.seed(4)
    assert np.array_equal(env.reset()["bar"], first)


def test_exploring_starts_take_positions_free_of_costs() -> None:
    panel = random_panel(ROWS)
    env = _batch(panel, Episodes(limit_lots=4, exploring_starts=True), accounts=64, seed=0)
    env.reset()
    assert set(env.lots.tolist()) == set(range(-4, 5))
    assert np.array_equal(env.equity, env.capital)
    assert env.cash + env.quantity * panel.close[env.bar] == pytest.approx(env.capital)


def test_walking_past_the_last_row_is_refused() -> None:
    env = _batch(random_panel(60), Episodes(limit_lots=4, bars=28), accounts=1, stagger=False)
    for _ in range(28):
        env.advance(np.array([3]))
    with pytest.raises(IndexError, match="row 59"):
        env.advance(np.array([3]))


def test_incomplete_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="whole groups of 3"):
        _batch(random_panel(ROWS), Episodes(limit_lots=4), accounts=8, group=3)


def test_stable_baselines_learns_on_it() -> None:
    from stable_baselines3 import PPO

    env = _batch(random_panel(ROWS), Episodes(limit_lots=4, bars=16), accounts=8, seed=0)
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=64, n_epochs=1, device="cpu")
    model.learn(512)
    assert model.num_timesteps == 512
