"""The simulated market: its clock's pace, its history, and what one loop does."""

import datetime as dt
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path as FilePath

import numpy as np
import psycopg
import pytest
from django.db import connections

from markets import store
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.features import schema_for
from markets.domain.price_panel import build_price_panel
from markets.models import Bar, Quote, Reading, Source
from markets.simulator import history, market, pace
from markets.simulator.market import Feed, Simulator
from markets.simulator.pace import ClockKeeper, Pace
from markets.simulator.price_path import PricePath
from markets.venues.paper import PaperVenue
from tests.desk import calendar_of, ist
from tradingsite import clock, locks
from tradingsite.clock import FROZEN_AFTER_SECONDS, Anchor, Epoch, SimulatedClock
from tradingsite.locks import ProcessLock
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision.heartbeat import Beat

SetMarket = Callable[..., None]
SHORT = {"15m": 0.4, "1h": 0.5, "4h": 0.5, "1d": 1.5}
databases = pytest.mark.django_db(databases=["nifty", "btc", "default"])


@pytest.fixture(scope="module")
def nifty_path() -> PricePath:
    return PricePath.build("nifty", calendar_of("nifty"))


@pytest.fixture(scope="module")
def btc_path() -> PricePath:
    return PricePath.build("btc", calendar_of("btc"))


@pytest.fixture
def nse() -> NseCalendar:
    return NseCalendar(nse_sessions())


@pytest.mark.parametrize(
    ("when", "speed"),
    [
        ("2026-06-01 09:00", 48.0),
        ("2026-06-01 20:59", 48.0),
        ("2026-06-01 21:00", 480.0),
        ("2026-06-02 03:00", 480.0),
        ("2026-06-02 08:50", 120.0),
        ("2026-06-02 08:59", 48.0),
        ("2026-06-06 12:00", 480.0),  # a Saturday
        ("2026-06-26 12:00", 480.0),  # a holiday
    ],
)
def test_days_run_slowly_and_nights_quickly(nse: NseCalendar, when: str, speed: float) -> None:
    assert Pace(nse, 48.0, 480.0).speed_at(ist(when).timestamp()) == speed


def test_however_late_a_loop_comes_night_speed_never_enters_a_day(nse: NseCalendar) -> None:
    pacing = Pace(nse, 48.0, 480.0)
    day_starts = ist("2026-06-02 09:00").timestamp()
    at = ist("2026-06-02 06:00").timestamp()
    while at < day_starts:
        # The longest a reader's clock can run on before the next rewrite.
        after = at + pacing.speed_at(at) * FROZEN_AFTER_SECONDS
        assert after <= day_starts + 48.0 * FROZEN_AFTER_SECONDS
        at += pacing.speed_at(at) * 0.4


def test_the_kept_clock_never_goes_back_and_freezes_for_good(
    nse: NseCalendar, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: real[0])
    simulated = SimulatedClock(tmp_path / "clock.json")
    start = ist("2026-06-01 20:58").timestamp()
    simulated.write(Anchor(start, real[0], 48.0))
    keeper = ClockKeeper(simulated, Pace(nse, 48.0, 480.0))
    seen = [keeper.now()]
    for passed in (0.4, 0.4, 0.4, 3.0, 12.0, -60.0, 0.4, 0.4):
        real[0] += passed
        keeper.advance()
        seen.append(keeper.now())
    assert seen == sorted(seen)
    assert keeper.speed == 480.0
    keeper.freeze()
    stopped = keeper.now()
    real[0] += 1_000.0
    assert keeper.now() == stopped == seen[-1]


