"""Imports of bars, their removal, and the way back: with features and models that knew of them."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from bots.modelstore.models import ModelVersion
from markets import store
from markets.domain.bars import Bars
from markets.imports import batches as import_batches
from markets.models import Bar, BarImport, Source
from tests import histories
from tradingsite import clock
from tradingsite.signals import market_replaced

pytestmark = pytest.mark.django_db(databases=["btc", "nifty", "default"])


def same(left: Bars, right: Bars) -> bool:
    """Return whether two tables of bars hold the same."""
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in Bars.__slots__)


def test_imported_bars_replace_generated_ones_only_when_told_to() -> None:
    heard: list[str] = []

    def hear(market: str, **kwargs: object) -> None:
        heard.append(market)

    store.save_bars("btc", "1h", histories.hours(100, seed=5), Source.GENERATED)
    histories.seed_days()  # a test that flushes takes them away
    nse = store.load_calendar("nifty")
    [session] = nse.sessions(dt.date(2024, 11, 21), dt.date(2024, 11, 21))
    walk = histories.hours(6, seed=5, first=session.opens_at)
    store.save_bars("nifty", "1h", walk, Source.GENERATED)
    bars = histories.four_hours(600, seed=6)
    market_replaced.connect(hear)
    try:
        with pytest.raises(store.WrongSource, match="generated"):
            import_batches.import_bars("btc", {"4h": bars})
        assert store.sources("btc") == {Source.GENERATED} and not heard
        done = import_batches.import_bars("btc", {"4h": bars}, replace=True)
    finally:
        market_replaced.disconnect(hear)
    assert heard == ["btc"]
    assert (done.new, done.changed) == (600, 0)
    assert done.rows["4h"] == len(store.load_features("btc", "4h")) > 0
    assert done.rows["1h"] == 0  # its bars were generated, so they are gone
    assert store.sources("btc") == {Source.IMPORTED}
    assert store.sources("nifty") == {Source.GENERATED}


def test_replace_puts_new_bars_in_the_place_of_all_of_their_timeframe() -> None:
    bars = histories.four_hours(40)
    import_batches.import_bars("btc", {"4h": bars.slice(0, 30)})
    done = import_batches.import_bars("btc", {"4h": bars.slice(20)}, replace=True)
    assert done.new == 20
    assert same(store.load_bars("btc", "4h"), bars.slice(20))
    import_batches.undo_import("btc")
    assert same(store.load_bars("btc", "4h"), bars.slice(0, 30))


def test_an_import_computes_the_features_that_join_it() -> None:
    own = histories.hours(24 * 134)
    first = import_batches.import_bars("btc", {"1h": own}).rows
    assert first == {"1h": 0}  # they wait for their context
    second = import_batches.import_bars("btc", {"4h": histories.joined(own)}).rows
    assert set(second) == {"1h", "4h"} and all(second.values())


def test_an_import_can_be_taken_back_with_what_it_changed() -> None:
    bars = histories.four_hours(600)
    import_batches.import_bars("btc", {"4h": bars.slice(0, 500)}, file="first.csv")
    before, features = store.load_bars("btc", "4h"), store.load_features("btc", "4h")
    close = bars.close.copy()
    close[490:495] = bars.low[490:495]
    other = replace(bars, close=close).slice(480)
    done = import_batches.import_bars("btc", {"4h": other}, file="second.csv")
    assert (done.new, done.changed) == (100, 5)
    plan = import_batches.undo_import("btc", dry_run=True)
    assert (plan.bars, plan.restored) == (100, 5)
    assert len(store.load_bars("btc", "4h")) == 600, "a dry run changes nothing"
    removed = import_batches.undo_import("btc", done.number)
    assert (removed.bars, removed.restored) == (100, 5)
    assert same(store.load_bars("btc", "4h"), before)
    assert np.array_equal(store.load_features("btc", "4h").values, features.values)
    with pytest.raises(
        import_batches.CannotUndo, match=r"the newest import of btc is .*first\.csv"
    ):
        import_batches.undo_import("btc", done.number)
    import_batches.undo_import("btc")
    assert not Bar.on("btc").objects.exists()
    with pytest.raises(import_batches.CannotUndo, match="no import that could be undone"):
        import_batches.undo_import("btc")


def test_the_same_file_again_is_no_import() -> None:
    bars = histories.four_hours(40)
    assert import_batches.import_bars("btc", {"4h": bars}).number is not None
    assert import_batches.import_bars("btc", {"4h": bars}).number is None
    assert BarImport.on("btc").objects.count() == 1


def test_removed_bars_take_features_and_models_with_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bars = histories.four_hours(600)
    import_batches.import_bars("btc", {"4h": bars})
    rows = len(store.load_features("btc", "4h"))
    now = clock.real()
    versions = [
        ModelVersion.objects.create(
            slot=slot,
            number=1,
            run_id=1,
            state=state,
            path=f"{slot}/v1",
            manifest_sha256="0" * 64,
            trained_from=clock.from_seconds(int(bars.opens_at[first])),
            trained_until=clock.from_seconds(int(bars.closes_at[last])),
            created_at=now,
        )
        for slot, state, first, last in (
            ("btc-4h", "active", 0, 590),
            ("btc-1h", "active", 0, 500),
            ("nifty-1h", "active", 0, 590),
        )
    ]
    day = f"{clock.from_seconds(int(bars.opens_at[580])).date() + dt.timedelta(days=1)}"
    call_command("bars", "remove", "btc", "4h", "--from", day, "--dry-run")
    said = capsys.readouterr().out
    assert "Would remove" in said and "Dry run: nothing was changed." in said
    assert "btc-4h v1 learned from them and is set aside: its slot holds" in said
    assert "btc-1h" not in said.replace("of 1h", ""), "it had learned from none of them"
    assert len(store.load_bars("btc", "4h")) == 600
    with pytest.raises(CommandError, match="say --yes"):
        call_command("bars", "remove", "btc", "4h", "--from", day)
    call_command("bars", "remove", "btc", "4h", "--from", day, "--yes")
    left = store.load_bars("btc", "4h")
    assert same(left, bars.slice(0, len(left))) and len(left) < 590
    assert len(store.load_features("btc", "4h")) == rows - (600 - len(left))
    states = {each.slot: each.state for each in ModelVersion.objects.all()}
    assert states == {"btc-4h": "quarantined", "btc-1h": "active", "nifty-1h": "active"}
    assert versions


def test_bars_off_the_calendar_are_removed_and_no_others() -> None:
    bars = histories.four_hours(50)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    # As two anchors in one timeframe had left them.
    rows = Bar.on("btc").objects.order_by("opens_at")
    for row in rows[10:20]:
        shift = dt.timedelta(hours=1)
        Bar.on("btc").objects.filter(pk=row.pk).update(
            opens_at=row.opens_at - shift, closes_at=row.closes_at - shift
        )
    removed = import_batches.remove_bars("btc", "4h", off_calendar=True)
    assert removed.bars == 10
    store.require_on_calendar("btc", "4h", store.load_bars("btc", "4h"), store.load_calendar("btc"))
    assert not import_batches.remove_bars("btc", "4h", off_calendar=True).bars
