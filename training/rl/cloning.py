"""A policy that does as the owner did.

It learns his decisions from the windows and the account he saw them with, the rare ones weighed up;
then PPO may improve it, held near the clone by `BarPPO.anchor_to_current_policy`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from bots.decision import owner
from bots.decision.actions import DELTAS
from bots.decision.engine import PanelBroker
from bots.decision.observation import WINDOW, Float32Array, limit_notional
from bots.decision.owner import Owned
from bots.decision.sleeve import Sleeve
from markets.domain.bars import IntArray
from markets.domain.price_panel import PricePanel
from tradingsite.errors import Degraded
from training.pipeline.dataset import Dataset
from training.rl.barppo import BarPPO
from training.rl.progress import TrainingDiverged

MIN_DECISIONS = 30
"""Changes of his position in the training span: of fewer nothing can be learned."""

_BATCH = 128
_WEIGHT_DECAY = 0.01
_LOWEST_RATE_RATIO = 0.05


class TooFewTrades(Degraded):
    """The owner traded too little to learn from; the message says how much is wanted."""


def read_owner(data: Dataset, limit_lots: int, known_bars: int) -> Owned:
    """Return what the owner held and decided on a dataset's bars."""
    panel = data.panel
    return owner.read(data.owner_trades, panel.closes_at, panel.lot_size, limit_lots, known_bars)


def require_enough(owned: Owned, rows: range) -> None:
    """Raise TooFewTrades unless the owner decided often enough within some rows."""
    decisions = owned.decisions(rows)
    if decisions < MIN_DECISIONS:
        left = ", ".join(f"{count} {reason}" for reason, count in owned.left_out.items())
        raise TooFewTrades(
            f"the owner changed his position {decisions} times on the bars to learn from, at least "
            f"{MIN_DECISIONS} are needed ({owned.trades} executions count"
            + (f"; left out: {left}" if left else "")
            + "): import his trade book with `manage.py importtrades`, or wait"
        )


def clone(model: BarPPO, owned: Owned, panel: PricePanel, rows: range, seed: int) -> float:
    """Teach a policy the owner's decisions within the training rows; return the last loss.

    Classes are weighed by the root of their rarity: weighed up fully, a policy trades all day.
    Raises TooFewTrades, and TrainingDiverged.
    """
    require_enough(owned, rows)
    settings = model.hyperparameters
    bars, accounts, actions = _lessons(model, owned, panel, rows)
    counts = torch.bincount(actions, minlength=len(DELTAS)).float()
    weights = torch.where(counts > 0.0, (len(bars) / counts.clamp(min=1.0)).sqrt(), 0.0)
    parameters = [each for each in model.policy.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.clone_learning_rate, weight_decay=_WEIGHT_DECAY
    )
    # Its own stream, on the CPU, so that the order of batches is the same on a GPU.
    random = torch.Generator().manual_seed(seed)
    total, done, last = settings.clone_epochs * math.ceil(len(bars) / _BATCH), 0, math.nan
    model.policy.set_training_mode(True)
    for _ in range(settings.clone_epochs):
        losses = []
        for batch in torch.randperm(len(bars), generator=random).to(model.device).split(_BATCH):
            ratio = max(1.0 - done / total, _LOWEST_RATE_RATIO)
            for group in optimizer.param_groups:
                group["lr"] = settings.clone_learning_rate * ratio
            logits, _ = model.head(model.extractor.codes(bars[batch]), accounts[batch])
            loss = functional.cross_entropy(logits, actions[batch], weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip_grad_norm_(parameters, settings.max_gradient_norm)
            optimizer.step()
            losses.append(loss.detach())
            done += 1
        last = float(torch.stack(losses).mean())
    model.policy.set_training_mode(False)
    if not math.isfinite(last):
        raise TrainingDiverged(f"the cloning loss is {last}: lower clone_learning_rate")
    return last


def _lessons(
    model: BarPPO, owned: Owned, panel: PricePanel, rows: range
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bars (B,) he decided at, his account (B, 4) there and his actions (B,)."""
    # From where he began, and never without a whole window.
    first = max(owned.first, rows.start + WINDOW - 1)
    bars = np.arange(first, rows.stop - 1)
    states = account_states(panel, owned.lots, model.batch_env.episodes.limit_lots, first)
    bar_numbers, accounts, actions = (
        torch.from_numpy(each).to(model.device)
        for each in (bars, states[: len(bars)], owned.actions[bars])
    )
    return bar_numbers, accounts, actions


def account_states(panel: PricePanel, lots: IntArray, limit_lots: int, first: int) -> Float32Array:
    """Return what an account that holds given lots looks like at each close from `first` on.

    (T - first, 4), a row a close; lots (T,) are what is held after each row's open. It is flat
    before, and every fill is paid for as a bot's.
    """
    lot_size, price = float(panel.lot_size[first]), float(panel.close[first])
    sleeve = Sleeve(limit_lots, limit_notional(limit_lots, lot_size, price), lot_size)
    broker = PanelBroker(panel)
    states = np.zeros((len(panel) - first, 4), dtype=np.float32)
    for row in range(first, len(panel)):
        broker.fund(sleeve, row)
        states[row - first] = sleeve.observe(float(panel.close[row]), float(panel.lot_size[row]))[0]
        if row + 1 < len(panel):
            broker.rebalance(sleeve, row + 1, int(lots[row + 1]))
    return states
