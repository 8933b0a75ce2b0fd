"""Signed bundles: what is whole loads and answers; what was changed is refused, saying why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from bots.modelstore.bundle import (
    ENCODER,
    HEAD,
    MANIFEST,
    PAYLOAD,
    SIGNATURE,
    WEIGHTS,
    BundleRejected,
    check,
    load,
    main,
    seal,
    verify,
)
from bots.modelstore.keys import BadKeys, generate_keys, key_id, load_private_key, load_public_keys
from bots.modelstore.manifest import BadManifest, FileEntry, Manifest, from_bytes, to_bytes
from tests.bots.modelstore.bundles import (
    ENCODER_WEIGHT,
    FEATURES,
    HEAD_WEIGHT,
    HIDDEN,
    SCHEMA_HASH,
    draft_manifest,
    encoder_graph,
    head_graph,
    make_bundle,
    write_graphs,
)
from tradingsite.errors import Degraded

FILES = (*PAYLOAD, MANIFEST, SIGNATURE)
Keys = dict[str, Ed25519PublicKey]


@pytest.fixture(scope="module")
def private_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def public_keys(private_key: Ed25519PrivateKey) -> Keys:
    public_key = private_key.public_key()
    return {key_id(public_key): public_key}


@pytest.fixture
def folder(tmp_path: Path, private_key: Ed25519PrivateKey) -> Path:
    make_bundle(tmp_path / "bundle", private_key)
    return tmp_path / "bundle"


def accept(folder: Path, public_keys: Keys) -> Manifest:
    manifest = verify(folder, public_keys, slot="nifty-1h", schema_hash=SCHEMA_HASH)
    check(load(folder, manifest), manifest)
    return manifest


def sign_by_hand(folder: Path, body: bytes, private_key: Ed25519PrivateKey) -> None:
    """Sign any bytes as a manifest, as a trainer with another code version might."""
    signer = key_id(private_key.public_key())
    signature = private_key.sign(b"nightdesk model bundle\n" + body)
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(signer.encode() + signature)


def edit_manifest(
    folder: Path, private_key: Ed25519PrivateKey, edit: Callable[[dict[str, Any]], object]
) -> None:
    payload = json.loads((folder / MANIFEST).read_bytes())
    edit(payload)
    body = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    sign_by_hand(folder, body.encode(), private_key)


# Whole bundles


def test_round_trip_answers_as_the_trainer_did(folder: Path, public_keys: Keys) -> None:
    manifest = accept(folder, public_keys)
    assert manifest.feature_names == FEATURES
    assert [entry.path for entry in manifest.files] == list(PAYLOAD)
    policy = load(folder, manifest)
    windows = np.random.default_rng(5).normal(size=(9, 32, 3)).astype(np.float32)
    accounts = np.random.default_rng(6).normal(size=(9, 4)).astype(np.float32)
    codes = policy.encode(windows)
    np.testing.assert_allclose(codes, np.tanh(windows.mean(axis=1) @ ENCODER_WEIGHT), atol=1e-6)
    logits = np.concatenate([policy.act(codes[i : i + 1], accounts[i : i + 1]) for i in range(9)])
    expected = np.concatenate([codes, accounts], axis=1) @ HEAD_WEIGHT
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_manifest_is_read_back_as_it_was_sealed(
    tmp_path: Path, private_key: Ed25519PrivateKey, public_keys: Keys
) -> None:
    sealed = make_bundle(tmp_path / "b", private_key, gate={"verdict": "प्रथम", "margin": 1.5})
    assert verify(tmp_path / "b", public_keys) == sealed
    body = (tmp_path / "b" / MANIFEST).read_bytes()
    assert to_bytes(from_bytes(body)) == body


def test_any_of_several_trusted_keys_may_sign(tmp_path: Path) -> None:
    keys_folder = tmp_path / "trusted"
    for name in ("old", "new"):
        generate_keys(tmp_path / f"{name}.pem", keys_folder)
        make_bundle(tmp_path / name, load_private_key(tmp_path / f"{name}.pem"))
    assert (tmp_path / "old.pem").stat().st_mode & 0o777 == 0o600
    keys = load_public_keys(keys_folder)
    signers = {accept(tmp_path / name, keys).signer_key_id for name in ("old", "new")}
    assert signers == set(keys)
    retired = accept(tmp_path / "old", keys).signer_key_id
    (keys_folder / f"{retired}.pub").unlink()
    with pytest.raises(BundleRejected, match=f"unknown key '{retired}'"):
        verify(tmp_path / "old", load_public_keys(keys_folder))


def test_runs_as_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    generate_keys(tmp_path / "other.pem", tmp_path / "keys")
    command = [sys.executable, "-m", "bots.modelstore.bundle", str(folder), str(tmp_path / "keys")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "unknown key" in refused.stderr
    shutil.rmtree(folder)
    make_bundle(folder, load_private_key(tmp_path / "other.pem"))
    accepted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (accepted.returncode, accepted.stderr) == (0, "")


def test_command_says_why_not(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder)]) == 1
    assert main([str(folder), str(tmp_path / "nowhere")]) == 1
    assert "holds no public key" in capsys.readouterr().err


# Changed bundles


def test_refuses_every_flipped_bit(folder: Path, public_keys: Keys) -> None:
    random = np.random.default_rng(11)
    for name in FILES:
        path = folder / name
        original = path.read_bytes()
        for place in random.integers(0, len(original) * 8, 60):
            changed = bytearray(original)
            changed[place // 8] ^= 1 << (place % 8)
            path.write_bytes(changed)
            with pytest.raises(BundleRejected, match=r"manifest|encoder|head|weights"):
                verify(folder, public_keys)
        path.write_bytes(original)
    accept(folder, public_keys)


def test_refuses_every_truncation_and_every_appended_byte(folder: Path, public_keys: Keys) -> None:
    for name in FILES:
        path = folder / name
        original = path.read_bytes()
        cuts = np.linspace(0, len(original) - 1, 20).astype(int)
        for body in [*(original[:cut] for cut in cuts), original + b"\0"]:
            path.write_bytes(body)
            with pytest.raises(BundleRejected):
                verify(folder, public_keys)
        path.write_bytes(original)


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_missing_file(folder: Path, public_keys: Keys, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleRejected, match=f"^{name} is missing"):
        verify(folder, public_keys)


@pytest.mark.parametrize("name", ["model.pkl", ".hidden", "मॉडल.onnx"])
def test_refuses_an_extra_file(folder: Path, public_keys: Keys, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(BundleRejected, match=f"{name}.* is not part of a bundle"):
        verify(folder, public_keys)


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_link_even_to_the_right_bytes(folder: Path, public_keys: Keys, name: str) -> None:
    shutil.move(folder / name, folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    with pytest.raises(BundleRejected, match=f"^{name} is not a plain file"):
        verify(folder, public_keys)


def test_refuses_a_pipe_without_waiting_for_it(folder: Path, public_keys: Keys) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    with pytest.raises(BundleRejected, match="not a plain file"):
        verify(folder, public_keys)


def test_refuses_two_files_swapped(folder: Path, public_keys: Keys) -> None:
    encoder, head = (folder / ENCODER).read_bytes(), (folder / HEAD).read_bytes()
    (folder / ENCODER).write_bytes(head)
    (folder / HEAD).write_bytes(encoder)
    with pytest.raises(BundleRejected, match=r"encoder\.onnx"):
        verify(folder, public_keys)


def test_refuses_the_signature_of_another_bundle(
    folder: Path, tmp_path: Path, private_key: Ed25519PrivateKey, public_keys: Keys
) -> None:
    make_bundle(tmp_path / "other", private_key, run_id="another")
    shutil.copy(tmp_path / "other" / SIGNATURE, folder / SIGNATURE)
    with pytest.raises(BundleRejected, match="signature does not fit"):
        verify(folder, public_keys)


def test_refuses_a_signature_made_for_another_purpose(
    folder: Path, private_key: Ed25519PrivateKey, public_keys: Keys
) -> None:
    body = (folder / MANIFEST).read_bytes()
    signer = key_id(private_key.public_key())
    (folder / SIGNATURE).write_bytes(signer.encode() + private_key.sign(body))
    with pytest.raises(BundleRejected, match="signature does not fit"):
        verify(folder, public_keys)


def test_refuses_a_model_of_another_slot_or_schema(folder: Path, public_keys: Keys) -> None:
    with pytest.raises(BundleRejected, match="made for slot nifty-1h, wanted btc-1h"):
        verify(folder, public_keys, slot="btc-1h")
    with pytest.raises(BundleRejected, match="the features have changed since"):
        verify(folder, public_keys, schema_hash="00" * 32)


def test_refuses_a_file_changed_between_verify_and_load(folder: Path, public_keys: Keys) -> None:
    manifest = verify(folder, public_keys)
    head = bytearray((folder / HEAD).read_bytes())
    head[-1] ^= 1
    (folder / HEAD).write_bytes(head)
    with pytest.raises(BundleRejected, match=r"head\.onnx: its sha256"):
        load(folder, manifest)


# Well signed, but wrong


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda m: m.update(colour="red"), "unknown key colour"),
        (lambda m: m["training_span"].update(rows=1), "unknown key training_span.rows"),
        (lambda m: m.pop("gate"), "missing key gate"),
        (lambda m: m["golden"][1].pop("code"), r"missing key golden\[1\]\.code"),
        (lambda m: m.update(window="32"), "key window must be int, not str"),
        (lambda m: m.update(window=True), "key window must be int, not bool"),
        (lambda m: m.update(format_version=2), "format_version is 2, this code reads 1"),
        (lambda m: m.update(bot="btc"), "key slot does not fit"),
        (lambda m: m.update(golden=[]), "key golden does not fit"),
        (lambda m: m["golden"][0]["logits"].pop(), "key golden does not fit"),
        (lambda m: m["normalisation"]["std"].pop(), "key normalisation does not fit"),
        (lambda m: m.update(created_at="2026-07-01T10:50"), "key created_at does not fit"),
        (lambda m: m.update(signer_key_id="0" * 16), "signer_key_id is not"),
        (lambda m: m["files"].pop(), "files lists"),
        (lambda m: m["files"][0].update(path="../encoder.onnx"), r"files lists \.\./encoder"),
        (lambda m: m["files"].append(m["files"][0]), "files lists"),
        (lambda m: m["files"][0].update(size=10**12), "1000000000000"),
    ],
)
def test_refuses_a_wrong_manifest_naming_the_key(
    folder: Path,
    private_key: Ed25519PrivateKey,
    public_keys: Keys,
    edit: Callable[[dict[str, Any]], object],
    reason: str,
) -> None:
    edit_manifest(folder, private_key, edit)
    with pytest.raises(BundleRejected, match=reason):
        verify(folder, public_keys)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"bot":', b'"bot":"btc","bot":', "key bot is there twice"),
        (b'"size":', b'"size":1,"size":', "key size is there twice"),
        (b'"slippage_bps":1.0', b'"slippage_bps":NaN', "NaN is not a number"),
        (b'"slippage_bps":1.0', b'"slippage_bps":1e999', "slippage_bps is not finite"),
        (b'"bot":', b'"bot": ', "not in canonical form"),
        (b'"bot":"nifty"', b'"bot":"\xff"', "not UTF-8"),
        (b'"bot":"nifty"', b'"bot":', "not JSON"),
        (b'"bot":"nifty"', b'"bot":' + b"[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_refuses_json_that_could_be_read_in_two_ways(
    folder: Path,
    private_key: Ed25519PrivateKey,
    public_keys: Keys,
    old: bytes,
    new: bytes,
    reason: str,
) -> None:
    body = (folder / MANIFEST).read_bytes()
    assert old in body
    sign_by_hand(folder, body.replace(old, new, 1), private_key)
    with pytest.raises(BundleRejected, match=reason):
        verify(folder, public_keys)


def spoilt(weight: np.ndarray, value: float) -> np.ndarray:
    weight = weight.copy()
    weight[0, 0] = value
    return weight


@pytest.mark.parametrize(
    ("graphs", "reason"),
    [
        ({"head": head_graph(spoilt(HEAD_WEIGHT, np.nan))}, "logits of golden vector 0"),
        ({"encoder": encoder_graph(spoilt(ENCODER_WEIGHT, np.nan))}, "code of golden vector 0"),
        ({"head": head_graph(HEAD_WEIGHT * 0)}, "logits of golden vector 0"),
        ({"head": head_graph(HEAD_WEIGHT + 1e-3)}, "differs by"),
        ({"head": head_graph(HEAD_WEIGHT[:, :6])}, r"shape \(1, 6\), expected \(1, 7\)"),
        ({"encoder": encoder_graph(ENCODER_WEIGHT[::-1].copy())}, "code of golden vector 0"),
        ({"encoder": encoder_graph(ENCODER_WEIGHT[:2])}, "failed on a known input"),
        ({"encoder": head_graph()}, r"encoder.onnx: inputs \(name: rank\)"),
        ({"encoder": b"GIF89a"}, r"encoder.onnx: onnxruntime cannot load it"),
    ],
    ids=["nan", "nan-encoder", "zero", "drifted", "six", "permuted", "narrow", "swapped", "junk"],
)
def test_refuses_a_signed_model_that_answers_differently(
    tmp_path: Path,
    private_key: Ed25519PrivateKey,
    public_keys: Keys,
    graphs: dict[str, bytes],
    reason: str,
) -> None:
    write_graphs(tmp_path / "bundle", **graphs)
    seal(tmp_path / "bundle", draft_manifest(), private_key)
    with pytest.raises(BundleRejected, match=reason):
        accept(tmp_path / "bundle", public_keys)


def with_logits(manifest: Manifest, logits: tuple[float, ...]) -> Manifest:
    golden = tuple(replace(each, logits=logits) for each in manifest.golden)
    return replace(manifest, golden=golden)


def test_refuses_a_dead_policy_even_with_its_own_golden_vectors(
    tmp_path: Path, private_key: Ed25519PrivateKey, public_keys: Keys
) -> None:
    write_graphs(tmp_path / "bundle", head=head_graph(HEAD_WEIGHT * 0))
    seal(tmp_path / "bundle", with_logits(draft_manifest(), (0.0,) * 7), private_key)
    with pytest.raises(BundleRejected, match="the same logits for every input"):
        accept(tmp_path / "bundle", public_keys)


def test_refuses_another_action_table(
    tmp_path: Path, private_key: Ed25519PrivateKey, public_keys: Keys
) -> None:
    deltas = (1.0, 2 / 3, 1 / 3, 0.0, -1 / 3, -2 / 3, -1.0)
    make_bundle(tmp_path / "bundle", private_key, action_deltas=deltas)
    with pytest.raises(BundleRejected, match="its actions or account state"):
        accept(tmp_path / "bundle", public_keys)


# Sealing and keys


def test_seals_nothing_but_a_folder_of_the_three_files(
    folder: Path, private_key: Ed25519PrivateKey
) -> None:
    with pytest.raises(BundleRejected, match=r"manifest\.json' is not part"):
        seal(folder, draft_manifest(), private_key)


def test_seals_no_manifest_that_could_not_be_read_back(
    tmp_path: Path, private_key: Ed25519PrivateKey
) -> None:
    write_graphs(tmp_path / "bundle")
    for changes, reason in (
        ({"metrics": {"sharpe": float("nan")}}, "does not fit into JSON"),
        ({"timeframe": "1d"}, "key slot does not fit"),
        ({"limit_lots": 4.0}, "key limit_lots must be int"),
    ):
        with pytest.raises(BadManifest, match=reason):
            seal(tmp_path / "bundle", draft_manifest(**changes), private_key)
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == sorted(PAYLOAD)


def test_key_files_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    name = generate_keys(tmp_path / "key.pem", tmp_path / "keys")
    with pytest.raises(FileExistsError):
        generate_keys(tmp_path / "key.pem", tmp_path / "keys")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(BadKeys, match="open to others"):
        load_private_key(tmp_path / "key.pem")
    with pytest.raises(BadKeys, match="No such file"):
        load_private_key(tmp_path / "none.pem")
    (tmp_path / "keys" / f"{name}.pub").rename(tmp_path / "keys" / f"{'0' * 16}.pub")
    with pytest.raises(BadKeys, match="its name says"):
        load_public_keys(tmp_path / "keys")


def test_manifest_lists_the_true_sizes_and_hashes(folder: Path, public_keys: Keys) -> None:
    files = verify(folder, public_keys).files
    assert all(isinstance(entry, FileEntry) for entry in files)
    sizes = {entry.path: entry.size for entry in files}
    assert sizes == {name: (folder / name).stat().st_size for name in PAYLOAD}
    hashed = subprocess.run(
        ["sha256sum", *PAYLOAD], cwd=folder, capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in hashed.stdout.splitlines()] == [
        entry.sha256 for entry in files
    ]


def test_code_size_is_the_graphs(folder: Path, public_keys: Keys) -> None:
    policy = load(folder, verify(folder, public_keys))
    assert policy.encode(np.zeros((2, 32, 3), dtype=np.float32)).shape == (2, HIDDEN)


def test_one_row_answers_like_many_and_its_answer_stays(folder: Path, public_keys: Keys) -> None:
    policy = load(folder, verify(folder, public_keys))
    rng = np.random.default_rng(0)
    seen, accounts = (rng.standard_normal((9, *n)).astype(np.float32) for n in ((32, 3), (4,)))
    codes = policy.encode(seen)
    logits = policy.act(codes, accounts)
    alone = [policy.encode(seen[i : i + 1]) for i in range(9)]
    answers = [policy.act(codes[i : i + 1], accounts[i : i + 1]) for i in range(9)]
    assert np.concatenate(alone) == pytest.approx(codes, abs=1e-6)
    assert np.concatenate(answers) == pytest.approx(logits, abs=1e-6)
    with pytest.raises(InvalidArgument):
        policy.act(codes[:1], accounts[:1, :1])
    assert np.array_equal(policy.act(codes[:1], accounts[:1]), answers[0])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_window_with_what_is_no_number_is_refused_by_its_feature(
    folder: Path, public_keys: Keys, odd: float, rows: int
) -> None:
    policy = load(folder, verify(folder, public_keys))
    seen = np.zeros((rows, 32, 3), dtype=np.float32)
    seen[-1, 7, 1] = odd
    with pytest.raises(Degraded, match=f"window {FEATURES[1]} is not a number"):
        policy.encode(seen)
    seen[-1, 7, 1] = 1e9  # odd, and a number
    policy.encode(seen)


def test_many_windows_go_through_a_few_at_a_time(
    folder: Path, public_keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load(folder, verify(folder, public_keys))
    seen = np.random.default_rng(0).standard_normal((37, 32, 3)).astype(np.float32)
    run, sizes = policy._encoder.run, []

    def watched(windows: np.ndarray) -> np.ndarray:
        sizes.append(len(windows))
        return run(windows)

    monkeypatch.setattr(policy._encoder, "run", watched)
    codes = policy.encode(seen)
    assert sizes == [16, 16, 5]
    assert codes == pytest.approx(
        np.concatenate([run(seen[i : i + 1]) for i in range(37)]), abs=1e-6
    )
