"""A closed day goes into PC's archive, over real ssh, before its partition is dropped."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markets import tasks
from markets.options import archive, filing, partitions
from markets.options.models import ArchivedDay
from tests.markets.options.desk import MONDAY
from tests.markets.options.test_archive import collect_day
from tests.sshd import RRSYNC, sshd
from tradingsite.machines import ssh, transfer

pytestmark = pytest.mark.django_db(databases=["options", "nifty"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the days that PC is asked to file."""
    days: list[str] = []
    monkeypatch.setattr(
        filing.current_app, "send_task", lambda name, args, expires: days.append(args[0])
    )
    return days


@pytest.fixture(autouse=True)
def two_machines(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have PC behind an sshd, with the two keys of the README."""
    pc = tmp_path / "of PC" / "pc"
    for name in ("link", "archive"):
        (pc / name).mkdir(parents=True)
    monkeypatch.setattr(ssh, "PAUSE_SECONDS", 0.0)
    # rrsync's own line knows no quotes; a link gives its folder a name without a space.
    plain = tmp_path / "plain"
    plain.symlink_to(pc)
    with sshd(tmp_path / "ssh") as running:
        settings.PC_SSH_KEY = running.key("writes", f"{RRSYNC} -munge {plain / 'link'}")
        settings.PC_SSH_READ_KEY = running.key("reads", f"{RRSYNC} -ro {plain / 'archive'}")
        over = running.link(settings.PC_SSH_KEY)
        settings.PC_SSH, settings.PC_KNOWN_HOSTS = f"{over.host}:{over.port}", over.known_hosts
        settings.MACHINE, settings.PROD_DIR, settings.PC_DATA_DIR = "prod", tmp_path / "prod", ""
        settings.PC_DIR = tmp_path / "prod" / "pc"
        yield pc


def on_pc(pc: Path, settings: Any, day: str) -> None:
    """Do on PC what it was asked for."""
    was = settings.PC_DIR
    settings.MACHINE, settings.PC_DIR = "pc", pc
    tasks.file_options(day)
    settings.MACHINE, settings.PC_DIR = "prod", was


def test_a_day_is_dropped_once_pcs_archive_gives_it_back(
    two_machines: Path, settings: Any, asked: list[str]
) -> None:
    collect_day(MONDAY)
    archive.archive(MONDAY)
    with pytest.raises(archive.NotArchived, match="PC's archive does not give it"):
        archive.drop(MONDAY)
    assert MONDAY in partitions.existing()
    assert asked == [MONDAY.isoformat()], "it was sent, and PC was asked"
    on_pc(two_machines, settings, asked[0])
    (filed,) = (two_machines / "archive" / "options" / MONDAY.isoformat()).iterdir()
    assert transfer.sha256(filed) == ArchivedDay.objects.get().sha256
    assert list((two_machines / "link" / "options").iterdir()) == []
    archive.drop(MONDAY)
    assert MONDAY not in partitions.existing()


def test_other_bytes_there_keep_the_partition_and_what_is_there(
    two_machines: Path, settings: Any, asked: list[str]
) -> None:
    collect_day(MONDAY)
    row = archive.archive(MONDAY)
    place = two_machines / "archive" / "options" / MONDAY.isoformat()
    place.mkdir(parents=True)
    (place / "options.parquet").write_bytes(b"x" * row.bytes)
    with pytest.raises(archive.NotArchived, match="other bytes; it was sent again"):
        archive.drop(MONDAY)
    assert MONDAY in partitions.existing()
    on_pc(two_machines, settings, asked[0])
    archive.drop(MONDAY)
    assert len(list(place.parent.glob(f"{MONDAY}.before-*"))) == 1, "nothing is replaced"


def test_a_message_names_no_other_folder_than_a_days(two_machines: Path) -> None:
    for word in ("../../keys", "2026-06-01/..", ""):
        with pytest.raises(ValueError, match="Invalid isoformat"):
            tasks.file_options(word)
    assert not filing.file_sent(dt.date(2026, 6, 2))
