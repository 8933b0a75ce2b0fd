"""The collector on the real client and the simulated broker, held to what the broker shows."""

import datetime as dt
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.db import connections

from markets.options import collector as collecting
from markets.options.chain import CHAINS
from markets.options.collector import Collector, TooLate
from markets.options.models import CollectedMinute, Gap, Instrument, Quote
from markets.simulator.listing import Listing
from markets.venues.base import MarketQuote, TokenRefused
from markets.venues.kite import calls as kite_calls
from tests.markets.options.desk import (
    CALENDAR,
    FEW_OPTIONS,
    MONDAY,
    OptionsDesk,
    drop_days,
    options_desk,
    stored,
)
from tests.markets.simulator.broker import ist
from tradingsite import clock

pytestmark = pytest.mark.django_db(databases=["options"])
CALL = "NFO:NIFTY2660224000CE"
NAME = "NIFTY 2026-06-02 24000 CE"


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[OptionsDesk]:
    with options_desk(tmp_path, set_market) as made:
        yield made


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "pause", lambda seconds: None)
    monkeypatch.setattr(kite_calls, "COOL_DOWN_SECONDS", 0.1)


def gaps_at(at: str) -> dict[str, str]:
    """Return the open gaps of a minute by instrument, "all" for the whole of it."""
    found = Gap.objects.filter(ts=clock.from_seconds(ist(at)), filled_at__isnull=True)
    return {gap.instrument.name if gap.instrument else "all": gap.reason for gap in found}


def waits(desk: OptionsDesk) -> int:
    return len(desk.collector.spool.waiting())


# --- Good minutes ---------------------------------------------------------------------------------


def test_what_is_stored_is_what_the_broker_shows(desk: OptionsDesk) -> None:
    desk.collector = desk.another(CHAINS)
    for at in ("2026-06-01 10:00", "2026-06-01 10:01"):
        outcome = desk.minute(at)
        rows = stored(at)
        assert outcome.stored == len(rows) >= 731 and outcome.missing == 0
        shown = desk.sent()
        assert {key: shown[key] for key in rows} == rows
        assert gaps_at(at) == {}
    asked = [path for path in desk.kite.broker.kite.requests if path == "GET /quote"]
    assert len(asked) == 1 + 2 * 2  # the first minute asks for the spots
    assert waits(desk) == 0
    at_the_money = Quote.objects.filter(instrument__name=NAME).order_by("ts").first()
    assert at_the_money and 800 < at_the_money.iv < 2_500 and abs(at_the_money.age) <= 60
    assert Quote.objects.filter(iv=0).count() < 200  # those that are worth a tick or nothing
    minute = CollectedMinute.objects.latest("ts")
    assert (minute.asked, minute.stored, minute.quarantined) == (len(rows), len(rows), 0)


def test_the_same_minute_is_stored_once_whoever_collects_it(desk: OptionsDesk) -> None:
    at = "2026-06-01 10:00"
    first = desk.minute(at)
    before = stored(at)
    assert desk.minute(at).stored == 0
    assert desk.another().collect(clock.from_seconds(ist(at))).stored == 0
    assert stored(at) == before and len(before) == first.stored
    assert CollectedMinute.objects.get().stored == first.stored


def test_what_one_collector_missed_the_other_fills(desk: OptionsDesk) -> None:
    at = "2026-06-01 10:00"
    desk.kite.fault("missing_quotes", match=CALL)
    desk.minute(at)
    assert gaps_at(at) == {NAME: collecting.NO_QUOTE}
    assert desk.another().collect(clock.from_seconds(ist(at))).stored == 1
    assert gaps_at(at) == {}
    assert Gap.objects.get(instrument__name=NAME).filled_at is not None


# --- What the broker can do wrong -----------------------------------------------------------------


