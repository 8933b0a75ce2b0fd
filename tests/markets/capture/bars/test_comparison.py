"""The simulated desk: its collector compares, writes no bar, and says what is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from markets import store
from markets.capture.bars import comparison
from markets.models import Bar, BarGap, Source
from tests.markets.capture.bars.desk import DATABASES, BarsDesk, bars_desk, open_gaps
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture
def desk(
    tmp_path: Path, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[BarsDesk]:
    """Return a simulated desk on Monday at ten, where the collector has looked once."""
    monkeypatch.setattr("markets.capture.exogenous.of_market", lambda market: [])
    monkeypatch.setattr(comparison, "STORED_WITHIN_SECONDS", 0.2)
    with bars_desk(tmp_path, set_market, monkeypatch) as made:
        for market in ("nifty", "btc"):
            made.history(market, "2026-06-01 10:00", Source.GENERATED)
        assert made.fire() is None  # the first look only starts from there
        yield made


def simulator_stores(desk: BarsDesk, market: str, until: str) -> None:
    """Store what the simulator would have by now."""
    for timeframe in ("15m", "1h") if market == "nifty" else ("1h",):
        bars = desk.truth(market, timeframe, "2026-06-01 09:59", until)
        store.save_bars(market, timeframe, bars, Source.GENERATED)


def test_the_bars_of_both_ways_are_the_same(desk: BarsDesk) -> None:
    desk.go("2026-06-01 10:30")
    simulator_stores(desk, "nifty", "2026-06-01 10:30")
    simulator_stores(desk, "btc", "2026-06-01 10:30")
    before = Bar.on("nifty").objects.count()
    run = desk.fire()
    assert run and "NIFTY 3 alike" in run.detail and "BTC 1 alike" in run.detail
    assert Bar.on("nifty").objects.count() == before
    assert not Notice.objects.exists() and not BarGap.on("nifty").objects.exists()
    assert desk.fire() is None  # once is enough


def test_a_bar_that_was_not_stored_is_a_gap_until_it_is(desk: BarsDesk) -> None:
    desk.go("2026-06-01 10:15")
    before = Bar.on("nifty").objects.count()
    run = desk.fire()
    assert run and "1 of 15m not stored" in run.detail
    assert open_gaps("nifty") == ["15m 10:00", "1h 09:15"]
    assert Notice.objects.get(key="bars:nifty").severity == "warning"
    assert Bar.on("nifty").objects.count() == before  # nothing of it was written
    simulator_stores(desk, "nifty", "2026-06-01 10:30")
    desk.go("2026-06-01 10:30")
    desk.fire()
    assert open_gaps("nifty") == []
    assert Notice.objects.get(key="bars:nifty").resolved_at is not None


def test_a_bar_at_other_prices_is_told_and_left(desk: BarsDesk) -> None:
    simulator_stores(desk, "nifty", "2026-06-01 10:15")
    row = Bar.on("nifty").objects.filter(timeframe="15m").order_by("-opens_at")[0]
    row.high += 1
    row.save()
    desk.go("2026-06-01 10:15")
    run = desk.fire()
    assert run and "1 of 15m at other prices" in run.detail
    wrong = row.high
    row.refresh_from_db()
    assert row.high == wrong
    assert "Nothing was changed" in Notice.objects.get(key="bars:nifty").text


def test_what_could_not_be_read_is_only_told(desk: BarsDesk) -> None:
    simulator_stores(desk, "nifty", "2026-06-01 10:15")
    desk.go("2026-06-01 10:15")
    desk.kite.broker.kite.sessions.expire()
    run = desk.fire()
    assert run and "Sign in again" in run.detail
    assert Notice.objects.get(key="bars:nifty").severity == "info"
    assert open_gaps("nifty") == []


def test_imported_bars_are_not_compared(desk: BarsDesk) -> None:
    Bar.on("nifty").objects.update(source=Source.IMPORTED)
    desk.go("2026-06-01 10:15")
    assert desk.fire() is None
