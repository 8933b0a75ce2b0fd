"""The manifest of a model bundle: what was trained, on what, and how to tell it still works.

Canonical JSON (sorted keys, UTF-8, no spaces), so that the same manifest is always the same bytes
and one signature covers it. Reading is strict: a missing, unknown or repeated key, a value of the
wrong kind or a file that is not in canonical form is refused with a message naming the key.
"""

from __future__ import annotations

import datetime
import json
import math
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from tradingsite.clock import Epoch

FORMAT_VERSION = 1


class BadManifest(ValueError):
    """A manifest that cannot be read or written; the message names the key."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bound the rows a model was trained or judged on: opens and closes in epoch seconds UTC."""

    opens_at: Epoch
    closes_at: Epoch
    bars: int


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Record what the encoder does to its input; the graph has it baked in, this is for people.

    A deviation of 0 is of a feature that was constant over the training span: it is masked, which
    is to say exactly 0 behind the normalisation, whatever a live bar brings.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float


@dataclass(frozen=True, slots=True)
class Golden:
    """Hold one input and the answers the trainer got, so that any machine can repeat them.

    window is (window, features), account (account_size,), code (hidden,), logits (actions,).
    """

    window: tuple[tuple[float, ...], ...]
    account: tuple[float, ...]
    code: tuple[float, ...]
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Name one file of the bundle, its size in bytes and its sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Describe one trained model of one slot; `seal` fills the signer and the files."""

    slot: str
    bot: str
    market: str
    timeframe: str
    run_id: str
    feature_names: tuple[str, ...]
    schema_hash: str
    window: int
    action_deltas: tuple[float, ...]
    limit_lots: int
    account_size: int
    normalisation: Normalisation
    training_span: Span
    embargo_bars: int
    holdout_span: Span
    charge_table_version: str
    slippage_bps: float
    algorithm: str
    hyperparameters: dict[str, Any]
    seeds: tuple[int, ...]
    library_versions: dict[str, str]
    commit: str
    data_fingerprint: str
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    gate: dict[str, Any]
    trial_count: int
    parent: str | None
    golden: tuple[Golden, ...]
    created_at: str
    """When it was made, ISO 8601 with its offset."""
    signer_key_id: str = ""
    files: tuple[FileEntry, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def masked_features(self) -> tuple[str, ...]:
        """Return the features that the model does not look at, as they never moved in training."""
        pairs = zip(self.feature_names, self.normalisation.std, strict=True)
        return tuple(name for name, std in pairs if std == 0.0)


def to_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as canonical JSON; raise BadManifest if it could not be read back."""
    payload = _plain(manifest)
    try:
        body = _canonical(payload)
    except (TypeError, ValueError) as error:
        raise BadManifest(f"the manifest does not fit into JSON: {error}") from error
    from_bytes(body)
    return body


def from_bytes(body: bytes) -> Manifest:
    """Return the manifest read from canonical JSON; raise BadManifest naming the key at fault."""
    try:
        payload = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise BadManifest(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BadManifest(f"not JSON: {error}") from error
    except RecursionError as error:
        raise BadManifest("nested too deeply") from error
    version = payload.get("format_version") if isinstance(payload, dict) else None
    if version != FORMAT_VERSION:
        raise BadManifest(f"format_version is {version!r}, this code reads {FORMAT_VERSION}")
    manifest: Manifest = _read(Manifest, payload, "")
    if _canonical(payload) != body:
        raise BadManifest("not in canonical form (sorted keys, no spaces)")
    _check(manifest)
    return manifest


def _canonical(payload: object) -> bytes:
    text = json.dumps(
        payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.encode("utf-8")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadManifest(f"key {key} is there twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> None:
    raise BadManifest(f"{name} is not a number a manifest may hold")


def _read(kind: Any, value: Any, key: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_fields(kind, value, key)
    if origin is tuple:
        return _read_items(typing.get_args(kind)[0], value, key)
    if origin is dict:
        return _read_mapping(typing.get_args(kind)[1], value, key)
    if origin is types.UnionType:
        return None if value is None else _read(typing.get_args(kind)[0], value, key)
    if kind is float and type(value) is int:
        return float(value)
    # type() and not isinstance: a bool is an int to Python.
    if type(value) is not kind:
        raise BadManifest(f"key {key} must be {kind.__name__}, not {type(value).__name__}")
    if kind is float and not math.isfinite(value):
        raise BadManifest(f"key {key} is not finite")
    return value


def _read_fields(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        raise BadManifest(f"{key or 'the manifest'} must be an object")
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in sorted(value.keys() - hints.keys()):
        raise BadManifest(f"unknown key {prefix}{name}")
    for name in sorted(hints.keys() - value.keys()):
        raise BadManifest(f"missing key {prefix}{name}")
    return kind(**{name: _read(hint, value[name], prefix + name) for name, hint in hints.items()})


def _read_items(kind: Any, value: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BadManifest(f"key {key} must be a list")
    return tuple(_read(kind, each, f"{key}[{row}]") for row, each in enumerate(value))


def _read_mapping(kind: Any, value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadManifest(f"key {key} must be an object")
    return {name: _read(kind, each, f"{key}.{name}") for name, each in value.items()}


def _check(manifest: Manifest) -> None:
    features = len(manifest.feature_names)
    golden = manifest.golden
    shapes_agree = all(
        len(each.window) == manifest.window
        and all(len(row) == features for row in each.window)
        and len(each.account) == manifest.account_size
        and len(each.logits) == len(manifest.action_deltas)
        and len(each.code) == len(golden[0].code) > 0
        for each in golden
    )
    rules = {
        "slot": manifest.slot == f"{manifest.bot}-{manifest.timeframe}",
        "feature_names": features > 0 and len(set(manifest.feature_names)) == features,
        "window": manifest.window > 0,
        "limit_lots": manifest.limit_lots > 0,
        "embargo_bars": manifest.embargo_bars >= 0,
        "trial_count": manifest.trial_count >= 0,
        "normalisation": features
        == len(manifest.normalisation.mean)
        == len(manifest.normalisation.std),
        "golden": len(golden) > 0 and shapes_agree,
        "created_at": _is_moment(manifest.created_at),
    }
    for key, holds in rules.items():
        if not holds:
            raise BadManifest(f"key {key} does not fit the rest of the manifest")


def _is_moment(text: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