def test_a_missing_and_an_absurd_quote_are_gaps_with_their_reasons(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    at = "2026-06-01 10:01"
    absurd = "NFO:NIFTY2660224000PE"
    desk.kite.fault("missing_quotes", match=CALL)
    desk.kite.fault("absurd_price", match=absurd)
    outcome = desk.minute(at)
    assert (outcome.missing, outcome.quarantined) == (2, 1)
    found = gaps_at(at)
    assert found.pop(NAME) == collecting.NO_QUOTE
    assert found.pop("NIFTY 2026-06-02 24000 PE").startswith("absurd: ")
    assert found == {}
    rows = stored(at)
    assert not {CALL, absurd} & set(rows)
    shown = desk.sent()
    assert {key: shown[key] for key in rows} == rows
    assert desk.minute("2026-06-01 10:02").missing == 0


def test_an_absurd_index_moves_no_strikes(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.kite.fault("absurd_price", match="NSE:NIFTY 50")
    assert desk.minute("2026-06-01 10:01").quarantined == 1
    assert gaps_at("2026-06-01 10:01")["NIFTY"].startswith("absurd: ")
    after = desk.minute("2026-06-01 10:02")
    assert after.missing == 0 and after.stored < 90


def test_quotes_that_stand_still_become_stale(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.kite.fault("stale_prices", seconds=600)
    desk.minute("2026-06-01 10:01")  # from here on the broker repeats itself
    indices = {"NIFTY", "BANKNIFTY", "SENSEX"}
    desk.minute("2026-06-01 10:03")
    assert set(gaps_at("2026-06-01 10:03")) == indices
    assert all("stale" in reason for reason in gaps_at("2026-06-01 10:03").values())
    outcome = desk.minute("2026-06-01 10:07")
    assert outcome.reason.startswith("stale: the venue's own time is 360 s before the minute")
    assert list(gaps_at("2026-06-01 10:07")) == ["all"]
    assert stored("2026-06-01 10:07") == {}
    assert {"2026-06-01 10:02"} <= {
        f"{gap.ts.astimezone(clock.IST):%Y-%m-%d %H:%M}"
        for gap in Gap.objects.filter(instrument=None)
    }


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "not_json", "reset", "rate_limit"])
def test_one_bad_answer_is_asked_for_again(desk: OptionsDesk, kind: str) -> None:
    desk.minute("2026-06-01 10:00")
    desk.kite.fault(kind, match="GET /quote")
    outcome = desk.minute("2026-06-01 10:01")
    assert outcome.missing == 0 and outcome.stored > FEW_OPTIONS


def test_a_broker_that_stays_away_is_a_gap_and_costs_that_minute_only(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.kite.fault("unavailable", times=3, match="GET /quote")
    outcome = desk.minute("2026-06-01 10:01")
    assert outcome.stored == 0 and outcome.reason.startswith("no answer: ")
    assert gaps_at("2026-06-01 10:01")["all"].startswith("no answer: ")
    assert desk.minute("2026-06-01 10:02").missing == 0


def test_a_refused_token_is_a_gap_and_an_error(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.go("2026-06-01 10:01")
    desk.kite.tokens.save("wrong", "AB1234")
    with pytest.raises(TokenRefused):
        desk.collector.collect(clock.from_seconds(ist("2026-06-01 10:01")))
    assert gaps_at("2026-06-01 10:01")["all"].startswith("no token: ")


@pytest.mark.parametrize("answered", ["10:00:40", "10:01:10"])
def test_a_slow_minute_says_where_the_time_went(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch, answered: str
) -> None:
    desk.minute("2026-06-01 09:59")
    desk.go("2026-06-01 10:00:05")
    real = desk.collector.venue.quotes

    def quotes(names: Collection[str]) -> dict[str, MarketQuote]:
        found = real(names)
        desk.kite.go(f"2026-06-01 {answered}")
        return found

    monkeypatch.setattr(desk.collector.venue, "quotes", quotes)
    outcome = desk.collector.collect(clock.from_seconds(ist("2026-06-01 10:00")))
    if answered == "10:00:40":
        assert outcome.stored and str(outcome).endswith("35 s, before it began 5 s")
        assert f"slow: {FEW_OPTIONS + 3} quotes 35 s" in str(outcome)
    else:
        [reason] = gaps_at("2026-06-01 10:00").values()
        assert reason.startswith("too slow: the answer came 70 s after (")
        assert reason.endswith(" quotes 65 s, before it began 5 s)")


def test_a_late_firing_is_skipped_and_not_stacked(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.go("2026-06-01 10:03")
    for _ in range(2):  # and a second delivery of it
        with pytest.raises(TooLate, match=r"120 s after the minute.*\(before it began 120 s"):
            desk.collector.collect(clock.from_seconds(ist("2026-06-01 10:01")))
    with pytest.raises(TooLate, match="180 s after"):
        desk.collector.collect(clock.from_seconds(ist("2026-06-01 10:00")))
    assert gaps_at("2026-06-01 10:00") == {}, "it was stored in time"
    desk.minute("2026-06-01 10:03")
    assert gaps_at("2026-06-01 10:01")["all"].startswith("too late: 120 s after the minute")
    assert gaps_at("2026-06-01 10:02") == {"all": "no collector stored it"}
    assert stored("2026-06-01 10:01") == {}
    held = desk.collector._busy
    with held, pytest.raises(TooLate, match="still being collected"):
        desk.minute("2026-06-01 10:04")


def test_a_clock_that_steps_back_stores_nothing_twice(desk: OptionsDesk) -> None:
    for at in ("2026-06-01 10:00", "2026-06-01 10:02", "2026-06-01 10:00", "2026-06-01 10:01"):
        desk.minute(at)
    assert CollectedMinute.objects.count() == 3
    assert Gap.objects.filter(filled_at__isnull=True).count() == 45  # before ten o'clock
    for at in ("2026-06-01 10:00", "2026-06-01 10:01", "2026-06-01 10:02"):
        assert len(stored(at)) > FEW_OPTIONS


# --- Days of the exchange -------------------------------------------------------------------------


def test_before_the_open_things_are_only_made_ready(desk: OptionsDesk) -> None:
    outcome = desk.minute("2026-06-01 09:11")
    assert (outcome.stored, outcome.gaps) == (0, 0)
    assert not Quote.objects.exists() and not Gap.objects.exists()
    assert desk.minute("2026-06-01 09:15").stored > FEW_OPTIONS
    assert gaps_at("2026-06-01 09:15") == {}


@pytest.mark.parametrize(
    ("open_at", "close_at", "minutes"),
    [
        ("2026-06-01 09:15", "2026-06-01 15:30", 376),
        ("2026-08-03 09:15", "2026-08-03 15:40", 386),
        ("2026-11-08 18:00", "2026-11-08 19:00", 61),  # Muhurat, on a Sunday
    ],
)
def test_a_session_is_from_its_open_to_its_close(
    desk: OptionsDesk, open_at: str, close_at: str, minutes: int
) -> None:
    session = CALENDAR.session_on(dt.date.fromisoformat(open_at[:10]))
    if session is None:
        pytest.skip(f"the calendar of this release has no session on {open_at[:10]}")
    opens, closes = clock.from_seconds(session.opens_at), clock.from_seconds(session.closes_at)
    assert (session.closes_at - session.opens_at) // 60 + 1 == minutes
    for at in (opens, closes):
        text = f"{at.astimezone(clock.IST):%Y-%m-%d %H:%M}"
        assert desk.minute(text).stored > FEW_OPTIONS, text
    assert (
        desk.minute(
            f"{(closes + dt.timedelta(minutes=1)).astimezone(clock.IST):%Y-%m-%d %H:%M}"
        ).stored
        == 0
    )
    assert Gap.objects.filter(instrument=None).count() == minutes - 2


def test_a_holiday_has_neither_quotes_nor_gaps(desk: OptionsDesk) -> None:
    desk.minute("2026-01-26 10:00")
    assert not Quote.objects.exists() and not Gap.objects.exists()


def test_an_expiry_moved_by_a_holiday_is_taken_from_the_list(desk: OptionsDesk) -> None:
    at = "2026-11-20 10:00"
    desk.minute(at)
    expiries = Instrument.objects.filter(underlying="NIFTY", kind="CE").values_list(
        "expiry", flat=True
    )
    shifted = dt.date(2026, 11, 23)
    assert min(expiry for expiry in expiries if expiry) == shifted
    session = CALENDAR.session_on(shifted)
    assert session and desk.collector.expires_at(shifted) == session.closes_at
    assert desk.minute("2026-11-23 15:39").stored > FEW_OPTIONS  # its last minutes
    last = Quote.objects.filter(ts=clock.from_seconds(ist("2026-11-23 15:39")))
    assert last.filter(instrument__expiry=shifted).exists()


# --- Lists that change ----------------------------------------------------------------------------


def test_a_new_strike_joins_and_a_symbol_that_disappears_is_a_gap(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.minute("2026-06-01 10:00")
    world = desk.kite.broker.kite.world
    old = world.exchange.on(MONDAY)
    row = old.rows[old.by_key[CALL]]
    new = replace(row, symbol="NIFTY2660224025CE", strike=24_025.0, token=row.token + (1 << 30))
    rows = (*(each for each in old.rows if each is not row), new)
    listing = Listing.of(MONDAY, rows)
    monkeypatch.setattr(world.exchange, "on", lambda date: listing)
    for cached in (world.quoter._columns, world.quoter._ranges):
        cached.cache_clear()
    desk.kite.venue._listed = None  # the next morning's list, as it were
    try:
        outcome = desk.minute("2026-06-01 10:01")
        found = stored("2026-06-01 10:01")
    finally:
        for cached in (world.quoter._columns, world.quoter._ranges):
            cached.cache_clear()
        world.quoter._newest = None
    assert "NFO:NIFTY2660224025CE" in found and CALL not in found
    assert outcome.missing == 1
    assert gaps_at("2026-06-01 10:01") == {NAME: collecting.NOT_LISTED}


def test_a_lot_that_changes_overnight_is_learned_in_the_morning(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.minute("2026-06-01 15:30")
    before = {row.name: row for row in Instrument.objects.filter(underlying="NIFTY")}
    real = desk.kite.venue.instruments
    desk.go("2026-06-02 09:30")
    changed = [replace(row, lot_size=row.lot_size + 10) for row in real()]
    monkeypatch.setattr(desk.kite.venue, "instruments", lambda: changed)
    desk.minute("2026-06-02 09:30")
    today = Instrument.objects.filter(quote__ts=clock.from_seconds(ist("2026-06-02 09:30")))
    both = [row for row in today if row.name in before and row.kind != "INDEX"]
    assert both
    for row in both:
        assert (row.id, row.lot_size) == (before[row.name].id, before[row.name].lot_size + 10)
        assert Quote.objects.filter(instrument_id=row.id).count() == 2


# --- Two at once ----------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["options"], transaction=True)
def test_two_collectors_at_once_store_each_minute_once(desk: OptionsDesk) -> None:
    both = [desk.collector, desk.another()]
    errors: list[Exception] = []
    try:
        for at in ("2026-06-01 10:00", "2026-06-01 10:01", "2026-06-01 10:02"):
            desk.go(at)
            together = threading.Barrier(2)

            def run(ours: Collector, at: str = at, together: threading.Barrier = together) -> None:
                together.wait()
                try:
                    ours.collect(clock.from_seconds(ist(at)))
                except Exception as error:  # noqa: BLE001 - the test shows whatever it is
                    errors.append(error)
                finally:
                    connections.close_all()

            threads = [threading.Thread(target=run, args=(each,)) for each in both]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rows, shown = stored(at), desk.sent()
            assert {key: shown[key] for key in rows} == rows
            assert CollectedMinute.objects.get(ts=clock.from_seconds(ist(at))).stored == len(rows)
        assert errors == []
        assert waits(desk) == 0
    finally:
        drop_days()
