"""Closed days into files, verified, and old ones out of the database."""

import datetime as dt
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from markets.options import archive, days, gaps, parquet, partitions, storage
from markets.options.minute_batch import Batch
from markets.options.models import ArchivedDay, CollectedMinute, Gap, Instrument, Quote
from tests.histories import seed_days
from tests.markets.options.desk import CALENDAR, MONDAY
from tests.markets.options.test_storage import NAMES, batch, described, truth
from tests.markets.simulator.broker import ist
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.machines import transfer

pytestmark = pytest.mark.django_db(databases=["options", "nifty"])
EVENING = int(ist("2026-06-01 18:00"))


@pytest.fixture(autouse=True)
def pc(tmp_path: Path, settings: Any) -> Iterator[Path]:
    settings.PC_DIR = tmp_path / "pc"
    yield tmp_path / "pc"


def collect_day(day: dt.date, minutes: int = 3) -> None:
    """Store some minutes of a day, one quote of which is missing."""
    opens = int(ist(f"{day} 09:15"))
    known = storage.Known()
    for number in range(minutes):
        present = (0, 1, 2, 3, 4) if number else (0, 1, 2, 3)
        storage.store(batch(opens + 60 * number, present), known)


def plan(now: int = EVENING) -> archive.Plan:
    return archive.plan(CALENDAR, Epoch(now))


def test_a_closed_day_is_archived_and_stays_until_its_time() -> None:
    collect_day(MONDAY)
    assert plan(int(ist("2026-06-01 15:45"))).archive == {}  # its last minutes may still come
    said = archive.carry_out(plan())
    assert said == "1 days archived, 0 dropped"
    row = ArchivedDay.objects.get()
    assert (row.date, row.rows, row.dropped_at) == (MONDAY, 14, None)
    assert (
        row.sha256 == transfer.sha256(Path(row.path)) and row.bytes == Path(row.path).stat().st_size
    )
    assert Quote.objects.count() == 14
    assert plan() == archive.Plan({}, {}, ())


def test_a_file_holds_exactly_what_was_stored() -> None:
    collect_day(MONDAY)
    archive.carry_out(plan())
    held, found = days.load(MONDAY), parquet.read(archive.path_of(MONDAY))
    assert found.sha256() == held.sha256()
    assert [row.name for row in found.instruments] == sorted(NAMES)
    assert found.instruments[0].lot_size == 65 and found.instruments[0].expiry
    opens = int(ist("2026-06-01 09:15"))
    assert found.ts.tolist()[:3] == [opens, opens + 60, opens + 120]
    assert found.values[0].tolist() == truth(opens, 0)
    # Exported it is as any program reads it; as the archive's first form, it is still read here.
    plain = archive.path_of(MONDAY).with_name("plain.parquet")
    parquet.write(held, plain, plain=True)
    assert parquet.read(plain).sha256() == held.sha256()
    table = pyarrow.parquet.read_table(plain)
    assert table.num_rows == 14
    assert table.column("ltp").to_pylist()[0] == truth(opens, 0)[0]
    assert table.column("name").to_pylist()[0] == NAMES[0]
    assert table.column("ts").to_pylist()[0] == dt.datetime(2026, 6, 1, 3, 45, tzinfo=dt.UTC)


QUOTES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 370),
        st.lists(st.integers(0, 2**31 - 1), min_size=3, max_size=3),
        st.integers(0, 2**62),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**15 - 1),
        st.integers(-(2**15), 2**15 - 1),
    ),
    max_size=40,
    unique_by=lambda row: row[:2],
)


@given(QUOTES)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_day_comes_back_as_it_was(tmp_path: Path, rows: list[Any]) -> None:
    opens = int(ist("2026-06-01 09:15"))
    numbers = [[*prices, volume, oi, iv, age] for *_, prices, volume, oi, iv, age in rows]
    day = days.Day.sorted(
        MONDAY,
        [described(name) for name in NAMES],
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([opens + 60 * row[1] for row in rows], dtype=np.int64),
        np.array(numbers, dtype=np.int64).reshape(len(rows), 7),
    )
    for plain in (False, True):
        parquet.write(day, tmp_path / "day.parquet", plain=plain)
        assert parquet.read(tmp_path / "day.parquet").sha256() == day.sha256()


