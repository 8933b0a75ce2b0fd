"""The command that loads India VIX and funding: all of a file or nothing of it."""

from decimal import Decimal
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture.exogenous import FUNDING
from markets.imports import batches as import_batches
from markets.models import Reading, Source
from tests import histories
from tradingsite import clock
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "btc"])

VIX_CSV = """date,open,high,low,close,volume,src
2024-06-03,24.0,25.0,20.0,20.94,0,x
2024-06-04,21.0,31.7,20.0,26.75,0,x
2024-06-06,18.0,18.5,16.0,16.80,0,x
"""


def importreadings(*arguments: object) -> str:
    """Run the command and return what it says."""
    said = StringIO()
    call_command("importreadings", *map(str, arguments), stdout=said)
    return said.getvalue()


def write(path: Path, text: str) -> Path:
    """Write a file and return it."""
    path.write_text(text)
    return path


def funding_csv(path: Path, hours: int, every: int = 8) -> Path:
    """Write payments of the made history's market, 0.01 % and more each."""
    times = range(histories.FIRST, histories.FIRST + 3_600 * hours, 3_600 * every)
    rows = (
        f"{clock.from_seconds(at).isoformat()},{1e-4 * (1 + row % 3):.6f}"
        for row, at in enumerate(times)
    )
    return write(path, "ts,funding_rate\n" + "\n".join(rows) + "\n")


def test_closes_of_the_volatility_index_are_of_the_sessions_ends(tmp_path: Path) -> None:
    histories.seed_days()
    file = write(tmp_path / "vix.csv", VIX_CSV)
    said = importreadings("vix", file)
    assert "3 readings of India VIX, 03 Jun 2024 15:30 to 06 Jun 2024 15:30 IST." in said
    assert "1 closes are missing: 05 Jun 2024 15:30." in said
    assert "3 readings new or changed, 0 as they were." in said
    rows = Reading.on("nifty").objects.order_by("at")
    assert [(f"{row.at.astimezone(clock.IST):%d %H:%M}", row.value) for row in rows] == [
        ("03 15:30", Decimal("20.94")),
        ("04 15:30", Decimal("26.75")),
        ("06 15:30", Decimal("16.80")),
    ]
    assert {(row.series, row.source) for row in rows} == {("INDIA VIX 1d", "imported")}
    assert "0 readings new or changed, 3 as they were." in importreadings("vix", file)


def test_funding_is_imported_with_the_rows_that_know_of_it(tmp_path: Path) -> None:
    bars = histories.four_hours(700)
    import_batches.import_bars("btc", {"4h": bars})
    before = store.load_features("btc", "4h")
    column = before.schema.names.index("funding")
    assert len(before) > 300 and not before.values[:, column].any()
    file = funding_csv(tmp_path / "funding.csv", hours=2_600)
    assert "nothing is known" not in importreadings("funding", file)
    after = store.load_features("btc", "4h")
    assert set(np.unique(after.values[:, column]).round(4)) == {0.0, 1.0, 2.0, 3.0}
    kept = [
        each for each in range(len(after.schema.names)) if "funding" not in after.schema.names[each]
    ]
    np.testing.assert_array_equal(after.values[:, kept], before.values[:, kept])
    store.rebuild_features("btc", "4h")
    np.testing.assert_array_equal(store.load_features("btc", "4h").values, after.values)


def test_a_dry_run_changes_nothing_and_says_what_bars_lack(tmp_path: Path) -> None:
    import_batches.import_bars(
        "btc", {"4h": histories.four_hours(10, first=histories.FIRST - 864_000)}
    )
    said = importreadings("funding", funding_csv(tmp_path / "f.csv", 80), "--dry-run")
    assert "Dry run: nothing was changed." in said
    assert "Bars of btc begin on 2024-11-10: before 20 Nov 2024 05:30 nothing is known" in said
    assert not Reading.on("btc").objects.exists()


def test_what_a_venue_said_stays(tmp_path: Path) -> None:
    at = histories.FIRST
    exogenous_capture.upsert(FUNDING, [(at, Decimal("0.0009"))], Source.VENUE)
    said = importreadings("funding", funding_csv(tmp_path / "f.csv", 24))
    assert "2 readings new or changed, 1 as they were." in said
    assert Reading.on("btc").objects.order_by("at")[0].value == Decimal("0.0009")