def test_a_second_start_goes_on_from_the_first(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = SimulatedClock(tmp_path / "clock.json")
    monkeypatch.setattr(clock, "_simulated", simulated)
    pace.start_clock()
    assert simulated.anchor().market == ist("2026-06-01 09:00").timestamp()  # type: ignore[union-attr]
    later = Anchor(ist("2026-06-03 10:00").timestamp(), 0.0, 48.0)
    simulated.write(later)
    pace.start_clock()
    assert simulated.anchor() == later


def test_stored_bars_keep_a_lost_clock_from_going_back(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = SimulatedClock(tmp_path / "clock.json")
    monkeypatch.setattr(clock, "_simulated", simulated)
    newest = int(ist("2026-06-04 15:30").timestamp())
    pace.start_clock(Epoch(newest))
    assert simulated.anchor().market == newest  # type: ignore[union-attr]


@databases
def test_history_is_whole_repeatable_and_says_how_far_it_is(
    set_market: SetMarket, btc_path: PricePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "YEARS", SHORT)
    set_market(ist("2026-06-01 09:00"))
    assert history.needs_history("btc")
    told: list[tuple[str, int, int]] = []
    written = history.make_history("btc", report=lambda *step: told.append(step), path=btc_path)
    assert written == Bar.on("btc").objects.count() == 4382 + 1094
    assert [what for what, rows, total in told if rows == total] == [
        "btc 1h bars",
        "btc 4h bars",
        "btc FUNDING",
    ]
    assert Reading.on("btc").objects.filter(source=Source.GENERATED).count() > 4382
    values = store.load_features("btc", "1h").values
    names = schema_for("btc", "1h").names
    for name in ("funding", "funding_mean"):
        assert values[:, names.index(name)].std() > 0.1, name
    assert {what for what, _, _ in told} >= {"btc 1h features", "btc 4h features"}
    assert not history.needs_history("btc")
    # A market made before there were readings beside its bars is made whole.
    kept = list(Reading.on("btc").objects.all())
    Reading.on("btc").objects.all().delete()
    assert history.needs_history("btc")
    Reading.on("btc").objects.bulk_create(kept)
    assert not history.needs_history("btc")
    newest = store.load_bars("btc", "1h").slice(-1)
    assert newest.closes_at[0] == ist("2026-06-01 08:30").timestamp()
    assert store.last_quote("btc").price == Decimal(repr(float(newest.close[0])))  # type: ignore[union-attr]
    assert history.make_history("btc", path=btc_path) == written
    assert Bar.on("btc").objects.count() == written


def put_history(name: str, path: PricePath, until: str, monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(history, "YEARS", SHORT)
    history.make_history(name, until=clock.epoch(ist(until)), path=path)
    return Feed.of(name, store.load_calendar(name), path)


@databases
def test_a_loop_stores_bars_and_their_features_and_quotes_the_near_future(
    set_market: SetMarket, nifty_path: PricePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_market(ist("2026-06-01 14:59"))
    feed = put_history("nifty", nifty_path, "2026-06-01 14:59", monkeypatch)
    venue = PaperVenue("nifty", calendar_of("nifty"))
    front = "NIFTY 2026-06-30 FUT"
    venue.place("T1A", front, Decimal(65), 1.0)
    at = ist("2026-06-01 15:16").timestamp()
    feed.step(at)
    for timeframe, closes in (("15m", "15:15"), ("1h", "15:15"), ("1d", None)):
        bars, rows = store.load_bars("nifty", timeframe), store.load_features("nifty", timeframe)
        assert bars.closes_at[-1] == rows.closes_at[-1]
        if closes:
            assert bars.closes_at[-1] == ist(f"2026-06-01 {closes}").timestamp()
    spot = nifty_path.price(at)
    assert spot is not None
    bar = nifty_path.bars("15m", Epoch(int(at) - 5000), Epoch(at)).slice(-1)
    panel = build_price_panel("nifty", bar, calendar_of("nifty"), slippage_bps=1.0)
    quote = store.last_quote("nifty")
    assert quote is not None
    assert float(quote.price) == pytest.approx(spot * panel.close[0] / bar.close[0], abs=1e-4)
    assert Quote.on("nifty").objects.get(instrument=front).price == quote.price
    assert venue.trades(ist("2026-06-01 00:00"))[0].price == (
        quote.price * Decimal("1.0001")
    ).quantize(Decimal("0.0001"))
    assert feed.close_bars(Epoch(at)) == {}
    assert feed.close_bars(Epoch(ist("2026-06-01 15:30").timestamp())) == {
        "1d": 1,
        "1h": 1,
        "15m": 1,
    }
    feed.step(ist("2026-06-01 15:31").timestamp())
    assert feed.says == "nifty closed"
    assert store.last_quote("nifty").at == quote.at  # type: ignore[union-attr]


@databases
def test_bars_missed_while_it_was_away_are_the_very_same(
    set_market: SetMarket, btc_path: PricePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_market(ist("2026-06-01 09:00"))
    feed = put_history("btc", btc_path, "2026-06-01 09:00", monkeypatch)
    until = int(ist("2026-06-03 09:00").timestamp())
    assert feed.is_ours()
    assert feed.close_bars(Epoch(until)) == {"4h": 12, "1h": 48}
    stored = store.load_bars("btc", "1h", Epoch(until - 72 * 3600), Epoch(until))
    path_bars = btc_path.bars("1h", Epoch(stored.opens_at[0]), Epoch(until))
    assert np.array_equal(stored.close, path_bars.close)
    assert len(stored) == 72


@databases
def test_an_imported_market_is_left_alone_and_said_so_once(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    set_market(ist("2026-06-01 09:00"))
    bars = btc_path.bars("1h", Epoch(1_700_000_000), Epoch(1_700_100_000))
    store.save_bars("btc", "1h", bars, Source.IMPORTED)
    feed = Feed.of("btc", store.load_calendar("btc"), btc_path)
    for _ in range(3):
        feed.step(ist("2026-06-01 10:00").timestamp())
    assert Bar.on("btc").objects.count() == len(bars)
    assert store.last_quote("btc") is None
    assert feed.says == "btc left alone, its bars are imported"
    assert Notice.objects.get(key="simulator:btc").count == 1
    with pytest.raises(ValueError, match="imported bars"):
        history.make_history("btc", path=btc_path)


@databases
def test_a_market_of_imported_bars_is_lived_through_where_the_clock_is_among_them(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    at = 1_700_050_100
    set_market(dt.datetime.fromtimestamp(at, dt.UTC))
    bars = btc_path.bars("1h", Epoch(1_700_000_000), Epoch(1_700_100_000))
    store.save_bars("btc", "1h", bars, Source.IMPORTED)
    feed = Feed.of("btc", store.load_calendar("btc"), btc_path)
    feed.step(at)
    quote = store.last_quote("btc")
    bar = int(np.searchsorted(bars.opens_at, at, side="right")) - 1
    assert quote is not None
    assert bars.low[bar] <= float(quote.price) <= bars.high[bar]
    assert feed.prices_at(at) is feed.stored
    assert Bar.on("btc").objects.count() == len(bars), "they are there already"
    assert not Notice.objects.exists()
    feed.step(1_700_200_000)
    assert feed.says == "btc left alone, its bars are imported"
    assert feed.prices_at(1_700_200_000) is btc_path


@databases
def test_at_the_paths_end_market_time_stands_still(
    set_market: SetMarket, btc_path: PricePath, nse: NseCalendar
) -> None:
    end = dt.datetime.fromtimestamp(btc_path.ends_at, dt.UTC)
    set_market(end, speed=48.0)
    simulated = clock.simulated()
    assert simulated is not None
    feed = Feed.of("btc", store.load_calendar("btc"), btc_path)
    keeper = ClockKeeper(simulated, Pace(nse, 48.0, 480.0))
    simulator = Simulator([feed], keeper, Beat("simulator"), ProcessLock("a test", "default"))
    before = simulated.anchor()
    simulator.step()
    assert simulated.anchor() == before
    assert Heartbeat.objects.get(service="simulator").state == "ended"
    assert market.newest_close("btc") == 0


@databases
def test_a_second_simulator_waits_and_leaves_the_clock_alone(
    set_market: SetMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    set_market(ist("2026-06-01 10:00"))
    before = clock.simulated().anchor()  # type: ignore[union-attr]
    one = connections["default"].settings_dict
    with psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname=one["NAME"],
    ) as first:
        first.execute(
            "SELECT pg_advisory_lock(%s)", [locks.ProcessLock("simulator", "default").key]
        )
        with pytest.raises(locks.LockHeld, match="the lock of the simulator is held by"):
            market.Simulator.start(Beat("simulator"))
    assert clock.simulated().anchor() == before  # type: ignore[union-attr]
