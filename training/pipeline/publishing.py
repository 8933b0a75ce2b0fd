"""Models that traded, pushed to a git remote of the owner's: a copy beyond both machines.

PC holds the clone and PROD none. Each month is a branch of its own without a past, so that nobody
ever has to fetch years of models: `models-2026-06` has a folder a slot, and a commit a model. A
push that fails is told and undoes nothing; the next one brings along what it left.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.registry import SLOTS

TIMEOUT_SECONDS = 120.0
_NAME, _MAIL = "Nightdesk", "nightdesk@localhost"


class NotPushed(Degraded):
    """The remote did not take the models; they are committed here and go with the next push."""


def push(bundle: Path, slot: str, title: str, at: dt.datetime, remote: str, folder: Path) -> str:
    """Commit a bundle to its month's branch and push it; return the branch.

    `folder` is PC's for the clones; those of earlier months are removed. Doing it again changes
    nothing. Raises NotPushed.
    """
    branch = f"models-{at.astimezone(clock.IST):%Y-%m}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the slots' trainings end at the same time
        clone = _open_clone(folder / branch, branch, remote)
        for old in folder.glob("models-*"):
            if old != clone:
                shutil.rmtree(old)
        place = clone / SLOTS[slot].slug
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(bundle, place)
        _git(clone, "add", "--all", slot)
        if _git(clone, "status", "--porcelain"):
            _git(clone, "commit", "--quiet", "--message", title)
        _git(clone, "push", "--quiet", "origin", branch)
    return branch


def _open_clone(clone: Path, branch: str, remote: str) -> Path:
    """Return the month's clone, made anew where it is none, from the remote's branch if there."""
    if not (clone / ".git").is_dir():
        shutil.rmtree(clone, ignore_errors=True)
        clone.mkdir()
        _git(clone, "init", "--quiet", "--initial-branch", branch)
        _git(clone, "remote", "add", "origin", remote)
    _git(clone, "remote", "set-url", "origin", remote)
    if _git(clone, "ls-remote", "--heads", "origin", branch):
        _git(clone, "fetch", "--quiet", "origin", branch)
        has_commits = subprocess.run(
            ["git", "-C", str(clone), "rev-parse", "--verify", "--quiet", "HEAD"],
            capture_output=True,
            check=False,
        )
        if has_commits.returncode:
            _git(clone, "reset", "--quiet", "--hard", "FETCH_HEAD")
        elif _git(clone, "rev-list", "HEAD..FETCH_HEAD"):
            # Another PC pushed: our folders are ours alone, so its commits go below ours.
            _git(clone, "rebase", "--quiet", "FETCH_HEAD")
    return clone


def _git(clone: Path, *arguments: str) -> str:
    """Run git and return what it says; raise NotPushed with its complaint."""
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", _NAME),
            ("EMAIL", _MAIL),
        )
    }
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        answer = subprocess.run(
            ["git", "-C", str(clone), *arguments],
            env={**os.environ, **who, **quiet},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise NotPushed("git is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise NotPushed(f"git {arguments[0]} took more than {TIMEOUT_SECONDS:.0f} s") from error
    if answer.returncode:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        raise NotPushed(f"git {arguments[0]}: {said[-1] if said else 'failed'}")
    return answer.stdout.strip()
