"""Exports of the costlier networks: onnxruntime answers like torch, alone and in a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bots.decision.engine import SlotInputs, replay_slot
from bots.decision.observation import WINDOW, windows
from bots.modelstore.bundle import ENCODER, HEAD, WEIGHTS, OnnxPolicy
from tests.training.rl.toy import (
    LIMIT_LOTS,
    TRAIN_BARS,
    fingerprint,
    make_model,
    mean_reverting,
)
from tests.training.rl.weights import load_weights
from training.rl.hyperparameters import Hyperparameters
from training.rl.onnx_export import export_model
from training.rl.parity import check_parity
from training.rl.torch_policy import TorchPolicy

SETTINGS = {"accounts": 16, "rollout_steps": 64, "batch_size": 256, "forecast_epochs": 1}


@pytest.mark.parametrize("network", ["lstm", "tft"])
def test_a_network_travels_to_a_bot(network: str, tmp_path: Path) -> None:
    panel, features = mean_reverting()
    features = 5.0 + 3.0 * features  # so that the graph must normalise
    settings = Hyperparameters.of(network, **SETTINGS)
    model = make_model(panel, features, settings).learn(4_096)
    parity = export_model(model, tmp_path, features[:TRAIN_BARS]).parity
    assert parity.inputs == 1_024
    assert parity.largest_code_difference < 1e-5
    assert parity.largest_logit_difference < 1e-4

    graph = onnx.load(tmp_path / ENCODER).graph
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    np.testing.assert_allclose(weights["mean"], features[:TRAIN_BARS].mean(axis=0), rtol=1e-4)

    policy = OnnxPolicy((tmp_path / ENCODER).read_bytes(), (tmp_path / HEAD).read_bytes())
    unseen = np.ascontiguousarray(windows(features)[-300:])
    check_parity(TorchPolicy(model), policy, unseen)
    alone = np.concatenate([policy.encode(unseen[i : i + 1]) for i in range(64)])
    np.testing.assert_allclose(policy.encode(unseen[:64]), alone, atol=1e-5)

    by_onnx, by_torch = (
        replay_slot(SlotInputs("nifty-1h", panel, features, each, LIMIT_LOTS, start=4_700))
        for each in (policy, TorchPolicy(model))
    )
    np.testing.assert_array_equal(by_onnx.actions, by_torch.actions)
    assert len(np.unique(by_onnx.actions)) > 1

    fresh = make_model(panel, features[:, ::-1].copy(), settings, seed=9)
    load_weights(fresh, tmp_path / WEIGHTS)
    assert fingerprint(fresh) == fingerprint(model)
    assert len(features) - WINDOW > 300