def test_late_quotes_are_archived_again() -> None:
    collect_day(MONDAY)
    archive.carry_out(plan())
    first = ArchivedDay.objects.get().content_sha256
    collect_day(MONDAY, minutes=4)
    assert plan().archive == {MONDAY: 19}
    archive.carry_out(plan())
    row = ArchivedDay.objects.get()
    assert row.rows == 19 and row.content_sha256 != first


def test_a_late_minute_of_a_closed_day_is_stored_once() -> None:
    collect_day(MONDAY)
    archive.carry_out(plan())
    late = int(ist("2026-06-01 09:20"))
    assert storage.store(batch(late, (0, 1)), storage.Known()) == 2
    assert storage.store(batch(late, (0, 1, 2)), storage.Known()) == 1
    assert storage.store(batch(late, (0, 1, 2)), storage.Known()) == 0
    assert Quote.objects.count() == 17


def test_days_past_their_time_are_dropped_once_verified() -> None:
    sessions = CALENDAR.sessions(dt.date(2026, 4, 27), MONDAY)
    old, kept = sessions[-21].date, sessions[-20].date
    for day in (old, kept, MONDAY):
        collect_day(day)
    partitions.ensure(dt.date(2026, 5, 31), 3)  # a Sunday, today, and a day ahead
    made = plan()
    assert list(made.archive) == [old, kept, MONDAY]
    assert made.drop == {old: 14}
    assert made.empty == (dt.date(2026, 5, 31),)
    assert "drop    2026-05-31: empty" in str(made)
    archive.carry_out(made)
    assert partitions.existing() == [kept, MONDAY, dt.date(2026, 6, 2)]
    assert ArchivedDay.objects.get(date=old).dropped_at is not None
    assert plan() == archive.Plan({}, {}, ())
    with pytest.raises(partitions.DayDropped):
        storage.store(batch(int(ist(f"{old} 10:00")), (0,)), storage.Known())


def test_nothing_is_dropped_whose_file_is_not_whole() -> None:
    old = CALENDAR.sessions(dt.date(2026, 4, 27), MONDAY)[-21].date
    collect_day(old)
    archive.archive(old)
    path = archive.path_of(old)
    whole = path.read_bytes()
    for damage in (whole[:-30], b"", whole[:200] + b"\0" + whole[201:]):
        path.write_bytes(damage)
        with pytest.raises(archive.NotArchived, match="has changed since it was verified"):
            archive.carry_out(plan())
    path.unlink()
    with pytest.raises(archive.NotArchived, match="is not there"):
        archive.carry_out(plan())
    assert Quote.objects.count() == 14
    # A file that was replaced by another day's, record and all.
    other = Batch(
        Epoch(ist(f"{old} 10:00")),
        NAMES[:1],
        np.array([truth(1, 0)], dtype=np.int64),
        {},
        {NAMES[0]: described(NAMES[0])},
    )
    path.write_bytes(whole)
    storage.store(other, storage.Known())
    ArchivedDay.objects.update(rows=15)
    with pytest.raises(archive.NotArchived, match="holds 14 rows, the partition 15"):
        archive.carry_out(plan())
    assert Quote.objects.count() == 15


def test_one_days_trouble_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tuesday = dt.date(2026, 6, 2)
    collect_day(MONDAY)
    collect_day(tuesday)
    real = parquet.write

    def write(day: days.Day, path: Path) -> None:
        if day.date == MONDAY:
            raise transfer.NoSpace("no disk space")
        real(day, path)

    monkeypatch.setattr(parquet, "write", write)
    with pytest.raises(archive.NotArchived, match="2026-06-01 was not archived: no disk space"):
        archive.carry_out(plan(EVENING + 86_400))
    assert [row.date for row in ArchivedDay.objects.all()] == [tuesday]


