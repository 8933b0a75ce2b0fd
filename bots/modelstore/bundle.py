"""Signed model bundles: the only way a model travels from the trainer to a bot.

A bundle is a folder with exactly five files: two ONNX graphs, the weights, the manifest and its
signature. Nothing in it is code and nothing is unpickled. The order of the checks matters: the
signature over the manifest comes first, because all the others believe what the manifest says;
then the sizes, so that a huge file is refused before it is read; then the hashes.

`python -m bots.modelstore.bundle FOLDER KEYS_FOLDER` runs every check in a process of its own, so
that a model that crashes or eats memory cannot take a bot with it: exit 0, or 1 with the reason.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bots.decision.actions import DELTAS
from bots.decision.observation import ACCOUNT_SIZE
from bots.modelstore.keys import (
    KEY_ID_CHARACTERS,
    BadKeys,
    key_id,
    load_public_keys,
    sync,
    write_durably,
)
from bots.modelstore.manifest import BadManifest, FileEntry, Manifest, from_bytes, to_bytes
from tradingsite.errors import Degraded

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ENCODER, HEAD, WEIGHTS = "encoder.onnx", "head.onnx", "weights.safetensors"
PAYLOAD = (ENCODER, HEAD, WEIGHTS)
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"

TOLERANCE = 1e-4
"""Largest difference of a code or a logit between the trainer's answer and ours."""

MAX_DECISION_SECONDS = 0.2
_MAX_MANIFEST_BYTES = 4 << 20
_SIGNATURE_BYTES = KEY_ID_CHARACTERS + 64
# Signed along with the manifest, so that no other kind of file signed by the key can pass as one.
_PURPOSE = b"nightdesk model bundle\n"
_CANARY_WINDOWS = 16
MOST_AT_ONCE = 16
"""Windows that go through an encoder together: 600 at once take 320 MB and four times as long."""
# Less than this between any two answers means that the input does not matter.
_DEAD = 1e-6

Float32Array = npt.NDArray[np.float32]


class BundleRejected(Degraded):
    """A bundle that must not trade: the old model stays. The message names the file and check."""


def seal(folder: Path, manifest: Manifest, private_key: Ed25519PrivateKey) -> Manifest:
    """Write the manifest and its signature into a folder of the three model files, durably.

    Returns the manifest with its files and signer filled in. The folder must hold nothing else;
    raises BundleRejected otherwise and BadManifest for values that could not be read back.
    """
    _require_names(folder, PAYLOAD)
    files = []
    for name in PAYLOAD:
        body = _read_file(folder, name)
        files.append(FileEntry(name, len(body), hashlib.sha256(body).hexdigest()))
    signer = key_id(private_key.public_key())
    sealed = replace(manifest, files=tuple(files), signer_key_id=signer)
    body = to_bytes(sealed)
    for name in PAYLOAD:
        sync(folder / name)
    write_durably(folder / MANIFEST, body)
    write_durably(folder / SIGNATURE, signer.encode() + private_key.sign(_PURPOSE + body))
    return sealed


