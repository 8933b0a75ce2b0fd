"""The generated market's edge can be learned by a quick run, and is not there where it is not."""

import datetime as dt

import numpy as np
import pytest
import torch

from bots.decision.engine import ReplayResult, SlotInputs, align_to_features, replay_slot
from bots.decision.observation import WINDOW
from markets.domain.bars import IntArray
from markets.domain.calendar import CryptoCalendar
from markets.domain.features import Features, compute
from markets.domain.price_panel import PricePanel, build_price_panel
from markets.simulator.price_path import PricePath
from tests.exogenous import all_series
from tradingsite.clock import Epoch
from training.evaluation.splits import split_refit
from training.rl.barppo import BarPPO
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters
from training.rl.torch_policy import TorchPolicy

LIMIT_LOTS = 4
TIMESTEPS = 120_000  # twice what `make run` gives each first model: four seeds of four earn
START = int(dt.datetime(2022, 1, 1, tzinfo=dt.UTC).timestamp())
END = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())


def market(*, edge: bool) -> tuple[Features, PricePanel]:
    """Return BTC's hourly rows and panel, charges and slippage on."""
    calendar = CryptoCalendar()
    path = PricePath.build("btc", calendar, edge=edge)
    bars = {timeframe: path.bars(timeframe, Epoch(START), Epoch(END)) for timeframe in ("1h", "4h")}
    features = compute("btc", "1h", bars, all_series("btc", START, END), calendar)
    return features, align_to_features(
        build_price_panel("btc", bars["1h"], calendar, 1.5), features.opens_at
    )


def held_out(features: Features, panel: PricePanel, rows: IntArray) -> ReplayResult:
    """Train on all but the holdout and replay that, with the features in the given order."""
    torch.set_num_threads(1)
    values = features.values[rows]
    split = split_refit(features.closes_at, Epoch(END), window=WINDOW)
    episodes = Episodes(LIMIT_LOTS, 0, split.train.stop, exploring_starts=True)
    settings = Hyperparameters()
    environment = BatchEnv(panel, values, episodes, settings.accounts, settings.group, 0)
    model = BarPPO(environment, values, settings, seed=0)
    model.learn(TIMESTEPS)
    start = split.holdout.start - 1
    return replay_slot(SlotInputs("btc-1h", panel, values, TorchPolicy(model), LIMIT_LOTS, start))


@pytest.fixture(scope="module")
def planted() -> tuple[Features, PricePanel]:
    return market(edge=True)


def lead(result: ReplayResult) -> float:
    """Return by how much of its capital a model beat the better of flat and buy-and-hold."""
    better = max(result.flat.net_pnl, result.buy_and_hold.net_pnl)
    return (result.path.net_pnl - better) / float(result.path.equity[0])


def test_a_quick_model_earns_the_planted_edge(planted: tuple[Features, PricePanel]) -> None:
    assert lead(held_out(*planted, np.arange(len(planted[0])))) > 0.05


def test_shuffled_features_earn_nothing(planted: tuple[Features, PricePanel]) -> None:
    rows = np.random.default_rng(5).permutation(len(planted[0]))
    assert lead(held_out(*planted, rows)) < 0.0


def test_without_the_edge_there_is_nothing_to_learn() -> None:
    features, panel = market(edge=False)
    assert lead(held_out(features, panel, np.arange(len(features)))) < 0.03
