"""Keep what the desk writes from other users of the machine: folders 0750, files 0640.

Secrets and keys are their owner's alone (0600) whatever is set here. A root shell's embedded
servers run as another user, who must pass the data folder on his way to his own: it may be passed
then (0751), and nothing in it but that be seen.
"""

import contextlib
import os
from pathlib import Path

UMASK = 0o027
_OF_THE_SERVERS = frozenset({"embedded", "embedded.lock"})


def mask() -> None:
    """Have this process, and those it starts, open nothing to others; a stricter mask stays."""
    before = os.umask(UMASK)
    os.umask(before | UMASK)


def mode_of(root: Path) -> int:
    """Return the mode of a data folder."""
    passed = os.geteuid() == 0 and not (root / "embedded").is_symlink()
    return 0o751 if passed else 0o750


def shut(root: Path) -> None:
    """Close a data folder, and what an earlier release left open in it."""
    if not root.is_dir() or root.stat().st_uid != os.geteuid():
        return
    wanted = root.stat().st_mode & mode_of(root) | mode_of(root) & 0o001
    if root.stat().st_mode & 0o777 != wanted:
        root.chmod(wanted)
    for path in root.iterdir():
        if path.name in _OF_THE_SERVERS or path.is_symlink():
            continue
        with contextlib.suppress(FileNotFoundError):  # a scratch file of a desk that runs
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mode & UMASK:
                path.chmod(status.st_mode & 0o777 & ~UMASK)
