"""PC's archive: every run's bundle under its time, and what is kept of them."""

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingsite import clock
from training.pipeline import archive
from training.pipeline.archive import KEPT_PER_SLOT, ArchivedBundle

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
    store = tmp_path / "archive"
    place = archive.add(bundle, store, "nifty-1h", 7, AT)
    assert place == store / "nifty-1h" / "20260601T104500Z-run7"
    assert (place / "encoder.onnx").read_bytes() == b"graph"
    assert bundle.is_dir()
    assert archive.bundles(store, "nifty-1h") == [ArchivedBundle(AT, 7, place)]
    assert archive.find(store, "nifty-1h", 7) == place
    assert archive.find(store, "nifty-1h", 8) is None


def test_a_bundle_that_is_kept_already_is_not_touched(bundle: Path, tmp_path: Path) -> None:
    first = archive.add(bundle, tmp_path / "archive", "nifty-1h", 7, AT)
    (bundle / "encoder.onnx").write_bytes(b"another")
    assert archive.add(bundle, tmp_path / "archive", "nifty-1h", 7, AT) == first
    assert (first / "encoder.onnx").read_bytes() == b"graph"


def test_what_is_old_and_never_traded_goes(bundle: Path, tmp_path: Path) -> None:
    store = tmp_path / "archive"
    # Every two hours for sixty days; run numbers that sort otherwise than the times do.
    kept = [
        archive.add(bundle, store, "btc-4h", 2_000 - number, AT + dt.timedelta(hours=2 * number))
        for number in range(60 * 12)
    ]
    other = archive.add(bundle, store, "nifty-1h", 1, AT - dt.timedelta(days=900))
    now = AT + dt.timedelta(hours=2 * 719, minutes=1)
    would = archive.prune(store, "btc-4h", {2_000, 1_990}, now, dry_run=True)
    assert all(place.is_dir() for place in kept)
    assert archive.prune(store, "btc-4h", {2_000, 1_990}, now) == would
    here = [place for place in kept if place.is_dir()]
    assert here[:2] == [kept[0], kept[10]]  # they traded
    assert here[-KEPT_PER_SLOT:] == kept[-KEPT_PER_SLOT:]
    days = {clock.trading_date(each.at) for each in archive.bundles(store, "btc-4h")}
    assert len({day for day in days if day > (now - archive.DAILY_FOR).date()}) >= 30
    # Two that traded, three days that the newest thirty reach over, and the days before them.
    assert 2 + KEPT_PER_SLOT + 27 <= len(here) <= 2 + KEPT_PER_SLOT + 29
    assert other.is_dir()
    assert archive.prune(store, "btc-4h", {2_000, 1_990}, now) == []


@given(
    st.lists(st.integers(0, 90 * 24), max_size=120, unique=True),
    st.sets(st.integers(0, 119), max_size=10),
)
def test_what_is_kept(hours: list[int], traded: set[int]) -> None:
    now = AT + dt.timedelta(days=90)
    rows = [
        ArchivedBundle(AT + dt.timedelta(hours=hour), run, Path(f"run{run}"))
        for run, hour in enumerate(hours)
    ]
    gone = set(archive.expired(rows, traded, now))
    stays = [each for each in sorted(rows) if each not in gone]
    assert stays[-KEPT_PER_SLOT:] == sorted(rows)[-KEPT_PER_SLOT:]
    assert not any(each.run_id in traded for each in gone)
    for each in rows:
        if each.at > now - archive.DAILY_FOR:
            day = clock.trading_date(each.at)
            assert any(clock.trading_date(other.at) == day for other in stays)
    # Once pruned, nothing more goes.
    assert archive.expired(stays, traded, now) == []
    assert len(stays) <= KEPT_PER_SLOT + 31 + len(traded)


def test_a_slot_without_an_archive_has_nothing_to_prune(tmp_path: Path) -> None:
    assert archive.prune(tmp_path / "archive", "nifty-1d", set(), AT) == []
