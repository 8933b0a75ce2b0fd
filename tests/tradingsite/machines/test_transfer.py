"""Moving folders: whole or not at all, and a sentence for a full disk."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tradingsite.errors import Degraded
from tradingsite.machines import transfer

FULL = Path("/dev/full")  # every write to it fails with ENOSPC


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder of two files."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"a" * 1_000)
    (folder / "b.bin").write_bytes(b"b" * 500)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return a folder's files by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_arrives_whole(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "there" / "inbox" / "run1"
    assert transfer.send(source, target) == 1_500
    assert contents(target) == contents(source)
    assert [path.name for path in target.parent.iterdir()] == ["run1"]


def test_sending_again_replaces_what_earlier_tries_left(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "inbox" / "run1"
    for leftover in (target, target.with_name("run1.partial")):
        leftover.mkdir(parents=True)
        (leftover / "old.bin").write_bytes(b"old")
    transfer.send(source, target)
    assert contents(target) == contents(source)
    assert not target.with_name("run1.partial").exists()


def test_a_file_that_arrives_with_other_bytes_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree = shutil.copytree

    def flips(here: Path, there: Path) -> None:
        copytree(here, there)
        body = bytearray((there / "b.bin").read_bytes())
        body[3] ^= 1
        (there / "b.bin").write_bytes(body)

    monkeypatch.setattr(shutil, "copytree", flips)
    with pytest.raises(Degraded, match=r"b.bin arrived at .* with other bytes than were sent"):
        transfer.send(source, tmp_path / "inbox" / "run1")
    assert list((tmp_path / "inbox").iterdir()) == []


def test_a_full_disk_while_sending_leaves_nothing_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def fills(here: str, there: str, *, follow_symlinks: bool = True) -> str:
        if Path(there).name == "b.bin":
            Path(there).symlink_to(FULL)
        return str(copyfile(here, there, follow_symlinks=follow_symlinks))

    # copytree takes its copy function as a default, so the one below it is what can be filled.
    monkeypatch.setattr(shutil, "copyfile", fills)
    monkeypatch.setattr(shutil, "copystat", lambda *_, **__: None)  # of /dev/full
    with pytest.raises(transfer.NoSpace, match=r"no disk space for .*inbox: \d+ MB free"):
        transfer.send(source, tmp_path / "inbox" / "run1")
    assert list((tmp_path / "inbox").iterdir()) == []
    assert len(contents(source)) == 2


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(transfer.NoSpace, match=r"no disk space for .*; make room and run it again"),
        transfer.explained(tmp_path),
        FULL.open("wb") as file,
    ):
        file.write(b"x")


def test_a_spent_quota_is_explained(tmp_path: Path) -> None:
    with pytest.raises(transfer.NoSpace), transfer.explained(tmp_path):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), transfer.explained(tmp_path):
        (tmp_path / "nothing").read_bytes()
    with pytest.raises(ValueError, match="of another kind"), transfer.explained(tmp_path):
        raise ValueError("of another kind")


def test_free_space_is_that_of_the_disk_a_new_folder_would_be_on(tmp_path: Path) -> None:
    free = transfer.free_mb(tmp_path / "not" / "there" / "yet")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 1e6, rel=0.05, abs=50)


def test_a_hash_is_of_the_bytes(source: Path) -> None:
    before = transfer.sha256(source / "a.bin")
    assert len(before) == 64 and before != transfer.sha256(source / "b.bin")
    (source / "a.bin").write_bytes(b"a" * 999 + b"b")
    assert transfer.sha256(source / "a.bin") != before
