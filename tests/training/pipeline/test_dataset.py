"""A slot's data on its way to PC: the same rows arrive, or a sentence says why not."""

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bots.decision.engine import align_to_features
from markets import store
from markets.models import Bar, Feature, Source, TradingDay
from tests import histories
from tradingsite import clock
from tradingsite.machines import transfer
from tradingsite.registry import SLOTS
from training.pipeline import dataset

# An export reads one snapshot, which only a transaction of its own can promise.
pytestmark = pytest.mark.django_db(databases=["btc", "pc_btc"], transaction=True)

SLOT = SLOTS["btc-4h"]
UNTIL = dt.datetime(2025, 2, 20, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def market() -> None:
    """Have 600 bars of BTC and their features on PROD."""
    bars = histories.four_hours(600)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    histories.put_funding(bars)
    store.rebuild_features("btc", "4h")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the export goes."""
    return tmp_path / "exports" / "run1"


def test_what_is_imported_equals_what_was_exported(folder: Path) -> None:
    TradingDay.on("btc").objects.create(
        date=dt.date(2026, 6, 1), kind="special", opens_at=UNTIL, name='comma, quote"', source="x"
    )
    summary = dataset.export(SLOT, UNTIL, folder)
    data = dataset.import_and_load(SLOT, folder)
    until = clock.epoch(UNTIL)
    features = store.load_features("btc", "4h", end=until)
    bars = store.load_bars("btc", "4h", end=until)
    panel = align_to_features(
        store.load_price_panel(SLOT, bars, store.load_calendar("btc")), features.opens_at
    )
    assert np.count_nonzero(panel.funding_rate) > 100
    assert len(features) == summary["files"]["features.csv.zst"]["rows"] > 200
    assert data.features.closes_at[-1] == features.closes_at[-1] <= until
    assert np.array_equal(data.features.opens_at, features.opens_at)
    assert data.features.values.tobytes() == features.values.tobytes()
    for field in dataclasses.fields(panel):
        assert np.array_equal(getattr(data.panel, field.name), getattr(panel, field.name)), field
    day = TradingDay.on("pc_btc").objects.get()
    assert (day.kind, day.opens_at, day.closes_at, day.name) == (
        "special",
        UNTIL,
        None,
        'comma, quote"',
    )
    assert Bar.on("pc_btc").objects.filter(source=Source.IMPORTED).count() == len(bars)


def test_an_import_replaces_its_timeframe_and_leaves_the_others(folder: Path) -> None:
    store.save_bars("pc_btc", "4h", histories.four_hours(50, first=1_500_004_800), Source.IMPORTED)
    store.save_bars("pc_btc", "1h", histories.hours(30), Source.IMPORTED)
    dataset.export(SLOT, UNTIL, folder)
    first = dataset.import_and_load(SLOT, folder)
    again = dataset.import_and_load(SLOT, folder)
    assert first.fingerprint == again.fingerprint
    assert np.array_equal(first.features.values, again.features.values)
    bars = store.load_bars("pc_btc", "4h")
    assert np.array_equal(
        bars.opens_at, store.load_bars("btc", "4h", end=clock.epoch(UNTIL)).opens_at
    )
    assert len(store.load_bars("pc_btc", "1h")) == 30


def test_the_summary_says_what_was_written(folder: Path) -> None:
    summary = dataset.export(SLOT, UNTIL, folder)
    assert summary == json.loads((folder / dataset.SUMMARY).read_text())
    assert {path.name for path in folder.iterdir()} == {*summary["files"], dataset.SUMMARY}
    for name, entry in summary["files"].items():
        assert entry["bytes"] == (folder / name).stat().st_size
        assert entry["sha256"] == transfer.sha256(folder / name)


@pytest.mark.parametrize("name", [table.file for table in dataset.TABLES])
def test_a_changed_byte_is_refused_by_its_files_name(folder: Path, name: str) -> None:
    dataset.export(SLOT, UNTIL, folder)
    body = bytearray((folder / name).read_bytes())
    body[len(body) // 2] ^= 1
    (folder / name).write_bytes(body)
    with pytest.raises(dataset.BadExport, match=rf"{name} has other bytes than were exported"):
        dataset.import_and_load(SLOT, folder)
    assert not Bar.on("pc_btc").objects.exists()


def test_a_missing_file_is_refused_by_its_name(folder: Path) -> None:
    dataset.export(SLOT, UNTIL, folder)
    (folder / "bars.csv.zst").unlink()
    with pytest.raises(dataset.BadExport, match=r"run1/bars.csv.zst is missing"):
        dataset.import_and_load(SLOT, folder)
    (folder / dataset.SUMMARY).unlink()
    with pytest.raises(dataset.BadExport, match=r"has no export.json: the export did not finish"):
        dataset.import_and_load(SLOT, folder)


def test_a_summary_that_says_other_rows_undoes_the_import(folder: Path) -> None:
    store.save_bars("pc_btc", "4h", histories.four_hours(50), Source.IMPORTED)
    summary = dataset.export(SLOT, UNTIL, folder)
    summary["files"]["features.csv.zst"]["rows"] += 1
    (folder / dataset.SUMMARY).write_text(json.dumps(summary))
    with pytest.raises(dataset.BadExport, match=r"features.csv.zst held \d+ rows, \d+ were"):
        dataset.import_and_load(SLOT, folder)
    assert len(store.load_bars("pc_btc", "4h")) == 50


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace('"btc-4h"', '"btc-1h"'), "is an export of btc-1h, wanted"),
        (lambda text: text.replace('"schema"', '"schemas"'), r"export.json is not an export's"),
        (lambda text: text.replace('"schema": "', '"schema": "0'), "with other features than"),
        (lambda text: text[:-20], r"export.json is not an export's summary"),
        (lambda text: "[1]", r"export.json is not an export's summary"),
    ],
)
def test_a_changed_summary_is_refused(folder: Path, change: Any, reason: str) -> None:
    dataset.export(SLOT, UNTIL, folder)
    path = folder / dataset.SUMMARY
    path.write_text(change(path.read_text()))
    with pytest.raises(dataset.BadExport, match=reason):
        dataset.import_and_load(SLOT, folder)


def test_an_export_without_rows_is_refused_and_removed(folder: Path) -> None:
    before = clock.from_seconds(histories.FIRST)
    with pytest.raises(dataset.BadExport, match=r"no feature rows up to .*importbars btc 4h FILE"):
        dataset.export(SLOT, before, folder)
    assert not folder.exists()


def test_features_of_another_schema_are_not_exported(folder: Path) -> None:
    Feature.on("btc").objects.update(schema="0" * 64)
    with pytest.raises(dataset.BadExport, match="no feature rows"):
        dataset.export(SLOT, UNTIL, folder)


@pytest.mark.parametrize("name", ["bars.csv.zst", "features.csv.zst", dataset.SUMMARY])
def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / name).symlink_to("/dev/full")  # every write to it fails with ENOSPC
    with pytest.raises(transfer.NoSpace, match=r"no disk space for .*run1: \d+ MB free.*make room"):
        dataset.export(SLOT, UNTIL, folder)
    assert not folder.exists()
    assert Bar.on("btc").objects.count() == 600  # and the connection still works


def test_an_export_that_would_fill_the_disk_is_not_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "RESERVE_MB", transfer.free_mb(folder) + 1_000)
    with pytest.raises(transfer.NoSpace, match=r"no disk space for the export: \d+ MB free at"):
        dataset.export(SLOT, UNTIL, folder)
    assert not folder.exists()
