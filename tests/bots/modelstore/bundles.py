"""Small real bundles for tests, built without torch: an encoder that averages, a linear head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from bots.decision.actions import DELTAS
from bots.decision.observation import ACCOUNT_SIZE, WINDOW
from bots.modelstore.bundle import ENCODER, HEAD, WEIGHTS, Float32Array, seal
from bots.modelstore.manifest import Golden, Manifest, Normalisation, Span
from tradingsite.clock import Epoch

FEATURES = ("momentum", "deviation", "volume")
HIDDEN = 4
SCHEMA_HASH = "5c" * 32

ENCODER_WEIGHT = np.random.default_rng(1).normal(size=(len(FEATURES), HIDDEN)).astype(np.float32)
HEAD_WEIGHT = (
    np.random.default_rng(2).normal(size=(HIDDEN + ACCOUNT_SIZE, len(DELTAS))).astype(np.float32)
)


def _model(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    **weights: Float32Array,
) -> bytes:
    def values(shapes: dict[str, list[Any]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    graph = helper.make_graph(
        nodes,
        "graph",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def encoder_graph(weight: Float32Array = ENCODER_WEIGHT) -> bytes:
    """Return an encoder graph: tanh(mean of the window's rows @ weight)."""
    nodes = [
        helper.make_node("ReduceMean", ["windows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["product"]),
        helper.make_node("Tanh", ["product"], ["codes"]),
    ]
    inputs = {"windows": ["batch", WINDOW, len(weight)]}
    return _model(nodes, inputs, {"codes": ["batch", weight.shape[1]]}, weight=weight)


def head_graph(weight: Float32Array = HEAD_WEIGHT) -> bytes:
    """Return a head graph: [code, account] @ weight."""
    nodes = [
        helper.make_node("Concat", ["code", "account"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "weight"], ["logits"]),
    ]
    hidden = len(weight) - ACCOUNT_SIZE
    inputs = {"code": ["batch", hidden], "account": ["batch", ACCOUNT_SIZE]}
    return _model(nodes, inputs, {"logits": ["batch", weight.shape[1]]}, weight=weight)


def golden_vectors() -> tuple[Golden, ...]:
    """Return three inputs with the answers of the default graphs, by numpy."""
    random = np.random.default_rng(3)
    found = []
    for _ in range(3):
        window = random.normal(size=(WINDOW, len(FEATURES))).astype(np.float32)
        account = random.uniform(-1, 1, ACCOUNT_SIZE).astype(np.float32)
        code = np.tanh(window.mean(axis=0) @ ENCODER_WEIGHT)
        logits = np.concatenate([code, account]) @ HEAD_WEIGHT
        rows = tuple(tuple(row) for row in window.tolist())
        found.append(Golden(rows, *(tuple(each.tolist()) for each in (account, code, logits))))
    return tuple(found)


def draft_manifest(**changes: Any) -> Manifest:
    """Return the manifest of the default graphs, not sealed yet, with some keys changed."""
    manifest = Manifest(
        slot="nifty-1h",
        bot="nifty",
        market="nifty",
        timeframe="1h",
        run_id="20260701-161500-1",
        feature_names=FEATURES,
        schema_hash=SCHEMA_HASH,
        window=WINDOW,
        action_deltas=DELTAS,
        limit_lots=4,
        account_size=ACCOUNT_SIZE,
        normalisation=Normalisation((0.0,) * 3, (1.0,) * 3, 5.0),
        training_span=Span(Epoch(1_400_000_000), Epoch(1_780_000_000), 20_000),
        embargo_bars=WINDOW,
        holdout_span=Span(Epoch(1_780_400_000), Epoch(1_782_800_000), 250),
        charge_table_version="2026-04",
        slippage_bps=1.0,
        algorithm="BarPPO",
        hyperparameters={"network": "mlp", "hidden": HIDDEN},
        seeds=(0,),
        library_versions={"torch": "2.13.0"},
        commit="0" * 40,
        data_fingerprint="ab" * 32,
        metrics={"net_return": 0.012},
        baselines={"flat": {"net_return": 0.0}},
        gate={"verdict": "accepted"},
        trial_count=1,
        parent=None,
        golden=golden_vectors(),
        created_at="2026-07-01T10:50:00+00:00",
    )
    return replace(manifest, **changes)


def write_graphs(folder: Path, encoder: bytes | None = None, head: bytes | None = None) -> None:
    """Write the three model files into a new folder."""
    folder.mkdir(parents=True)
    (folder / ENCODER).write_bytes(encoder or encoder_graph())
    (folder / HEAD).write_bytes(head or head_graph())
    (folder / WEIGHTS).write_bytes(b"weights for fine-tuning; PROD never reads them")


def make_bundle(folder: Path, private_key: Ed25519PrivateKey, **changes: Any) -> Manifest:
    """Write a whole signed bundle into a new folder and return its manifest."""
    write_graphs(folder)
    return seal(folder, draft_manifest(**changes), private_key)
