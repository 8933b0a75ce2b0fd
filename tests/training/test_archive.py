"""PC's archive: every run's bundle under its time, the newest of each slot kept."""

import datetime as dt
from pathlib import Path

import pytest

from training import archive

IST = dt.timezone(dt.timedelta(hours=5, minutes=30))
AT = dt.datetime(2026, 6, 1, 16, 15, tzinfo=IST)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder like a bundle."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "encoder.onnx").write_bytes(b"graph")
    return folder


def test_a_bundle_is_kept_under_its_time_and_run(bundle: Path, tmp_path: Path) -> None:
    place = archive.keep(bundle, tmp_path / "archive", "nifty-1h", 7, AT)
    assert place == tmp_path / "archive" / "nifty-1h" / "20260601T104500Z-run7"
    assert (place / "encoder.onnx").read_bytes() == b"graph"
    assert bundle.is_dir()


def test_a_bundle_that_is_kept_already_is_not_touched(bundle: Path, tmp_path: Path) -> None:
    first = archive.keep(bundle, tmp_path / "archive", "nifty-1h", 7, AT)
    (bundle / "encoder.onnx").write_bytes(b"another")
    assert archive.keep(bundle, tmp_path / "archive", "nifty-1h", 7, AT) == first
    assert (first / "encoder.onnx").read_bytes() == b"graph"


def test_the_oldest_go_when_there_are_too_many(bundle: Path, tmp_path: Path) -> None:
    store = tmp_path / "archive"
    # Numbers that sort otherwise than the times do.
    kept = [
        archive.keep(bundle, store, "btc-4h", 200 - number, AT + dt.timedelta(hours=2 * number))
        for number in range(archive.KEPT_PER_SLOT + 3)
    ]
    other = archive.keep(bundle, store, "nifty-1h", 1, AT - dt.timedelta(days=900))
    assert archive.prune(store, "btc-4h", dry_run=True) == kept[:3]
    assert all(place.is_dir() for place in kept)
    assert archive.prune(store, "btc-4h") == kept[:3]
    assert [place.is_dir() for place in kept] == [False] * 3 + [True] * archive.KEPT_PER_SLOT
    assert other.is_dir()
    assert archive.prune(store, "btc-4h") == []


def test_a_slot_without_an_archive_has_nothing_to_prune(tmp_path: Path) -> None:
    assert archive.prune(tmp_path / "archive", "nifty-1d") == []