def test_a_full_disk_leaves_no_half_file(pc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect_day(MONDAY)
    path = archive.path_of(MONDAY)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.partial").symlink_to("/dev/full")
    with pytest.raises(archive.NotArchived, match="no disk space for"):
        archive.carry_out(plan())
    assert list(path.parent.iterdir()) == []
    assert not ArchivedDay.objects.exists() and Quote.objects.count() == 14


# --- The command ----------------------------------------------------------------------------------


def manage(*words: str) -> str:
    output = StringIO()
    call_command("options", *words, stdout=output)
    return output.getvalue()


def test_a_day_goes_out_and_comes_back(tmp_path: Path) -> None:
    collect_day(MONDAY)
    path = tmp_path / "day.parquet"
    assert "14 quotes of 5 instruments on 2026-06-01" in manage(
        "export", "--date", "2026-06-01", "--to", str(path)
    )
    before = days.load(MONDAY).sha256()
    Quote.objects.filter(instrument__name=NAMES[1]).delete()
    Instrument.objects.filter(name=NAMES[1]).delete()
    assert "Dry run" in manage("import", str(path), "--dry-run")
    assert Quote.objects.count() == 11
    assert "3 were new, 11 were stored already" in manage("import", str(path))
    assert "0 were new, 14 were stored already" in manage("import", str(path))
    assert days.load(MONDAY).sha256() == before
    assert Gap.objects.filter(filled_at__isnull=True).count() == 1


def test_a_dropped_day_comes_back_from_its_file() -> None:
    collect_day(MONDAY)
    archive.carry_out(plan())
    row = ArchivedDay.objects.get()
    archive.drop(MONDAY)
    CollectedMinute.objects.all().delete()
    assert "14 were new" in manage("import", row.path)
    assert days.load(MONDAY).sha256() == row.content_sha256
    assert sum(CollectedMinute.objects.values_list("stored", flat=True)) == 14
    # While it is dropped its quotes are exported from the file.
    archive.drop(MONDAY)
    exported = Path(row.path).parent / "again.parquet"
    assert "14 quotes" in manage("export", "--date", "2026-06-01", "--to", str(exported))
    assert parquet.read(exported).sha256() == row.content_sha256


def test_csv_has_greeks(tmp_path: Path) -> None:
    import csv
    import gzip

    seed_days()
    collect_day(MONDAY)
    path = tmp_path / "day.csv.gz"
    manage("export", "--date", "2026-06-01", "--to", str(path))
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    assert rows[0]["at"] == "2026-06-01T09:15:00+05:30" and rows[0]["name"] == NAMES[0]
    assert rows[0]["iv"] == "0.1300"
    assert set(rows[0]) >= {"delta", "gamma", "theta", "vega"}
    assert rows[0]["delta"] == ""  # no put, no forward


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "--date", "1 June"], "--date takes a day like 2026-06-01, was '1 June'"),
        (["export", "--date", "2026-02-30"], "--date 2026-02-30: day is out of range"),
        (["export", "--date", "2026-06-01"], "no quotes of 2026-06-01 are stored"),
        (["import", "/nowhere.parquet"], "/nowhere.parquet: there is no such file"),
        (["gaps", "--date", "x"], "--date takes a day"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        manage(*words)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    collect_day(MONDAY)
    good = tmp_path / "good.parquet"
    manage("export", "--date", "2026-06-01", "--to", str(good))
    half = tmp_path / "half.parquet"
    half.write_bytes(good.read_bytes()[:-200])
    with pytest.raises(CommandError, match=r"half\.parquet: "):
        manage("import", str(half))
    other = tmp_path / "other.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), other)
    with pytest.raises(CommandError, match=r"other\.parquet: it is not of the format"):
        manage("import", str(other))
    with pytest.raises(CommandError, match=r"writes \.parquet or \.csv\.gz"):
        manage("export", "--date", "2026-06-01", "--to", str(tmp_path / "day.xlsx"))
    shutil.copy(good, tmp_path / "again.parquet")
    assert "0 were new" in manage("import", str(tmp_path / "again.parquet"))


def test_gaps_are_shown_by_reason() -> None:
    collect_day(MONDAY)
    shown = manage("gaps", "--date", "2026-06-01")
    assert "no quote: test" in shown and NAMES[4] in shown and "09:15" in shown
    assert "Nothing is known to be missing" in manage("gaps", "--date", "2026-06-02")


def lines(*words: str) -> list[list[str]]:
    """Return the rows of a table that the command prints, each by its cells."""
    shown = manage(*words).splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown if "│" in line]
    return [row for row in rows if row[0]]  # a long reason goes on in a line of its own