def verify(
    folder: Path,
    public_keys: Mapping[str, Ed25519PublicKey],
    *,
    slot: str | None = None,
    schema_hash: str | None = None,
) -> Manifest:
    """Return the manifest of a bundle that is whole, signed by a known key and meant for us.

    slot is a slug like "nifty-15m", schema_hash the running code's; None skips that check. Raises
    BundleRejected naming the file or key and the reason. Runs nothing: `load` and `check` do.
    """
    _require_names(folder, (*PAYLOAD, MANIFEST, SIGNATURE))
    body = _read_file(folder, MANIFEST, limit=_MAX_MANIFEST_BYTES)
    signer = _require_signature(body, _read_file(folder, SIGNATURE, limit=1024), public_keys)
    try:
        manifest = from_bytes(body)
    except BadManifest as error:
        raise BundleRejected(f"{MANIFEST}: {error}") from error
    if manifest.signer_key_id != signer:
        raise BundleRejected(f"{MANIFEST}: signer_key_id is not {signer}, which signed it")
    if tuple(entry.path for entry in manifest.files) != PAYLOAD:
        listed = ", ".join(entry.path for entry in manifest.files)
        raise BundleRejected(f"{MANIFEST}: files lists {listed}, not {', '.join(PAYLOAD)}")
    for entry in manifest.files:
        size = (folder / entry.path).lstat().st_size
        if size != entry.size:
            raise BundleRejected(f"{entry.path}: {size} bytes, the manifest says {entry.size}")
    for name in PAYLOAD:
        _read_listed(folder, name, manifest)
    if slot is not None and manifest.slot != slot:
        raise BundleRejected(f"{MANIFEST}: made for slot {manifest.slot}, wanted {slot}")
    if schema_hash is not None and manifest.schema_hash != schema_hash:
        raise BundleRejected(
            f"{MANIFEST}: schema_hash {manifest.schema_hash[:12]} is not the running code's "
            f"{schema_hash[:12]}: the features have changed since, train again"
        )
    return manifest


