"""The link by real ssh, rsync and rrsync, to a PC that is honest, broken or hostile."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sshd import RRSYNC, Pc, sshd
from tradingsite.machines import ssh, transfer
from tradingsite.machines.ssh import LinkDown, LinkRefused, TooMuch

MB = 1 << 20


@pytest.fixture(scope="module")
def pc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pc]:
    """Run PC's sshd, in a folder with a space and a percent sign in its name."""
    with sshd(tmp_path_factory.mktemp("a b%c")) as running:
        yield running


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return PC's data folder, with what PROD's keys are for and what they are not for."""
    folder = tmp_path / "var" / "pc"
    for name in ("link/outbox/run1", "link/inbox", "archive/btc-4h/one", "keys"):
        (folder / name).mkdir(parents=True)
    (folder / "keys" / "signing.pem").write_text("secret")
    (folder / "archive/btc-4h/one/model").write_bytes(b"m" * 1000)
    (folder / "link/outbox/run1/model").write_bytes(b"m" * 1000)
    return folder


@pytest.fixture
def writes(pc: Pc, shared: Path) -> ssh.Link:
    """Return the link by the key of the README that writes."""
    return pc.link(pc.key(shared.parent.parent.name, f"{RRSYNC} -munge {shared / 'link'}"))


@pytest.fixture
def reads(pc: Pc, shared: Path) -> ssh.Link:
    """Return the link by the key of the README that reads the archive."""
    name = f"{shared.parent.parent.name} read"
    return pc.link(pc.key(name, f"{RRSYNC} -ro {shared / 'archive'}"))


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between tries."""
    monkeypatch.setattr(ssh, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder to push, with a space in its name."""
    folder = tmp_path / "of PROD"
    folder.mkdir()
    (folder / "a file").write_bytes(b"a" * 5000)
    return folder


def contents(folder: Path) -> dict[str, int]:
    """Return a folder's files with their sizes."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_folder_goes_there_and_back_over_paths_with_spaces(
    writes: ssh.Link, reads: ssh.Link, shared: Path, source: Path, tmp_path: Path
) -> None:
    assert writes.push(source, "inbox/a run") > 5000
    assert contents(shared / "link" / "inbox" / "a run") == {"a file": 5000}
    writes.pull("outbox/run1", tmp_path / "got it", MB)
    reads.pull("btc-4h/one", tmp_path / "kept", MB)
    assert contents(tmp_path / "got it") == contents(tmp_path / "kept") == {"model": 1000}


# --- B6: what PROD's keys give ------------------------------------------------------------------


