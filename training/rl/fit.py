"""Train one policy of a slot by a recipe, on some rows and on nothing after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from markets.domain.price_panel import BASIS_POINTS
from tradingsite.registry import Slot
from training.pipeline.dataset import Dataset
from training.rl import cloning
from training.rl.barppo import BarPPO, Progress
from training.rl.checkpoints import Checkpoint
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters
from training.rl.reward import RewardSettings


def fit(
    slot: Slot,
    data: Dataset,
    rows: range,
    recipe: dict[str, Any],
    seed: int,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> BarPPO:
    """Return a policy trained by a recipe on some rows and on nothing after them.

    Raises TrainingDiverged, and ValueError where the rows are too few.
    """
    torch.set_num_threads(1)  # PROD's services share these cores; and one thread is reproducible
    settings = Hyperparameters.from_manifest(recipe["hyperparameters"])
    episodes = Episodes(
        recipe["limit_lots"],
        rows.start,
        rows.stop,
        exploring_starts=True,
        reward=RewardSettings(**recipe["reward"]),
    )
    values = data.features.values
    environment = BatchEnv(data.panel, values, episodes, settings.accounts, settings.group, seed)
    # On a GPU where there is one; CUDA_VISIBLE_DEVICES= in the environment hides it.
    model = BarPPO(environment, values, settings, seed=seed, device="auto")
    if settings.clone_epochs:
        clone_owner(model, data, rows, seed)
        # Cloning is quick and the same every time; what is kept half-way would not know the clone.
        checkpoint = None
    return model.learn(recipe["timesteps"], progress=progress, checkpoint=checkpoint)


def clone_owner(model: BarPPO, data: Dataset, rows: range, seed: int) -> None:
    """Make a policy a clone of the owner, near which it stays as its settings say.

    Raises TooFewTrades and TrainingDiverged.
    """
    owned = cloning.read_owner(data, model.batch_env.episodes.limit_lots, rows.stop)
    cloning.require_enough(owned, rows)
    model.forecast()
    cloning.clone(model, owned, data.panel, rows, seed)
    model.anchor_to_current_policy(model.hyperparameters.style_weight)


def with_assumed_slippage(data: Dataset, recipe: dict[str, Any]) -> Dataset:
    """Return a dataset whose fills cost what a recipe assumes."""
    slippage = recipe["slippage_bps"] / BASIS_POINTS
    return replace(data, panel=replace(data.panel, slippage=slippage))