class OnnxPolicy:
    """Answer for one slot by onnxruntime on one thread; not to be shared between threads."""

    def __init__(self, encoder: bytes, head: bytes, *, feature_names: Sequence[str] = ()) -> None:
        self._feature_names = tuple(feature_names)
        self._encoder = _Graph(encoder, ENCODER, {"windows": 3}, {"codes": 2})
        self._head = _Graph(head, HEAD, {"code": 2, "account": 2}, {"logits": 2})

    def encode(self, windows: Float32Array) -> Float32Array:
        """Return the codes (B, H) of raw feature windows (B, window, features).

        Raises Degraded where one holds what is no number: a recurrent network in onnxruntime makes
        a plausible code of it, so that nothing behind would tell.
        """
        if not np.isfinite(windows).all():
            self._refuse_non_numbers(windows)
        if len(windows) <= MOST_AT_ONCE:
            return self._encoder.run(windows)
        parts = range(0, len(windows), MOST_AT_ONCE)
        return np.concatenate([self._encoder.run(windows[at : at + MOST_AT_ONCE]) for at in parts])

    def _refuse_non_numbers(self, windows: Float32Array) -> NoReturn:
        spoilt = np.flatnonzero(~np.isfinite(windows).all(axis=(0, 1))).tolist()
        names = dict(enumerate(self._feature_names))
        said = ", ".join(names.get(place, f"number {place}") for place in spoilt)
        raise Degraded(f"no decision: in the policy's window {said} is not a number")

    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Return the logits (B, 7) of codes (B, H) and account states (B, 4)."""
        return self._head.run(code, account)


class _Graph:
    """Run a graph with one output.

    One row, which is what a bot asks for, goes through the same memory at every call: to tell
    onnxruntime of new arrays takes it half as long as the answer of a head.
    """

    def __init__(
        self, body: bytes, name: str, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> None:
        self._session = _session(body, name, inputs, outputs)
        self._names = tuple(inputs)
        self._outputs = list(outputs)
        self._binding = self._session.io_binding()
        # What is bound of each input: nothing yet, and no input has the shape of nothing.
        nothing = np.empty((), dtype=np.float32)
        self._memory: list[tuple[tuple[int, ...], Float32Array]] = [((), nothing)] * len(inputs)

    def run(self, *inputs: Float32Array) -> Float32Array:
        for rows, (shape, memory) in zip(inputs, self._memory, strict=True):
            if rows.shape != shape:
                return self._run_anew(inputs)
            memory[...] = rows
        self._session.run_with_iobinding(self._binding)
        return self._answer.copy()

    def _run_anew(self, inputs: Sequence[Float32Array]) -> Float32Array:
        named = dict(zip(self._names, inputs, strict=True))
        answer: Float32Array = self._session.run(self._outputs, named)[0]
        if len(answer) == 1:
            self._answer = answer.copy()
            self._memory = [(rows.shape, rows.copy()) for rows in inputs]
            for name, (_, memory) in zip(self._names, self._memory, strict=True):
                self._binding.bind_cpu_input(name, memory)
            self._binding.bind_output(
                self._outputs[0],
                element_type=np.float32,
                shape=answer.shape,
                buffer_ptr=self._answer.ctypes.data,
            )
        return answer


def load(folder: Path, manifest: Manifest) -> OnnxPolicy:
    """Return the policy of a verified bundle; raise BundleRejected when its graphs do not load.

    The bytes are hashed once more against the manifest that `verify` returned, so a file changed
    in between is refused.
    """
    graphs = (_read_listed(folder, name, manifest) for name in (ENCODER, HEAD))
    return OnnxPolicy(*graphs, feature_names=manifest.feature_names)


def check(policy: OnnxPolicy, manifest: Manifest) -> None:
    """Raise BundleRejected unless the policy answers here as it did where it was trained.

    Golden vectors are repeated; over a fixed set of canary inputs the logits must be finite, seven
    and not always the same, and a decision must be quick.
    """
    if manifest.action_deltas != DELTAS or manifest.account_size != ACCOUNT_SIZE:
        raise BundleRejected(f"{MANIFEST}: its actions or account state are not the running code's")
    try:
        _check_golden(policy, manifest)
        _check_canaries(policy, manifest)
        _check_speed(policy, manifest)
    except _ort_errors() as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleRejected(f"the model failed on a known input: {reason}") from error


def _check_golden(policy: OnnxPolicy, manifest: Manifest) -> None:
    for number, golden in enumerate(manifest.golden):
        window = np.asarray([golden.window], dtype=np.float32)
        code = policy.encode(window)
        _require_close(f"{ENCODER}: code of golden vector {number}", code, golden.code)
        logits = policy.act(code, np.asarray([golden.account], dtype=np.float32))
        _require_close(f"{HEAD}: logits of golden vector {number}", logits, golden.logits)


def _require_close(what: str, answer: Float32Array, expected: Sequence[float]) -> None:
    if answer.shape != (1, len(expected)):
        raise BundleRejected(f"{what}: shape {answer.shape}, expected {(1, len(expected))}")
    difference = float(np.max(np.abs(answer[0] - np.asarray(expected))))
    # Written so that NaN fails too.
    if not difference <= TOLERANCE:
        raise BundleRejected(f"{what}: differs by {difference:.2g}, allowed {TOLERANCE:g}")


def _check_canaries(policy: OnnxPolicy, manifest: Manifest) -> None:
    codes = policy.encode(_canary_windows(manifest))
    accounts = np.asarray(
        [[exposure, pnl, 0.5, 0.0] for exposure in (-1.0, 0.0, 1.0) for pnl in (-1.0, 1.0)],
        dtype=np.float32,
    )
    logits = policy.act(np.repeat(codes, len(accounts), axis=0), np.tile(accounts, (len(codes), 1)))
    if logits.shape != (len(codes) * len(accounts), len(DELTAS)):
        raise BundleRejected(f"{HEAD}: {logits.shape[-1]} actions, expected {len(DELTAS)}")
    if not (np.isfinite(codes).all() and np.isfinite(logits).all()):
        raise BundleRejected("the model answers NaN or infinity on canary inputs")
    if float(np.ptp(codes, axis=0).max()) < _DEAD:
        raise BundleRejected(f"{ENCODER}: the same code for every market: the encoder is dead")
    if float(np.ptp(logits, axis=0).max()) < _DEAD:
        raise BundleRejected(f"{HEAD}: the same logits for every input: the policy is dead")


def _canary_windows(manifest: Manifest) -> Float32Array:
    # Plausible inputs around the training data, the same on every machine.
    shape = (_CANARY_WINDOWS, manifest.window, len(manifest.feature_names))
    noise = np.random.default_rng(7).standard_normal(shape)
    mean, std = (np.asarray(x) for x in (manifest.normalisation.mean, manifest.normalisation.std))
    return (mean + std * noise).astype(np.float32)


def _check_speed(policy: OnnxPolicy, manifest: Manifest) -> None:
    golden = manifest.golden[0]
    window = np.asarray([golden.window], dtype=np.float32)
    account = np.asarray([golden.account], dtype=np.float32)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        policy.act(policy.encode(window), account)
        seconds.append(time.perf_counter() - started)
    if sorted(seconds)[2] > MAX_DECISION_SECONDS:
        raise BundleRejected(
            f"a decision takes {sorted(seconds)[2]:.2f} s, allowed {MAX_DECISION_SECONDS} s"
        )


def _session(
    body: bytes, name: str, inputs: Mapping[str, int], outputs: Mapping[str, int]
) -> InferenceSession:
    # Here, because it takes 28 MB, which only processes that run a model should hold.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # The arena keeps its largest batch for ever, in each of the bots.
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
    except _ort_errors() as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleRejected(f"{name}: onnxruntime cannot load it: {reason}") from error
    for kind, wanted, found in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", outputs, session.get_outputs()),
    ):
        ranks = {each.name: len(each.shape) for each in found if each.type == "tensor(float)"}
        if ranks != wanted or len(found) != len(wanted):
            raise BundleRejected(f"{name}: {kind} (name: rank) are {ranks}, expected {wanted}")
    return session


def _ort_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    own = (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf)
    return (*own, ort.NotImplemented, ort.RuntimeException, RuntimeError, ValueError)


def _require_names(folder: Path, expected: Sequence[str]) -> None:
    try:
        found = {entry.name: entry for entry in os.scandir(folder)}
    except OSError as error:
        raise BundleRejected(f"{folder}: {error.strerror}") from error
    for name in sorted(found.keys() - set(expected)):
        raise BundleRejected(f"{name!r} is not part of a bundle")
    for name in expected:
        if name not in found:
            raise BundleRejected(f"{name} is missing")
        if not found[name].is_file(follow_symlinks=False):
            raise BundleRejected(f"{name} is not a plain file")


def _read_file(folder: Path, name: str, limit: int | None = None) -> bytes:
    try:
        # No link is followed, even one put there after the folder was listed.
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise BundleRejected(f"{name}: {size} bytes, allowed {limit}")
            return file.read()
    except OSError as error:
        raise BundleRejected(f"{name}: {error.strerror}") from error


def _read_listed(folder: Path, name: str, manifest: Manifest) -> bytes:
    entry = next(each for each in manifest.files if each.path == name)
    body = _read_file(folder, name, limit=entry.size)
    if hashlib.sha256(body).hexdigest() != entry.sha256:
        raise BundleRejected(f"{name}: its sha256 is not the one in the manifest")
    return body


def _require_signature(
    body: bytes, signature: bytes, public_keys: Mapping[str, Ed25519PublicKey]
) -> str:
    if len(signature) != _SIGNATURE_BYTES:
        raise BundleRejected(f"{SIGNATURE}: {len(signature)} bytes, expected {_SIGNATURE_BYTES}")
    name = signature[:KEY_ID_CHARACTERS].decode("ascii", errors="replace")
    key = public_keys.get(name)
    if key is None:
        raise BundleRejected(f"{SIGNATURE}: signed by an unknown key {name!r}")
    try:
        key.verify(signature[KEY_ID_CHARACTERS:], _PURPOSE + body)
    except InvalidSignature as error:
        raise BundleRejected(
            f"{SIGNATURE}: the signature does not fit {MANIFEST}: one of them was changed"
        ) from error
    return name


def main(arguments: Sequence[str]) -> int:
    """Check the bundle FOLDER with the keys in KEYS_FOLDER: return 0, or 1 and say why not."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m bots.modelstore.bundle FOLDER KEYS_FOLDER\n")
        return 1
    folder, keys_folder = (Path(each) for each in arguments)
    try:
        manifest = verify(folder, load_public_keys(keys_folder))
        check(load(folder, manifest), manifest)
    except (BundleRejected, BadKeys) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