@pytest.mark.parametrize("place", ["../keys", "../archive", "outbox/../../keys"])
def test_the_writing_key_reaches_neither_pcs_key_nor_its_archive(
    writes: ssh.Link, shared: Path, tmp_path: Path, place: str
) -> None:
    with pytest.raises(LinkRefused):
        writes.pull(place, tmp_path / "stolen", MB)
    assert not list((tmp_path / "stolen").glob("*"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(LinkRefused):
        writes.push(tmp_path / "nothing", place)
    assert (shared / "keys" / "signing.pem").read_text() == "secret"
    assert (shared / "archive/btc-4h/one/model").exists()


def test_the_reading_key_deletes_nothing_and_its_refusal_is_told_as_one(
    reads: ssh.Link, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    once = ssh.Link._once

    def counted(*words: Any) -> int:
        tries.append(1)
        return once(*words)

    monkeypatch.setattr(ssh.Link, "_once", counted)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(
        LinkRefused, match=r"refuses what PROD asks of it: .*sending to read-only server"
    ):
        reads.push(tmp_path / "nothing", "btc-4h")
    assert tries == [1], "asking again would change nothing"
    assert (shared / "archive/btc-4h/one/model").exists()


def test_a_key_for_pc_is_for_a_folder_that_prod_may_name(settings: Any, tmp_path: Path) -> None:
    settings.PC_DIR, settings.PC_DATA_DIR = tmp_path / "pc", ""
    assert transfer._on_pc(tmp_path / "pc/link/inbox/x") == "inbox/x"
    assert transfer._on_pc(tmp_path / "pc/archive/btc-4h/x") == "btc-4h/x"
    with pytest.raises(ValueError, match="is PC's own"):
        transfer._on_pc(tmp_path / "pc/keys")


# --- B5: what PC sends --------------------------------------------------------------------------


def test_one_file_too_large_is_not_taken(writes: ssh.Link, shared: Path, tmp_path: Path) -> None:
    (shared / "link/outbox/run1/large").write_bytes(b"x" * 3 * MB)
    writes.pull("outbox/run1", tmp_path / "got", MB)
    assert contents(tmp_path / "got") == {"model": 1000}


def test_many_files_that_are_too_much_together_are_ended(
    writes: ssh.Link, shared: Path, tmp_path: Path
) -> None:
    for number in range(8):  # each of them is small enough
        (shared / "link/outbox/run1" / f"part{number}").write_bytes(bytes([number]) * (MB // 2))
    with pytest.raises(TooMuch, match=r"sent .* bytes where 1,048,576 are allowed"):
        writes.pull("outbox/run1", tmp_path / "got", MB)


def test_a_file_that_is_longer_than_was_said_is_ended(pc: Pc, tmp_path: Path) -> None:
    hostile, got = tmp_path / "hostile", tmp_path / "got"
    hostile.mkdir()
    (hostile / "first").write_bytes(bytes(range(256)) * (4 * MB // 256))
    (hostile / "second").write_bytes(b"x")

    def grow() -> None:
        until = time.monotonic() + 20
        while not (got.is_dir() and any(got.iterdir())) and time.monotonic() < until:
            time.sleep(0.01)
        # The list of files is sent; what is sent of them is what they are by then.
        (hostile / "second").write_bytes(b"y" * 100 * MB)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        over = pc.link(pc.key("grows", f"{RRSYNC} -ro {hostile}"), limit_kbps=2_000)
        with pytest.raises(TooMuch, match="are allowed: it was ended"):
            over.pull(".", got, 6 * MB)
    finally:
        thread.join()
    assert sum(contents(got).values()) < 12 * MB


def test_a_pc_that_only_talks_is_ended(pc: Pc, tmp_path: Path) -> None:
    talks = pc.link(pc.key("talks", "yes talks-without-an-end >&2"))
    with pytest.raises(TooMuch, match="talks without an end"):
        talks.pull(".", tmp_path / "got", MB)


def test_a_pc_that_never_ends_is_ended(
    pc: Pc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "LONGEST_SECONDS", 1.5)
    slow = pc.link(pc.key("slow", "sleep 600"))
    began = time.monotonic()
    with pytest.raises(TooMuch, match="took more than 2 s"):
        slow.pull(".", tmp_path / "got", MB)
    assert time.monotonic() - began < 6
    mine = [child.name() for child in psutil.Process().children(recursive=True)]
    assert "rsync" not in mine


def test_what_was_sent_too_much_is_not_kept(
    pc: Pc, shared: Path, tmp_path: Path, settings: Any
) -> None:
    (shared / "link/outbox/run1/model").write_bytes(b"x" * 2 * MB)
    (shared / "link/outbox/run1/more").write_bytes(b"x" * MB)
    key = pc.key("all of it", f"{RRSYNC} -munge {shared / 'link'}")
    over = pc.link(key)
    settings.MACHINE, settings.PC_DIR, settings.PC_DATA_DIR = "prod", tmp_path / "pc", ""
    settings.PC_SSH, settings.PC_SSH_KEY = f"{over.host}:{over.port}", key
    settings.PC_KNOWN_HOSTS = pc.known_hosts
    incoming = tmp_path / "prod" / "incoming"
    with pytest.raises(TooMuch):
        transfer.send(tmp_path / "pc/link/outbox/run1", incoming / "run1", 2 * MB)
    assert list(incoming.iterdir()) == []
    transfer.send(tmp_path / "pc/link/outbox/run1", incoming / "run1", 4 * MB)
    assert contents(incoming / "run1") == {"model": 2 * MB, "more": MB}


# --- A cut link ---------------------------------------------------------------------------------


def test_what_a_cut_link_left_half_sent_is_gone_on_with(
    pc: Pc, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "big one"
    source.mkdir()
    body = subprocess.run(["head", "-c", str(6 * MB), "/dev/urandom"], capture_output=True)
    (source / "big").write_bytes(body.stdout)
    key = pc.key(f"cut{sys.version_info.minor}", f"{RRSYNC} -munge {shared / 'link'}")
    slow, quick = pc.link(key, 1000), pc.link(key)
    monkeypatch.setattr(ssh, "TRIES", 1)
    there = shared / "link/inbox/run1"

    def cut() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if there.is_dir() and any(path.stat().st_size > 2 * MB for path in there.iterdir()):
                break
            time.sleep(0.05)
        mine = psutil.Process().children(recursive=True)
        next(each for each in mine if each.name() == "rsync").send_signal(signal.SIGTERM)

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises((LinkDown, LinkRefused)):
        slow.push(source, "inbox/run1")
    thread.join()
    assert sum(contents(there).values()) > MB, "it is kept there"
    assert quick.push(source, "inbox/run1") < 5 * MB, "and not sent again"
    assert (there / "big").read_bytes() == body.stdout
    assert contents(there) == {"big": 6 * MB}


def test_a_machine_that_is_not_there_does_not_answer(pc: Pc, tmp_path: Path) -> None:
    gone = ssh.Link(pc.link(pc.folder).host, 1, pc.key("gone", "true"), pc.known_hosts)
    with pytest.raises(LinkDown, match=re.escape("does not answer")):
        gone.pull(".", tmp_path / "got", MB)
