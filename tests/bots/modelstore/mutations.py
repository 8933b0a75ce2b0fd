"""Everything that can happen to a bundle on its way or where it lies, a few hundred ways of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bots.modelstore.bundle import MANIFEST, PAYLOAD, SIGNATURE, WEIGHTS, seal
from tests.bots.modelstore.bundles import draft_manifest

Mutation = tuple[str, Callable[[Path], None]]

FILES = (*PAYLOAD, MANIFEST, SIGNATURE)
FLIPS, CUTS = 70, 16
STRANGE_NAMES = (
    *("policy.pkl", "model.zip", ".hidden", "encoder.onnx.bak", "encoder.onnx ", "ENCODER.ONNX"),
    *("encoder\uff0eonnx", "manifest.json.sig", "head.onnx~", "..", "\u202exnno.daeh", "-rf"),
)


def corpus(other: Path, seed: int = 0) -> Iterator[Mutation]:
    """Give named ways to spoil a bundle's folder; `other` is a whole bundle of the same slot."""
    random = np.random.default_rng(seed)
    for name in FILES:
        for number in range(FLIPS):
            yield f"bit {number} of {name}", _flip(name, int(random.integers(1 << 30)))
        for number in range(CUTS):
            yield f"{name} cut to {number}/{CUTS}", _cut(name, number / CUTS)
        yield f"{name} grown", _change(name, lambda body: body + b"\0")
        yield f"{name} emptied", _change(name, lambda body: b"")
        yield f"{name} missing", _drop(name)
        yield f"{name} of another bundle", _take(other, name)
        yield f"{name} behind a link", _link(name)
        yield f"{name} a folder", _folder(name)
        yield f"{name} doubled", _change(name, lambda body: body + body)
        yield f"{name} backwards", _change(name, lambda body: body[::-1])
    for one, two in combinations(FILES, 2):
        yield f"{one} and {two} swapped", _swap(one, two)
    for name in STRANGE_NAMES:
        if name != "..":
            yield f"a file {name!r} too many", _extra(name)
    yield "a folder too many", lambda folder: (folder / "code").mkdir()
    for key in json.loads((other / MANIFEST).read_bytes()):
        yield f"{key} changed, unsigned", _edit(key)
    yield "a pickle for weights", _change(WEIGHTS, lambda body: b"\x80\x04\x95cposix\nsystem\n")
    yield "signed by a stranger", _sign_anew(Ed25519PrivateKey.generate())


def _change(name: str, how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(how((folder / name).read_bytes()))

    return spoil


def _flip(name: str, place: int) -> Callable[[Path], None]:
    def flipped(body: bytes) -> bytes:
        bit = place % (8 * len(body))
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << (bit % 8)
        return bytes(changed)

    return _change(name, flipped)


def _cut(name: str, share: float) -> Callable[[Path], None]:
    return _change(name, lambda body: body[: int(len(body) * share)])


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _take(other: Path, name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        shutil.copy(other / name, folder / name)

    return spoil


def _link(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        moved = folder.with_name(f"{folder.name}-{name}")
        shutil.move(folder / name, moved)
        (folder / name).symlink_to(moved)

    return spoil


def _folder(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def _swap(one: str, two: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        bodies = (folder / one).read_bytes(), (folder / two).read_bytes()
        (folder / two).write_bytes(bodies[0])
        (folder / one).write_bytes(bodies[1])

    return spoil


def _extra(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(b"x")

    return spoil


def _edit(key: str) -> Callable[[Path], None]:
    def edited(body: bytes) -> bytes:
        values = json.loads(body)
        values[key] = [values[key], "changed"]
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    return _change(MANIFEST, edited)


def _sign_anew(key: Ed25519PrivateKey) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / MANIFEST).unlink()
        (folder / SIGNATURE).unlink()
        seal(folder, draft_manifest(), key)

    return spoil
