"""Models in a git remote: a real repository, months without a past, failures that cost nothing."""

import datetime as dt
import shutil
import subprocess
from pathlib import Path

import pytest

from training.pipeline import publishing
from training.pipeline.publishing import NotPushed

JUNE = dt.datetime(2026, 6, 1, 16, 20, tzinfo=dt.UTC)
JULY = dt.datetime(2026, 7, 2, 16, 20, tzinfo=dt.UTC)


def git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "remote.git")], check=True)
    return tmp_path / "remote.git"


def bundle(tmp_path: Path, body: bytes) -> Path:
    folder = tmp_path / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "encoder.onnx").write_bytes(body)
    (folder / "manifest.json").write_bytes(b"{}")
    return folder


def push(
    tmp_path: Path,
    remote: Path,
    body: bytes,
    slot: str = "nifty-1h",
    at: dt.datetime = JUNE,
    machine: str = "pc",
) -> str:
    place = bundle(tmp_path, body)
    return publishing.push(place, slot, f"{slot} {body!r}", at, str(remote), tmp_path / machine)


def test_a_month_is_a_branch_with_a_folder_a_slot_and_a_commit_a_model(
    tmp_path: Path, remote: Path
) -> None:
    assert push(tmp_path, remote, b"one") == "models-2026-06"
    push(tmp_path, remote, b"two")
    push(tmp_path, remote, b"btc", slot="btc-4h")
    assert git(remote, "show", "models-2026-06:nifty-1h/encoder.onnx") == "two"
    assert git(remote, "show", "models-2026-06:btc-4h/encoder.onnx") == "btc"
    assert git(remote, "rev-list", "--count", "models-2026-06") == "3"
    # Doing it again changes nothing.
    push(tmp_path, remote, b"btc", slot="btc-4h")
    assert git(remote, "rev-list", "--count", "models-2026-06") == "3"


def test_a_new_month_has_no_past(tmp_path: Path, remote: Path) -> None:
    push(tmp_path, remote, b"one")
    assert push(tmp_path, remote, b"two", at=JULY) == "models-2026-07"
    assert git(remote, "rev-list", "--count", "models-2026-07") == "1"
    bases = subprocess.run(
        ["git", "-C", str(remote), "merge-base", "models-2026-06", "models-2026-07"],
        capture_output=True,
        check=False,
    )
    assert bases.returncode == 1
    assert [each.name for each in (tmp_path / "pc").glob("models-*")] == ["models-2026-07"]


def test_a_pc_that_lost_its_clone_and_a_second_pc_go_on_from_the_remote(
    tmp_path: Path, remote: Path
) -> None:
    push(tmp_path, remote, b"one")
    push(tmp_path, remote, b"other", slot="btc-1h", machine="second")
    push(tmp_path, remote, b"two")
    shutil.rmtree(tmp_path / "pc")
    push(tmp_path, remote, b"three")
    assert git(remote, "show", "models-2026-06:btc-1h/encoder.onnx") == "other"
    assert git(remote, "show", "models-2026-06:nifty-1h/encoder.onnx") == "three"
    assert git(remote, "rev-list", "--count", "models-2026-06") == "4"


def test_what_could_not_be_pushed_goes_with_the_next(tmp_path: Path, remote: Path) -> None:
    push(tmp_path, remote, b"one")
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(NotPushed, match="git push"):
        push(tmp_path, remote, b"two")
    hook.unlink()
    push(tmp_path, remote, b"btc", slot="btc-4h")
    assert git(remote, "show", "models-2026-06:nifty-1h/encoder.onnx") == "two"
    assert git(remote, "rev-list", "--count", "models-2026-06") == "3"


def test_a_remote_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotPushed, match=r"git ls-remote: .*(repository|read)"):
        push(tmp_path, tmp_path / "nowhere.git", b"one")