def test_gaps_are_shown_by_true_ranges_with_their_counts() -> None:
    opens, found_at = int(ist("2026-06-01 09:15")), clock.real()
    collect_day(MONDAY, 12)
    Gap.objects.all().delete()
    one, two = Instrument.objects.filter(name__in=NAMES[3:5])

    def lack(minutes: list[int], reason: str, instrument: Instrument | None = None) -> None:
        for minute in minutes:
            ts = clock.from_seconds(opens + 60 * minute)
            Gap.objects.create(ts=ts, instrument=instrument, reason=reason, found_at=found_at)

    lack([20, 21, 22, 40], "too slow: the answer came 79 s after")
    lack([23], "too slow: the answer came 61 s after")
    lack([24], "no collector stored it")
    lack([2, 3, 7], "no quote: it is not in the venue's answer", one)
    lack([3], "no quote: it is not in the venue's answer", two)
    rows = lines("gaps", "--date", "2026-06-01")
    assert [(*row[:2], *row[4:]) for row in rows] == [
        ("09:35", "09:38", "4", "all", "0"),
        ("09:39", "09:39", "1", "all", "0"),
        ("09:55", "09:55", "1", "all", "0"),
        ("09:17", "09:18", "2", "3", "0"),
        ("09:22", "09:22", "1", "1", "0"),
    ]
    assert rows[3][2].endswith("and 1")  # more, in its next line


def test_rows_that_are_gone_are_loss(set_market: Any) -> None:
    seed_days("nifty")
    set_market(clock.from_seconds(int(ist("2026-06-01 09:18"))))
    collect_day(MONDAY, 4)
    assert gaps.gone(MONDAY) == []
    opens = clock.from_seconds(int(ist("2026-06-01 09:15")))
    Quote.objects.filter(ts=opens + dt.timedelta(minutes=1)).delete()
    Quote.objects.filter(ts=opens + dt.timedelta(minutes=2), instrument__name=NAMES[1]).delete()
    minutes = [opens + dt.timedelta(minutes=number) for number in (1, 2)]
    assert gaps.gone(MONDAY) == list(zip(minutes, (5, 1), strict=True))
    shown = manage("gaps", "--date", "2026-06-01")
    assert "4 minutes were due: 4 stored, of which 2 have lost quotes since, 0 missing (50.0 %" in (
        " ".join(shown.split())
    )
    gone = [row for row in lines("gaps", "--date", "2026-06-01") if row[3].startswith("stored,")]
    assert [(*row[:3], *row[4:]) for row in gone] == [
        ("09:16", "09:17", "everything", "2", "6", "0")
    ]


def test_an_archived_day_that_was_dropped_has_lost_nothing(tmp_path: Path) -> None:
    collect_day(MONDAY)
    archive.carry_out(plan())
    partitions.drop(MONDAY)
    assert gaps.gone(MONDAY)  # dropped by a stranger: the desk's own dropping is recorded
    ArchivedDay.objects.update(dropped_at=clock.real())
    assert gaps.gone(MONDAY) == []


def test_archive_reports_first(set_market: Any) -> None:
    from tradingsite import clock

    seed_days()
    collect_day(MONDAY)
    set_market(clock.from_seconds(EVENING))
    assert "archive 2026-06-01: 14 rows\nDry run" in manage("archive", "--dry-run")
    assert not ArchivedDay.objects.exists()
    assert "archived 2026-06-01: 14 rows in" in manage("archive")
    assert "nothing to do" in manage("archive")
