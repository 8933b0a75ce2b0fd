"""Exports: the files a bot gets answer like the policy that was trained, or there are none."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.torch import load_file, save_file

from bots.decision.actions import DELTAS
from bots.decision.engine import SlotInputs, replay_slot
from bots.decision.observation import ACCOUNT_SIZE, WINDOW, Float32Array, windows
from bots.modelstore.bundle import (
    ENCODER,
    HEAD,
    PAYLOAD,
    WEIGHTS,
    OnnxPolicy,
    check,
    load,
    seal,
    verify,
)
from bots.modelstore.keys import key_id
from bots.modelstore.manifest import Golden, Manifest, Span
from markets.domain.price_panel import PricePanel
from tests.training.rl.toy import (
    FEATURES,
    LIMIT_LOTS,
    SMALL,
    TRAIN_BARS,
    fingerprint,
    make_model,
    mean_reverting,
)
from tests.training.rl.weights import load_weights
from tradingsite.clock import Epoch
from training.rl.barppo import BarPPO
from training.rl.onnx_export import ExportResult, export_model, save_weights
from training.rl.parity import ParityFailed, check_parity
from training.rl.torch_policy import TorchPolicy

# The same code on a GPU, on machines that have one.
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@dataclass(frozen=True)
class Trained:
    panel: PricePanel
    features: Float32Array
    model: BarPPO
    folder: Path
    exported: ExportResult


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    panel, features = mean_reverting()
    model = make_model(panel, features).learn(16_000)
    folder = tmp_path_factory.mktemp("export") / "bundle"
    return Trained(
        panel, features, model, folder, export_model(model, folder, features[:TRAIN_BARS])
    )


def policy_in(folder: Path) -> OnnxPolicy:
    return OnnxPolicy((folder / ENCODER).read_bytes(), (folder / HEAD).read_bytes())


def sample_windows(trained: Trained, count: int = 64) -> Float32Array:
    return np.ascontiguousarray(windows(trained.features)[:count])


def test_graphs_answer_like_torch_on_real_rows(trained: Trained) -> None:
    parity = trained.exported.parity
    assert parity.inputs == 1_024
    assert parity.largest_code_difference < 1e-5
    assert parity.largest_logit_difference < 1e-5


def test_a_replay_by_onnx_trades_like_a_replay_by_torch(trained: Trained) -> None:
    by_onnx, by_torch = (
        replay_slot(
            SlotInputs("nifty-1h", trained.panel, trained.features, policy, LIMIT_LOTS, start=4_000)
        )
        for policy in (policy_in(trained.folder), TorchPolicy(trained.model))
    )
    np.testing.assert_array_equal(by_onnx.actions, by_torch.actions)
    np.testing.assert_array_equal(by_onnx.path.equity, by_torch.path.equity)
    assert len(np.unique(by_onnx.actions)) > 1


def test_a_code_is_the_same_alone_and_in_a_batch(trained: Trained) -> None:
    policy, inputs = policy_in(trained.folder), sample_windows(trained)
    alone = np.concatenate([policy.encode(inputs[i : i + 1]) for i in range(len(inputs))])
    np.testing.assert_array_equal(policy.encode(inputs), alone)


def test_graphs_carry_the_normalisation_and_nothing_of_this_machine(trained: Trained) -> None:
    graph = onnx.load(trained.folder / ENCODER).graph
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    training_rows = trained.features[:TRAIN_BARS]
    np.testing.assert_allclose(weights["mean"], training_rows.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(1.0 / weights["scale"], training_rows.std(axis=0), rtol=1e-4)
    for name in PAYLOAD:
        body = (trained.folder / name).read_bytes()
        for secret in (str(Path.cwd()), str(Path.home()), platform.node()):
            assert len(secret) < 4 or secret.encode() not in body


def test_a_feature_that_never_moved_in_training_moves_no_served_model(
    trained: Trained, tmp_path: Path
) -> None:
    features = trained.features.copy()
    features[:, 5] = 0.0
    model = make_model(trained.panel, features, SMALL)
    exported = export_model(model, tmp_path / "bundle", features[:TRAIN_BARS])
    assert exported.normalisation.std[5] == 0.0 and min(exported.normalisation.std[:5]) > 0.0
    policy, inputs = policy_in(tmp_path / "bundle"), sample_windows(trained)
    assert np.ptp(inputs[:, :, 5]) > 1.0
    seen = inputs.copy()
    seen[:, :, 5] = 0.0
    np.testing.assert_array_equal(policy.encode(inputs), policy.encode(seen))
    seen[:, :, 4] = 0.0
    assert np.ptp(policy.encode(inputs) - policy.encode(seen)) > 1e-3


def test_the_same_policy_exports_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    again = export_model(trained.model, tmp_path / "again", trained.features[:TRAIN_BARS])
    assert again == trained.exported
    for name in PAYLOAD:
        assert (tmp_path / "again" / name).read_bytes() == (trained.folder / name).read_bytes()


def test_golden_vectors_are_real_windows_with_the_answers(trained: Trained) -> None:
    policy = policy_in(trained.folder)
    assert len(trained.exported.golden) == 3
    tail = trained.features[TRAIN_BARS - WINDOW : TRAIN_BARS]
    np.testing.assert_array_equal(
        np.asarray(trained.exported.golden[-1].window, dtype=np.float32), tail
    )
    for golden in trained.exported.golden:
        code = policy.encode(np.asarray([golden.window], dtype=np.float32))
        logits = policy.act(code, np.asarray([golden.account], dtype=np.float32))
        np.testing.assert_allclose(code[0], golden.code, atol=1e-5)
        np.testing.assert_allclose(logits[0], golden.logits, atol=1e-5)


def nudge_encoder(model: BarPPO) -> None:
    model.encoder.scale[0] *= 1.05


def nudge_head(model: BarPPO) -> None:
    model.policy.get_parameter("action_net.bias")[0] += 1e-3


def spoil_head(model: BarPPO) -> None:
    model.policy.get_parameter("action_net.bias")[0] = torch.nan


@pytest.mark.parametrize(
    ("change", "name"),
    [(nudge_encoder, ENCODER), (nudge_head, HEAD), (spoil_head, HEAD)],
)
def test_parity_fails_when_the_graphs_are_of_another_policy(
    trained: Trained, change: Callable[[BarPPO], None], name: str, tmp_path: Path
) -> None:
    other = make_model(trained.panel, trained.features)
    load_weights(other, trained.folder / WEIGHTS)
    with torch.no_grad():
        change(other)
    with pytest.raises(ParityFailed, match=f"^{name}: onnxruntime differs"):
        check_parity(TorchPolicy(other), policy_in(trained.folder), sample_windows(trained))


def test_a_policy_of_nan_is_not_exported(tmp_path: Path) -> None:
    panel, features = mean_reverting()
    model = make_model(panel, features, SMALL)
    with torch.no_grad():
        spoil_head(model)
    with pytest.raises(ParityFailed, match=f"^{HEAD}"):
        export_model(model, tmp_path / "bundle", features[:TRAIN_BARS])


@pytest.mark.parametrize("device", DEVICES)
def test_a_policy_is_exported_alike_from_each_device(
    trained: Trained, tmp_path: Path, device: str
) -> None:
    model = make_model(trained.panel, trained.features, device=device).learn(16_000)
    parity = export_model(model, tmp_path / "bundle", trained.features[:TRAIN_BARS]).parity
    assert parity.largest_logit_difference < 1e-4


def test_too_few_rows_are_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="31 rows do not fill one window of 32"):
        export_model(trained.model, tmp_path / "bundle", trained.features[: WINDOW - 1])
    assert not (tmp_path / "bundle").exists()


def test_weights_come_back_for_fine_tuning(trained: Trained) -> None:
    # Later bars with another normalisation: the old one comes along with the weights.
    fresh = make_model(trained.panel, trained.features * 1.1, seed=9)
    assert fingerprint(fresh) != fingerprint(trained.model)
    load_weights(fresh, trained.folder / WEIGHTS)
    assert fingerprint(fresh) == fingerprint(trained.model)
    bars, inputs = torch.tensor([WINDOW - 1]), torch.from_numpy(sample_windows(trained, 1) * 1.1)
    with torch.no_grad():
        torch.testing.assert_close(fresh.extractor.codes(bars), trained.model.encoder(inputs))
    fresh.learn(8_192)
    assert fingerprint(fresh) != fingerprint(trained.model)


def test_weights_hold_each_tensor_once(trained: Trained) -> None:
    saved = load_file(trained.folder / WEIGHTS)
    assert not [name for name in saved if name.startswith(("pi_", "vf_"))]
    assert "features_extractor.encoder.mean" in saved
    assert "features_extractor.rows" not in saved
    size = sum(parameter.numel() for parameter in trained.model.policy.parameters())
    assert sum(tensor.numel() for tensor in saved.values()) == size + 2 * FEATURES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("value_net.bias"), "value_net.bias is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda w: w.update({"action_net.bias": torch.zeros(6)}), r"action_net.bias is \[6\]"),
        (lambda w: w["action_net.bias"].fill_(torch.nan), "action_net.bias is not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    trained: Trained,
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    reason: str,
) -> None:
    model = make_model(trained.panel, trained.features)
    before = fingerprint(model)
    save_weights(trained.model, tmp_path / WEIGHTS)
    weights = load_file(tmp_path / WEIGHTS)
    change(weights)
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=reason):
        load_weights(model, tmp_path / WEIGHTS)
    assert fingerprint(model) == before


def make_manifest(trained: Trained, golden: tuple[Golden, ...]) -> Manifest:
    closes_at = trained.panel.closes_at
    return Manifest(
        slot="nifty-1h",
        bot="nifty",
        market="nifty",
        timeframe="1h",
        run_id="toy",
        feature_names=tuple(f"feature_{number}" for number in range(FEATURES)),
        schema_hash="ab" * 32,
        window=WINDOW,
        action_deltas=DELTAS,
        limit_lots=LIMIT_LOTS,
        account_size=ACCOUNT_SIZE,
        normalisation=trained.exported.normalisation,
        training_span=Span(Epoch(0), Epoch(closes_at[TRAIN_BARS - 1]), TRAIN_BARS),
        embargo_bars=WINDOW,
        holdout_span=Span(Epoch(closes_at[TRAIN_BARS]), Epoch(closes_at[-1]), 1_968),
        charge_table_version="toy",
        slippage_bps=1.0,
        algorithm="BarPPO",
        hyperparameters=trained.model.hyperparameters.to_manifest(),
        seeds=(0,),
        library_versions={"torch": torch.__version__},
        commit="0" * 40,
        data_fingerprint="toy",
        metrics={},
        baselines={},
        gate={"verdict": "accepted"},
        trial_count=1,
        parent=None,
        golden=golden,
        created_at="2026-07-01T10:50:00+00:00",
    )


def test_a_trained_policy_travels_to_a_bot(trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "bundle")
    private_key = Ed25519PrivateKey.generate()
    public_keys = {key_id(private_key.public_key()): private_key.public_key()}
    sealed = seal(folder, make_manifest(trained, trained.exported.golden), private_key)
    manifest = verify(folder, public_keys, slot="nifty-1h", schema_hash="ab" * 32)
    assert manifest == sealed
    policy = load(folder, manifest)
    check(policy, manifest)
    expected = TorchPolicy(trained.model)
    inputs = sample_windows(trained, 1)
    account = np.array([[0.5, 0.1, 0.2, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(
        policy.act(policy.encode(inputs), account),
        expected.act(expected.encode(inputs), account),
        atol=1e-5,
    )
