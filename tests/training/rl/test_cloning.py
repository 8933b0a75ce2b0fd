"""A clone of the owner: it finds his rule, the dial holds it there, few trades are refused."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bots.decision.actions import HOLD
from bots.decision.engine import PanelBroker, SlotInputs, align_to_features, replay_slot
from bots.decision.observation import WINDOW, limit_notional
from bots.decision.owner import Owned, OwnTrade
from bots.decision.sleeve import Sleeve
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.features import compute
from markets.domain.price_panel import build_price_panel
from markets.imports import tradebook
from markets.simulator import owner
from markets.simulator.price_path import PricePath
from markets.simulator.world import World
from tests.exogenous import all_series
from tests.training.rl import toy
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import SLOTS
from training import recipes
from training.evaluation.splits import Split, split_refit
from training.pipeline.dataset import Dataset
from training.rl import cloning, owner_similarity
from training.rl.barppo import BarPPO
from training.rl.cloning import TooFewTrades
from training.rl.fit import fit
from training.rl.owner_similarity import OwnerSimilarity
from training.rl.torch_policy import TorchPolicy

SLOT = SLOTS["personal-1d"]
LIMIT_LOTS = 4
START = int(dt.datetime(2013, 1, 1, tzinfo=dt.UTC).timestamp())
END = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())
YEARS = 8.0


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The generated market's days, and what its owner did by hand in eight years of them."""
    torch.set_num_threads(1)
    calendar = NseCalendar(nse_sessions())
    bars = {"1d": PricePath.build("nifty", calendar).bars("1d", Epoch(START), Epoch(END))}
    features = compute("nifty", "1d", bars, all_series("nifty", START, END), calendar)
    panel = align_to_features(
        build_price_panel("nifty", bars["1d"], calendar, 1.0), features.opens_at
    )
    world = World.build(lambda: float(END), nse=calendar)
    book = tradebook.parse("his book", iter(owner.tradebook(world, YEARS).splitlines()))
    trades = tuple(
        OwnTrade(trade.instrument, float(trade.quantity), clock.epoch(trade.at))
        for trade in book.trades
    )
    return Dataset(features, panel, "generated", owner_trades=trades)


