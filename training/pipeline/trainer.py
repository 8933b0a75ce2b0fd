"""Train one slot on one dataset and leave an unsealed bundle: network, graphs, manifest.

The holdout, the last bars after an embargo, is never trained on. It is replayed once with the final
model, through the bots' own decision path with charges and slippage, for the figures that the
manifest and the page show beside flat and buy-and-hold.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bots.decision.actions import DELTAS
from bots.decision.engine import ReplayResult, SlotInputs, replay_slot
from bots.decision.observation import ACCOUNT_SIZE, WINDOW
from bots.modelstore.manifest import Manifest, Span
from markets.domain import charges
from markets.domain.bars import IntArray
from tradingsite import clock, version
from tradingsite.clock import Epoch
from tradingsite.registry import BOTS, Slot
from training.evaluation import metrics
from training.evaluation.refit_gate import GateVerdict, RefitRange, judge_refit
from training.evaluation.splits import Split, split_refit
from training.pipeline.dataset import Dataset
from training.recipes import hash_of
from training.rl import cloning, owner_similarity
from training.rl.barppo import BarPPO, Progress
from training.rl.checkpoints import Checkpoint
from training.rl.fit import fit, with_assumed_slippage
from training.rl.onnx_export import ExportResult, export_model
from training.rl.torch_policy import TorchPolicy

LIBRARIES = ("torch", "stable-baselines3", "numpy", "onnx", "onnxruntime", "ta-lib")


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What a run asks for, beside its data; `trials` counts the slot's runs up to this one."""

    run_id: int
    recipe: dict[str, Any]
    """Of training.recipes; its timesteps are what is trained for."""
    seed: int
    trials: int
    parent: str | None
    allowed: RefitRange | None = None
    """What its recipe's walk forward earned, where the recipe is an approved one."""


def train(
    slot: Slot,
    data: Dataset,
    folder: Path,
    request: TrainingRequest,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
) -> tuple[Manifest, ReplayResult]:
    """Train on all but the holdout, export into `folder`; return the manifest to seal.

    The held-out bars' replay comes with it, for its charts. A checkpoint is a file in which an
    interrupted training of the same data and settings is kept and from which it goes on. Raises
    TooFewBars for a history too short, TrainingDiverged and ParityFailed.
    """
    data = with_assumed_slippage(data, request.recipe)
    features = data.features
    split = split_refit(features.closes_at, Epoch(features.closes_at[-1]), window=WINDOW)
    saved = Checkpoint(checkpoint) if checkpoint else None
    model = fit(slot, data, split.train, request.recipe, request.seed, progress, saved)
    exported = export_model(model, folder, features.values[: split.train.stop])
    held_out = replay_slot(
        SlotInputs(
            slot.slug,
            data.panel,
            features.values,
            TorchPolicy(model),
            BOTS[slot.bot].limit_lots,
            # Decided at the close before the first held-out bar, which is the first it earns.
            split.holdout.start - 1,
        )
    )
    figures = _figures(held_out)
    if BOTS[slot.bot].learns_from_owner:
        figures["owner"] = _owner_similarity(data, split, request, model, held_out)
    learned = {**request.recipe["hyperparameters"], "reward": request.recipe["reward"]}
    learned |= {"timesteps": model.num_timesteps, "device": model.device.type}
    return _manifest(slot, data, request, split, learned, exported, held_out, figures), held_out


def _manifest(
    slot: Slot,
    data: Dataset,
    request: TrainingRequest,
    split: Split,
    learned: dict[str, Any],
    exported: ExportResult,
    held_out: ReplayResult,
    figures: dict[str, Any],
) -> Manifest:
    features = data.features
    return Manifest(
        **_interface(slot, data),
        run_id=str(request.run_id),
        normalisation=exported.normalisation,
        training_span=_span(split.train, features.opens_at, features.closes_at),
        embargo_bars=split.embargo_bars,
        holdout_span=_span(split.holdout, features.opens_at, features.closes_at),
        charge_table_version=charges.TABLE_VERSION,
        slippage_bps=request.recipe["slippage_bps"],
        algorithm="BarPPO",
        hyperparameters=learned,
        seeds=(request.seed,),
        library_versions={name: metadata.version(name) for name in LIBRARIES},
        commit=version.commit(),
        data_fingerprint=data.fingerprint,
        metrics=figures,
        baselines=_baselines(held_out),
        gate=_gate(request, held_out).to_manifest(),
        trial_count=request.trials,
        parent=request.parent,
        golden=exported.golden,
        created_at=clock.real().isoformat(timespec="seconds"),
    )


def _interface(slot: Slot, data: Dataset) -> dict[str, Any]:
    """Return what a bot must agree with to run the graphs: whose they are, what goes in and out."""
    schema = data.features.schema
    return {
        "slot": slot.slug,
        "bot": slot.bot,
        "market": slot.market,
        "timeframe": slot.timeframe,
        "feature_names": schema.names,
        "schema_hash": schema.hash,
        "window": WINDOW,
        "action_deltas": DELTAS,
        "limit_lots": BOTS[slot.bot].limit_lots,
        "account_size": ACCOUNT_SIZE,
    }


def _owner_similarity(
    data: Dataset, split: Split, request: TrainingRequest, model: BarPPO, held_out: ReplayResult
) -> dict[str, Any]:
    """Return how like the owner the clone and the model are on the held-out bars."""
    limit, start = request.recipe["limit_lots"], split.holdout.start - 1
    owned = cloning.read_owner(data, limit, split.train.stop)
    assert model.anchor is not None  # noqa: S101 - made when it became the owner
    clone = TorchPolicy(model.anchor.reference)
    path = replay_slot(
        SlotInputs(request.recipe["slot"], data.panel, data.features.values, clone, limit, start)
    )
    return owner_similarity.report(
        owner_similarity.similarity(clone, data, owned, path, start),
        owner_similarity.similarity(TorchPolicy(model), data, owned, held_out, start),
        data,
        owned,
        split.holdout,
    )


def _gate(request: TrainingRequest, held_out: ReplayResult) -> GateVerdict:
    return judge_refit(
        metrics.net_return(held_out.path.equity),
        len(held_out.actions),
        metrics.collapse_reason(held_out.actions, held_out.lots),
        request.allowed,
        hash_of(request.recipe),
    )


def _span(rows: range, opens_at: IntArray, closes_at: IntArray) -> Span:
    return Span(Epoch(opens_at[rows.start]), Epoch(closes_at[rows.stop - 1]), len(rows))


def _figures(result: ReplayResult) -> dict[str, Any]:
    figures = asdict(metrics.summarise(result))
    figures["net_pnl"] = result.path.net_pnl
    figures["charges"] = result.path.charges
    figures["slippage"] = result.path.slippage
    figures["funding"] = result.path.funding
    figures["trades"] = len(result.path.trades)
    figures["decisions"] = len(result.actions)
    return figures


def _baselines(result: ReplayResult) -> dict[str, Any]:
    return {
        name: {
            "net_return": metrics.net_return(path.equity),
            "net_pnl": path.net_pnl,
            "max_drawdown": path.max_drawdown,
        }
        for name, path in (("flat", result.flat), ("buy_and_hold", result.buy_and_hold))
    }