def test_readings_of_another_world_are_refused_and_go_with_their_bars(tmp_path: Path) -> None:
    bars = histories.four_hours(20)
    store.save_bars("btc", "4h", bars, Source.GENERATED)
    file = funding_csv(tmp_path / "f.csv", 80)
    with pytest.raises(CommandError, match=r"btc holds generated bars.*importbars btc TIME"):
        importreadings("funding", file)
    exogenous_capture.upsert(FUNDING, [(histories.FIRST, Decimal(0))], Source.GENERATED)
    import_batches.import_bars("btc", {"4h": bars}, replace=True)
    assert not Reading.on("btc").objects.exists()
    importreadings("funding", file)
    with pytest.raises(store.WrongSource, match="generated readings are of another world"):
        exogenous_capture.upsert(FUNDING, [(histories.FIRST, Decimal(0))], Source.GENERATED)


BAD = {
    "date,close\n2024-06-03,abc\n": "line 2: India VIX 'abc' is not a number",
    "date,close\n2024-06-03,nan\n": "line 2: India VIX is nan, not a number",
    "date,close\n2024-06-03,0\n": "line 2: India VIX 0 is not between 1 and 200",
    "date,close\n2024-06-04,20\n2024-06-03,20\n": "line 3: 2024-06-03 is before the line above",
    "date,close\n2024-06-03,20\n2024-06-03,20\n": "line 3: 2024-06-03 is there twice",
    "date,level\n2024-06-03,20\n": "line 1: the header 'date,level' lacks a value column",
    "when,close\n2024-06-03,20\n": "line 1: the header 'when,close' lacks a time column",
    "date,close\n2024-06-03,20,1\n": "line 2: 3 columns where the header has 2",
    "date,close\n": "has a header and no rows",
    "": "is empty",
    "date,close\n2024-06-03 10:00,20\n": "line 2: 2024-06-03 10:00 has no time zone",
    "date,close\n2024-06-03T10:00Z,20\n2024-06-03T11:00Z,20\n": "line 3: 60 minutes after",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_named_by_its_line_and_imported_not_at_all(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "vix.csv", text)
    with pytest.raises(CommandError, match="Nothing was imported") as refused:
        importreadings("vix", file)
    assert f"{file}" in str(refused.value) and BAD[text] in str(refused.value)
    assert not Reading.on("nifty").objects.exists()


def test_a_rate_in_per_cent_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", "ts,funding_rate\n2024-06-03T00:00Z,0.1\n")
    with pytest.raises(
        CommandError, match=r"line 2: funding 0\.1 is not between.*which is 0\.01 %"
    ):
        importreadings("funding", file)
    with pytest.raises(CommandError, match="no such file"):
        importreadings("funding", tmp_path / "none.csv")


def test_rates_in_per_cent_within_the_bounds_are_refused_by_their_median(tmp_path: Path) -> None:
    import_batches.import_bars("btc", {"4h": histories.four_hours(20)})
    rows = funding_csv(tmp_path / "f.csv", hours=800).read_text().splitlines()
    at = [row.split(",")[0] for row in rows[1:]]
    file = write(tmp_path / "f.csv", "\n".join([rows[0], *(f"{each},0.0100" for each in at)]))
    for words in ([], ["--dry-run"]):
        with pytest.raises(CommandError) as refused:
            importreadings("funding", file, *words)
        assert "median is 0.01, 100 times the usual: per cent, where a ratio" in str(refused.value)
        assert "take them with --anyway 'REASON'" in str(refused.value)
    assert not Reading.on("btc").objects.exists()
    said = importreadings("funding", file, "--anyway", "an exchange of our own")
    assert "Taken although their median is 0.01" in said and "100 readings new" in said
    assert "The reason given: an exchange of our own" in Notice.objects.get().text


def test_readings_are_held_against_those_stored(tmp_path: Path) -> None:
    import_batches.import_bars("btc", {"4h": histories.four_hours(20)})
    importreadings("funding", funding_csv(tmp_path / "f.csv", hours=160))
    text = (tmp_path / "f.csv").read_text()
    few = write(tmp_path / "few.csv", "\n".join(text.replace(",0", ",-0").splitlines()[:8]))
    with pytest.raises(CommandError, match=r"of 7 stored payments .* -1 times: .*sign is turned"):
        importreadings("funding", few)


def test_a_bound_that_is_passed_is_named_with_its_likely_cause(tmp_path: Path) -> None:
    histories.seed_days()
    rows = [f"2024-06-{day:02d},1675.5" for day in range(3, 29)]
    file = write(tmp_path / "vix.csv", "\n".join(["date,close", *rows]))
    with pytest.raises(CommandError, match=r"line 2: India VIX 1675\.5 is not.*hundred times too"):
        importreadings("vix", file)