@pytest.fixture(scope="module", autouse=True)
def registrys_slippage() -> Iterator[None]:
    """Have the slippage that the registry assumes: there are no orders of our own, nor a ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "assumed_bps", lambda bot: bot.slippage_bps)
        yield


@pytest.fixture(scope="module")
def split(data: Dataset) -> Split:
    closes = data.features.closes_at
    return split_refit(closes, Epoch(closes[-1]), window=WINDOW)


def recipe(**changes: Any) -> dict[str, Any]:
    settings = {"clone_epochs": 30, "style_weight": 0.1} | changes
    return recipes.settings_of(SLOT, 4 * 8_192, "mlp", **settings)


def trained(data: Dataset, split: Split, **changes: Any) -> BarPPO:
    return fit(SLOT, data, split.train, recipe(**changes), 0)


def like(data: Dataset, split: Split, policy: TorchPolicy) -> OwnerSimilarity:
    start = split.holdout.start - 1
    owned = cloning.read_owner(data, LIMIT_LOTS, split.train.stop)
    panel = SlotInputs(SLOT.slug, data.panel, data.features.values, policy, LIMIT_LOTS, start)
    return owner_similarity.similarity(policy, data, owned, replay_slot(panel), start)


@pytest.fixture(scope="module")
def near(data: Dataset, split: Split) -> BarPPO:
    return trained(data, split, style_weight=3.0)


def test_the_clone_finds_the_owners_rule(data: Dataset, split: Split, near: BarPPO) -> None:
    assert near.anchor is not None
    found = like(data, split, TorchPolicy(near.anchor.reference))
    assert found.decisions > 100
    assert found.recall is not None and found.precision is not None
    # On the side of a coin, at his own rate, three trades in ten are his by luck.
    assert found.recall > 0.36 and found.precision > 0.36 and found.overlap > 0.3


def test_a_clone_of_trades_without_a_rule_finds_none(data: Dataset, split: Split) -> None:
    random = np.random.default_rng(1)
    sides = random.choice([-1.0, 1.0], size=len(data.owner_trades))
    mad = tuple(
        replace(trade, quantity=abs(trade.quantity) * side)
        for trade, side in zip(data.owner_trades, sides, strict=True)
    )
    model = trained(replace(data, owner_trades=mad), split)
    assert model.anchor is not None
    found = like(data, split, TorchPolicy(model.anchor.reference))
    assert (found.recall or 0.0) < 0.3 and found.overlap < 0.3


def test_the_dial_holds_the_policy_to_the_clone(data: Dataset, split: Split, near: BarPPO) -> None:
    def moved(model: BarPPO) -> float:
        """Return on how many held-out bars the policy does otherwise than its clone."""
        assert model.anchor is not None
        clone, policy = TorchPolicy(model.anchor.reference), TorchPolicy(model)
        windows = np.lib.stride_tricks.sliding_window_view(data.features.values, WINDOW, axis=0)
        rows = np.array(split.holdout) - WINDOW + 1
        seen = np.ascontiguousarray(windows[rows].transpose(0, 2, 1))
        account = np.zeros((len(seen), 4), dtype=np.float32)
        ours, theirs = (
            each.act(each.encode(seen), account).argmax(axis=1) for each in (clone, policy)
        )
        return float(np.mean(ours != theirs))

    free = trained(data, split, style_weight=0.001)
    assert moved(near) < moved(free)


def test_a_training_is_the_same_again(data: Dataset, split: Split) -> None:
    one, other = (
        toy.fingerprint(fit(SLOT, data, split.train, {**recipe(), "timesteps": 8_192}, 3))
        for _ in range(2)
    )
    assert one == other


def test_nothing_after_the_training_span_is_learned(data: Dataset, split: Split) -> None:
    stop = int(data.features.closes_at[split.train.stop - 1])
    past = replace(data, owner_trades=tuple(t for t in data.owner_trades if t.at <= stop))
    one, other = (
        toy.fingerprint(fit(SLOT, each, split.train, {**recipe(), "timesteps": 8_192}, 0))
        for each in (data, past)
    )
    assert one == other


def test_the_report_tells_what_he_earned_and_what_is_left_out(
    data: Dataset, split: Split, near: BarPPO
) -> None:
    owned = cloning.read_owner(data, LIMIT_LOTS, split.train.stop)
    found = like(data, split, TorchPolicy(near))
    told = owner_similarity.report(found, found, data, owned, split.holdout)
    assert told["always_hold"]["recall"] == 0.0 and told["executions"] == owned.trades
    assert told["just_copy_me"]["net_return"] != 0.0
    shares = told["model"]["owner_long_share"], told["model"]["owner_short_share"]
    assert min(shares) > 0.0 and sum(shares) < 1.0


def test_too_few_trades_are_refused_in_words(data: Dataset, split: Split) -> None:
    few = replace(data, owner_trades=data.owner_trades[:20])
    with pytest.raises(TooFewTrades, match="at least 30 are needed"):
        trained(few, split)
    with pytest.raises(TooFewTrades, match="changed his position 0 times"):
        trained(replace(data, owner_trades=()), split)
    elsewhere = tuple(
        replace(trade, instrument=trade.instrument.replace("NIFTY", "BANKNIFTY"))
        for trade in data.owner_trades
    )
    with pytest.raises(TooFewTrades, match=r"left out: \d+ not NIFTY"):
        trained(replace(data, owner_trades=elsewhere), split)


def test_the_account_the_owner_saw_is_a_bots_own(data: Dataset) -> None:
    panel = data.panel.slice(0, 400)
    lots = np.random.default_rng(2).integers(-LIMIT_LOTS, LIMIT_LOTS + 1, size=400)
    lots[:10] = 0
    states = cloning.account_states(panel, lots, LIMIT_LOTS, 5)
    capital = limit_notional(LIMIT_LOTS, float(panel.lot_size[5]), float(panel.close[5]))
    sleeve, broker = Sleeve(LIMIT_LOTS, capital, float(panel.lot_size[5])), PanelBroker(panel)
    for row in range(5, 400):
        seen = sleeve.observe(float(panel.close[row]), float(panel.lot_size[row]))
        np.testing.assert_array_equal(states[row - 5], seen[0])
        if row + 1 < 400:
            broker.rebalance(sleeve, row + 1, int(lots[row + 1]))
    assert states[:, 0].min() == -1.0 and states[:, 0].max() == 1.0


def test_an_owner_who_only_holds_has_decided_nothing() -> None:
    lots = np.full(900, 4, dtype=np.int64)
    owned = Owned(lots, np.full(899, HOLD), first=0, trades=1, left_out={})
    with pytest.raises(TooFewTrades, match="changed his position 0 times"):
        cloning.require_enough(owned, range(900))
