"""Secrets that a machine makes for itself on first use: files that only their owner can read."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def random() -> str:
    """Return a secret that no person has to type."""
    return secrets.token_urlsafe(48)


def secret(path: Path, make: Callable[[], str] = random) -> str:
    """Return the secret in a file, making it (mode 0600) the first time.

    Two processes that start together agree: whoever links its file first wins.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass  # another process made it first, and its value is the one everybody uses
        finally:
            scratch.unlink()
    return path.read_text().strip()
