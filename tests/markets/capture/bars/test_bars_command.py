"""bars gaps, repair and backfill, as a person types them."""

import datetime as dt
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from markets import store
from markets.capture.bars import backfill, polling
from markets.capture.bars import policy as collection_policy
from markets.domain.bar_rule import Span
from markets.models import Bar, BarGap, Feature, Reading, Source
from markets.venues.kite import venue as kite_venue
from tests.markets.capture.bars.desk import DATABASES, BarsDesk, bars_desk, open_gaps
from tests.markets.simulator.broker import ist
from tradingsite.clock import Epoch

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture
def desk(
    tmp_path: Path, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[BarsDesk]:
    """Return a desk in paper mode on Monday at ten, without a bar."""
    monkeypatch.setattr(polling, "pause", lambda seconds: None)
    with override_settings(MODE="paper"), bars_desk(tmp_path, set_market, monkeypatch) as made:
        yield made


def bars(*words: str) -> str:
    """Return what the command says."""
    out = StringIO()
    call_command("bars", *words, stdout=out)
    return " ".join(out.getvalue().split())


def asked(desk: BarsDesk) -> int:
    return sum("historical" in path for path in desk.kite.broker.kite.requests)


def drop(timeframe: str, *opens: str) -> None:
    rows = Bar.on("nifty").objects.filter(timeframe=timeframe)
    assert rows.filter(opens_at__in=[dt.datetime.fromtimestamp(ist(each), dt.UTC) for each in opens
                                     ]).delete()[0] == len(opens)  # fmt: skip


@pytest.fixture
def short_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the broker's requests span a tenth of what they do, to ask for a tenth as much."""
    assert kite_venue.INTERVALS["15m"] == ("15minute", 900, 200)
    monkeypatch.setitem(kite_venue.INTERVALS, "15m", ("15minute", 900, 20))


def test_history_comes_in_pieces_and_again_changes_nothing(
    desk: BarsDesk, short_requests: None
) -> None:
    said = bars("backfill", "nifty", "15m", "--from", "2026-05-04")
    # 28 days of bars, and of India VIX, 20 a request; its daily closes come along in one.
    assert asked(desk) == 2 + 2 + 1
    truth = desk.truth("nifty", "15m", "2026-05-04 09:00", "2026-06-01 10:00")
    found = store.load_bars("nifty", "15m")
    assert np.array_equal(found.opens_at, truth.opens_at)
    assert np.array_equal(found.close, truth.close) and np.array_equal(found.high, truth.high)
    assert f"{len(truth):,} bars new, 0 corrected" in said
    assert set(Bar.on("nifty").objects.values_list("source", flat=True)) == {"venue"}
    assert int(found.closes_at[-1]) == int(ist("2026-06-01 10:00"))  # the next one is forming
    readings = Reading.on("nifty").objects.count()
    assert readings > 400
    assert "0 bars new, 0 corrected" in bars("backfill", "nifty", "15m", "--from", "2026-05-04")
    assert Reading.on("nifty").objects.count() == readings


def test_a_backfill_makes_the_features(desk: BarsDesk) -> None:
    desk.kite.go("2026-04-03 10:00")
    said = bars("backfill", "btc", "--from", "2026-02-20", "--to", "2026-04-02")
    rows = {each: Feature.on("btc").objects.filter(timeframe=each).count() for each in ("1h", "4h")}
    assert rows["4h"] > 0 and rows["1h"] >= 40, said
    before = list(Feature.on("btc").objects.order_by("timeframe", "opens_at").values_list("values"))
    for timeframe in ("4h", "1h"):
        store.rebuild_features("btc", timeframe)
    after = list(Feature.on("btc").objects.order_by("timeframe", "opens_at").values_list("values"))
    assert after == before


def test_a_backfill_that_breaks_off_keeps_what_came_and_goes_on(
    desk: BarsDesk, short_requests: None
) -> None:
    requests = desk.kite.broker.kite.requests

    def breaks_off(done: int, total: int) -> None:
        desk.fault("unavailable", times=backfill.TRIES)

    start, end = int(ist("2026-05-04 00:00")), int(ist("2026-06-01 10:00"))
    with pytest.raises(backfill.Retry):
        backfill.backfill(
            "nifty", "15m", Epoch(start), Epoch(end), collection_policy.current_policy(), breaks_off
        )
    first = Bar.on("nifty").objects.count()
    assert 300 < first < 400
    requests.clear()
    desk.fault("reset", times=2)  # tried again by itself
    said = bars("backfill", "nifty", "15m", "--from", "2026-05-04")
    truth = desk.truth("nifty", "15m", "2026-05-04 09:00", "2026-06-01 10:00")
    assert f"{len(truth) - first:,} bars new" in said
    assert Bar.on("nifty").objects.count() == len(truth)


def test_the_days_of_a_special_session_come_as_they_were(desk: BarsDesk) -> None:
    bars("backfill", "nifty", "--from", "2024-10-30", "--to", "2024-11-04")
    muhurat = Bar.on("nifty").objects.get(timeframe="1d", opens_at__date="2024-11-01")
    assert muhurat.opens_at.timestamp() == ist("2024-11-01 18:00")
    assert muhurat.closes_at.timestamp() == ist("2024-11-01 19:00")
    hour = Bar.on("nifty").objects.filter(timeframe="15m", opens_at__date="2024-11-01")
    assert [f"{row.opens_at:%H:%M}" for row in hour.order_by("opens_at")][-4:] == [
        *("12:30", "12:45", "13:00", "13:15")
    ]


def test_gaps_are_listed_and_repaired(desk: BarsDesk) -> None:
    assert "no bars yet" in bars("gaps", "nifty")
    assert "manage.py bars backfill nifty" in bars("gaps", "nifty")
    desk.history("nifty", "2026-06-01 10:00", Source.VENUE)
    assert "manage.py bars repair" not in bars("gaps", "nifty")
    drop("15m", "2026-05-27 11:00", "2026-05-27 11:15", "2026-05-29 15:15", "2026-06-01 09:30")
    said = bars("gaps", "nifty", "15m")
    assert "11:15, 2 bars" in said
    assert "Ask for them again with `manage.py bars repair nifty`" in said
    before = asked(desk)
    said = bars("repair", "nifty", "15m", "--dry-run")
    assert said.count("would ask for") == 1 and "nothing was changed" in said
    assert asked(desk) == before
    said = bars("repair", "nifty", "15m")
    assert "4 of 4 missing bars came, 0 are still missing" in said
    assert asked(desk) == before + 1
    assert "nothing is missing" in bars("repair", "nifty", "15m")


def test_a_repair_fills_the_gaps_that_were_noted(desk: BarsDesk) -> None:
    desk.history("nifty", "2026-06-01 10:00", Source.VENUE)
    drop("1h", "2026-05-29 10:15")
    at = dt.datetime.fromtimestamp(ist("2026-05-29 10:15"), dt.UTC)
    BarGap.on("nifty").objects.create(
        timeframe="1h", opens_at=at, found_at=at, reason="the broker had trouble"
    )
    assert "the broker had trouble" in bars("gaps", "nifty")
    bars("repair", "nifty")
    assert open_gaps("nifty") == []


def test_missing_bars_far_apart_are_asked_for_apart(desk: BarsDesk) -> None:
    day = 86_400
    far = [
        Span(Epoch(0), Epoch(900), 2),
        Span(Epoch(30 * day), Epoch(30 * day), 1),
        Span(Epoch(250 * day), Epoch(250 * day), 1),
    ]
    assert backfill.plan("nifty", "15m", far) == [
        (0, 30 * day + 900),
        (250 * day, 250 * day + 900),
    ]


def test_what_the_venue_does_not_have_is_a_gap(
    desk: BarsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = backfill.storage.upsert

    def holed(market: str, found: dict[str, Any], source: str, **how: bool) -> object:
        return upsert(
            market, {name: each.slice(0, 5) for name, each in found.items()}, source, **how
        )

    monkeypatch.setattr(backfill.storage, "upsert", holed)
    said = bars("backfill", "nifty", "1h", "--from", "2026-05-29", "--to", "2026-05-29")
    assert open_gaps("nifty") == ["1h 14:15", "1h 15:15"]
    assert "the venue left it out of its history" in said


def test_bars_of_another_source_stay_unless_they_are_to_go(desk: BarsDesk) -> None:
    desk.history("btc", "2026-06-01 10:00", Source.GENERATED)
    with pytest.raises(CommandError, match="--replace"):
        bars("backfill", "btc", "1h", "--from", "2026-05-30")
    assert set(Bar.on("btc").objects.values_list("source", flat=True)) == {"generated"}
    bars("backfill", "btc", "1h", "--from", "2026-05-30", "--replace")
    assert set(Bar.on("btc").objects.values_list("source", flat=True)) == {"venue"}


def test_in_the_simulated_desk_only_what_is_missing_is_filled(desk: BarsDesk) -> None:
    desk.history("btc", "2026-06-01 10:00", Source.GENERATED)
    row = Bar.on("btc").objects.filter(timeframe="1h").order_by("opens_at")[20]
    Bar.on("btc").objects.filter(pk=row.pk).delete()
    volumes = dict(Bar.on("btc").objects.values_list("pk", "volume"))
    with override_settings(MODE="simulated"):
        assert "1 of 1 missing bars came" in bars("repair", "btc", "1h")
    assert set(Bar.on("btc").objects.values_list("source", flat=True)) == {"generated"}
    assert volumes.items() <= dict(Bar.on("btc").objects.values_list("pk", "volume")).items()


def test_a_dead_token_is_said_with_what_to_do(desk: BarsDesk) -> None:
    desk.kite.broker.kite.sessions.expire()
    with pytest.raises(CommandError, match="Sign in again at /kite/"):
        bars("backfill", "nifty", "1d", "--from", "2026-05-01")
    with pytest.raises(CommandError, match="no 4h bars"):
        bars("gaps", "nifty", "4h")
