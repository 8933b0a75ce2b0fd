"""The live update: bars as they close, whatever the venues do meanwhile, and nothing lost."""

import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from django.test import override_settings

from markets.capture.bars import sources as bar_sources
from markets.models import Bar, BarGap, Source
from markets.simulator.board import Quoter
from tests.markets.capture.bars.desk import DATABASES, BarsDesk, bars_desk, open_gaps, stored
from tests.markets.simulator.broker import ist
from tradingsite import clock
from tradingsite.models import JobRun, Notice

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture
def desk(
    tmp_path: Path,
    set_market: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[BarsDesk]:
    """Return a desk in paper mode on Monday at ten, with the week before in the store."""
    # What stands beside the bars has its own tests.
    monkeypatch.setattr("markets.capture.exogenous.of_market", lambda market: [])
    paper = override_settings(MODE="paper")
    with paper, bars_desk(tmp_path, set_market, monkeypatch) as made:
        for market in ("nifty", "btc"):
            made.history(market, "2026-06-01 10:00", Source.VENUE)
        yield made


def differences(desk: BarsDesk, market: str, timeframe: str, start: str, end: str) -> list[str]:
    """Return what is stored after a close otherwise than the market made it, or that it did not."""
    made = desk.truth(market, timeframe, start, end)
    columns = (made.opens_at.tolist(), made.open.tolist(), made.close.tolist())
    right = {at: (first, last) for at, first, last in zip(*columns, strict=True)}
    kept = {at: each for at, each in stored(market, timeframe).items() if at >= min(right)}
    return [
        f"{clock.from_seconds(at).astimezone(clock.IST):%d %H:%M} {kept.get(at)} {right.get(at)}"
        for at in sorted(kept.keys() | right.keys())
        if kept.get(at) != right.get(at)
    ]


def test_a_bar_is_stored_at_its_close_and_the_forming_one_never(desk: BarsDesk) -> None:
    desk.go("2026-06-01 10:15")
    run = desk.fire()
    assert run and run.state == JobRun.State.DONE
    assert "NIFTY 2 new" in run.detail
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-01 10:15") == []
    assert differences(desk, "nifty", "1h", "2026-06-01 09:00", "2026-06-01 10:15") == []
    assert int(ist("2026-06-01 09:15")) not in stored("nifty", "1d")  # it is still forming
    assert set(Bar.on("nifty").objects.values_list("source", flat=True)) == {"venue"}
    desk.go("2026-06-01 10:16")
    assert desk.fire() is None  # nothing is due, and not even a record is kept
    assert open_gaps("nifty") == open_gaps("btc") == []


def test_a_whole_day_ends_in_the_very_bars_the_market_made(desk: BarsDesk) -> None:
    for market in ("nifty", "btc"):
        desk.history(market, "2026-06-01 12:30", Source.VENUE)
    for hour in range(13, 16):
        for minute in (0, 15, 30, 45):
            desk.go(f"2026-06-01 {hour}:{minute:02}")
            desk.fire()
    for timeframe in ("15m", "1h", "1d"):
        assert differences(desk, "nifty", timeframe, "2026-06-01 09:00", "2026-06-01 15:45") == []
    for timeframe in ("1h", "4h"):
        assert differences(desk, "btc", timeframe, "2026-05-31 23:30", "2026-06-01 15:45") == []
    assert not BarGap.on("nifty").objects.exists() and not BarGap.on("btc").objects.exists()


@pytest.mark.parametrize(
    "kind",
    ["unavailable", "server_error", "not_json", "reset", "rate_limit", "slow", "timeout"],
)
def test_a_fault_that_passes_costs_no_bar(desk: BarsDesk, kind: str) -> None:
    desk.go("2026-06-01 10:15")
    desk.fault(kind, times=2, seconds=0.02)
    run = desk.fire()
    assert run and run.state == JobRun.State.DONE
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-01 10:15") == []
    assert open_gaps("nifty") == []


def test_what_did_not_come_is_a_gap_until_it_comes(desk: BarsDesk) -> None:
    desk.go("2026-06-01 10:15")
    desk.fault("unavailable", times=1_000)
    run = desk.fire()
    assert run and "missing: 1 of 15m" in run.detail
    assert open_gaps("nifty") == ["15m 10:00", "1h 09:15"]
    assert "trouble of its own" in BarGap.on("nifty").objects.all()[0].reason
    notice = Notice.objects.get(key="bars:nifty")
    assert "manage.py bars gaps nifty" in notice.text and notice.severity == "warning"
    desk.go("2026-06-01 10:18")
    assert desk.fire() is None  # it is asked for again in two minutes
    desk.kite.broker.kite.faults.clear()
    desk.go("2026-06-01 10:20")
    run = desk.fire()
    assert run and "2 gaps filled" in run.detail
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-01 10:15") == []
    gap = BarGap.on("nifty").objects.get(timeframe="15m")
    assert gap.filled_at == desk.now
    assert Notice.objects.get(key="bars:nifty").resolved_at is not None
    assert open_gaps("nifty") == []


def test_an_expired_token_is_said_at_once_and_a_new_one_is_enough(desk: BarsDesk) -> None:
    desk.go("2026-06-01 10:15")
    desk.kite.broker.kite.sessions.expire()
    desk.fire()
    asked = [path for path in desk.kite.broker.kite.requests if "historical" in path]
    assert len(asked) == 2  # once for each timeframe: a dead token comes to life by no waiting
    assert "Sign in again" in BarGap.on("nifty").objects.all()[0].reason
    desk.kite.sign_in()
    desk.go("2026-06-01 10:30")
    desk.fire()
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-01 10:30") == []
    assert open_gaps("nifty") == []


def test_one_venue_that_hangs_holds_up_no_other(desk: BarsDesk) -> None:
    desk.go("2026-06-01 10:30")  # a bar of each market closes
    desk.exchange.faults.put("timeout", times=1_000, seconds=0.2)
    run = desk.fire()
    assert run and run.state == JobRun.State.DONE
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-01 10:30") == []
    assert open_gaps("btc") == ["1h 09:30"]
    desk.exchange.faults.clear()
    desk.go("2026-06-01 10:35")
    desk.fire()
    assert differences(desk, "btc", "1h", "2026-05-31 23:30", "2026-06-01 10:30") == []
    assert open_gaps("btc") == []


def test_a_corrected_bar_is_corrected_and_told(
    desk: BarsDesk, caplog: pytest.LogCaptureFixture
) -> None:
    bar = Bar.on("nifty").objects.filter(timeframe="15m").order_by("-opens_at")[1]
    right = bar.close
    bar.close = bar.close + 1
    bar.save()
    desk.go("2026-06-01 10:15")
    with caplog.at_level(logging.WARNING):
        run = desk.fire()
    bar.refresh_from_db()
    assert bar.close == right
    assert run and "1 corrected" in run.detail
    assert "said otherwise now" in caplog.text


def test_the_daily_bar_is_the_daily_sources_own(
    desk: BarsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = Quoter.history

    def official(self: Quoter, row: object, seconds: int, start: float, end: float) -> object:
        """Close the day at the exchange's average, which no bar within the day ends at."""
        bars, interest = history(self, row, seconds, start, end)  # type: ignore[arg-type]
        if seconds == 86_400 and len(bars):
            bars.close[-1] = np.round((bars.high[-1] + bars.low[-1]) / 2.0, 2)
        return bars, interest

    monkeypatch.setattr(Quoter, "history", official)
    desk.go("2026-06-01 15:30")
    desk.fire()
    day = Bar.on("nifty").objects.filter(timeframe="1d").order_by("-opens_at")[0]
    last = Bar.on("nifty").objects.filter(timeframe="15m").order_by("-opens_at")[0]
    assert day.opens_at.timestamp() == ist("2026-06-01 09:15")
    assert last.closes_at == day.closes_at
    assert day.close == ((day.high + day.low) / 2).quantize(Decimal("0.01"))
    assert day.close != last.close


def test_a_day_told_late_is_read_again(desk: BarsDesk) -> None:
    desk.go("2026-06-01 15:30")
    desk.fire()
    day = Bar.on("nifty").objects.filter(timeframe="1d").order_by("-opens_at")[0]
    right, day.close = day.close, day.low
    day.save()
    for minute, again in (("15:31", False), ("15:35", True)):
        desk.go(f"2026-06-01 {minute}")
        assert (desk.fire() is not None) == again
    day.refresh_from_db()
    assert day.close == right


def test_a_step_of_the_clock_loses_nothing(desk: BarsDesk) -> None:
    desk.go("2026-06-03 12:07")  # two days later at once
    desk.fire()
    for timeframe in ("15m", "1h", "1d"):
        assert differences(desk, "nifty", timeframe, "2026-06-01 09:00", "2026-06-03 12:07") == []
    desk.go("2026-06-03 11:00")  # and back
    assert desk.fire() is None
    desk.go("2026-06-03 12:15")
    desk.fire()
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-03 12:15") == []
    assert open_gaps("nifty") == []


def test_nothing_is_due_on_a_holiday(desk: BarsDesk) -> None:
    desk.history("nifty", "2026-06-25 15:30", Source.VENUE)
    desk.history("btc", "2026-06-26 10:30", Source.VENUE)
    desk.go("2026-06-26 10:45")
    assert desk.fire() is None
    assert open_gaps("nifty") == []


def test_a_market_without_bars_is_left_to_the_backfill(desk: BarsDesk) -> None:
    Bar.on("nifty").objects.all().delete()
    desk.go("2026-06-01 10:15")
    assert desk.fire() is None


def test_old_prices_on_show_touch_no_bar(desk: BarsDesk) -> None:
    desk.exchange.faults.put("stale_prices", seconds=1)
    desk.kite.fault("stale_prices", seconds=600)
    for market, name in (("btc", "BTC-PERP"), ("nifty", "NIFTY")):
        assert bar_sources.venue_of(market).quotes([name])
    desk.go("2026-06-01 10:30")
    desk.fire()
    assert differences(desk, "btc", "1h", "2026-05-31 23:30", "2026-06-01 10:30") == []
    assert differences(desk, "nifty", "15m", "2026-06-01 09:00", "2026-06-01 10:30") == []
