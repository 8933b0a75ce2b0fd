"""The keys of model bundles: PC signs with the private one, PROD knows public ones only.

A key is named by its own hash, so no table can give a key the wrong name. PROD trusts every key
in a folder, which is what a rotation needs: put the new public file beside the old one on every
machine, sign with the new private key, then delete the old public file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_ID_CHARACTERS = 16


class BadKeys(ValueError):
    """Signing or verifying keys that are missing, unreadable or open to others."""


def key_id(public_key: Ed25519PublicKey) -> str:
    """Return the name of a public key: the first 16 hex digits of its sha256."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:KEY_ID_CHARACTERS]


def generate_keys(private_path: Path, public_folder: Path) -> str:
    """Write a new signing key (mode 0600) and its public half ID.pub, and return the key's id.

    Raises FileExistsError rather than overwrite a private key.
    """
    private_key = Ed25519PrivateKey.generate()
    private_path.parent.mkdir(parents=True, exist_ok=True)
    public_folder.mkdir(parents=True, exist_ok=True)
    # Created with its final mode: a chmod afterwards would leave a moment to read it.
    descriptor = os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            private_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        file.flush()
        os.fsync(file.fileno())
    public_key = private_key.public_key()
    body = public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    name = key_id(public_key)
    write_durably(public_folder / f"{name}.pub", body)
    return name


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the signing key; raise BadKeys when it is missing or readable by others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        body = path.read_bytes()
    except OSError as error:
        raise BadKeys(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise BadKeys(f"{path} is open to others (mode {mode:04o}): chmod 600 it")
    try:
        key = serialization.load_pem_private_key(body, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise BadKeys(f"{path} is not an unencrypted private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeys(f"{path} is not an ed25519 key")
    return key


def load_public_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Return the trusted keys by id, one from each ID.pub in the folder; raise BadKeys if none."""
    keys: dict[str, Ed25519PublicKey] = {}
    for path in sorted(folder.glob("*.pub")):
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise BadKeys(f"{path} is not a public key: {error}") from error
        if not isinstance(key, Ed25519PublicKey) or key_id(key) != path.stem:
            raise BadKeys(f"{path} does not hold the ed25519 key its name says")
        keys[path.stem] = key
    if not keys:
        raise BadKeys(f"{folder} holds no public key (ID.pub)")
    return keys


def write_durably(path: Path, body: bytes) -> None:
    """Write a file and have it and its folder entry on disk before returning."""
    path.write_bytes(body)
    sync(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have what was written to a file or a folder on disk before returning."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
