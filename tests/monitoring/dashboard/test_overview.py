"""What the overview says of a desk, and that it says the worst first."""

import datetime as dt
import html
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.db import connections
from django.http import HttpResponse, HttpResponseBase
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bots.models import AccountHolding, Order, Position, RiskState
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.expected_bars import next_close
from markets.models import Bar
from markets.options.models import CollectedMinute, Gap
from monitoring.dashboard import curve, freshness, machine, money, overview, timeline
from monitoring.dashboard.books import Book, Mark
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import cut_off, seen, stopped
from tests.monitoring.desks import NOW, at
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.format import GLUE
from tradingsite.models import Heartbeat, JobRun, Notice
from tradingsite.registry import MARKETS
from tradingsite.scheduling.schedules import JOBS
from training.models import TrainingRun
from training.pipeline import runs as pipeline_runs

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)
FUTURE = "NIFTY 2026-06-30 FUT"


@pytest.fixture(autouse=True)
def market_runs(set_market: Callable[..., None]) -> None:
    cache.clear()
    set_market(NOW, 48.0)


def text_of(response: HttpResponseBase) -> str:
    assert isinstance(response, HttpResponse)
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", html.unescape(words).replace(GLUE, " "))


def test_a_desk_without_a_row_shows_every_card_empty_and_calm(client: Client) -> None:
    simulated = clock.simulated()
    assert simulated
    simulated.path.unlink()
    response = client.get("/")
    words = text_of(response)
    assert response.status_code == 200
    assert "The desk is starting." in words
    for empty in (
        "No trade yet.",
        "no position",
        "No training has run yet.",
        "no model yet: holds flat",
        "none stored yet",
        "no sign of life yet",
        "Nothing to report.",
    ):
        assert empty in words


def test_lost_options_are_on_the_card_and_in_the_verdict(client: Client) -> None:
    desks.whole_desk()
    CollectedMinute.objects.create(ts=at("13:42"), asked=1, stored=1, first_at=NOW)
    for minute in range(10, 17):
        Gap.objects.create(ts=at(f"10:{minute}"), reason="too slow", found_at=NOW)
    words = text_of(client.get("/"))
    assert "Options: 7 of 268 minutes of the day are lost." in words
    assert "Everything is running." not in words
    assert "; 7 of 268 minutes of the day are lost" in words


def test_bars_that_the_day_lacks_are_on_the_card_and_in_the_verdict(client: Client) -> None:
    desks.whole_desk()
    bar = Bar.on("nifty").objects.filter(timeframe="15m").latest("opens_at")
    bar.pk, one_day = None, dt.timedelta(days=1)
    bar.opens_at, bar.closes_at = bar.opens_at - one_day, bar.closes_at - one_day
    bar.save()
    words = text_of(client.get("/"))
    assert "NIFTY 15m bars: 16 of 17 bars of the day up to then are not here." in words
    assert "bars gaps" in words


def test_money_counts_from_midnight_after_charges_and_adds_up_at_the_stated_rate() -> None:
    desks.whole_desk()
    seen = overview.gather()
    nifty, btc = seen.money.markets
    assert (nifty.account.equity, nifty.account.today) == (5000, 1000)
    assert (btc.account.equity, btc.account.today) == (40, -10)
    assert nifty.account.charges_today == 100
    rate = Decimal(str(seen.usdc_inr))
    assert seen.money.total.today == 1000 - 10 * rate
    assert seen.money.total.exposure == 130 * 24905 + Decimal("0.03") * 97800 * rate
    # The highest sum was 4,500 rupees and 50 USDC, at half past one.
    assert seen.money.drawdown == min(5000 + 40 * rate - (4500 + 50 * rate), 0)
    rows = {row.slot.slug: row for row in seen.positions}
    assert rows["nifty-15m"].unrealised == 130 * (24905 - 24861)
    assert rows["btc-1h"].unrealised == Decimal("-0.03") * 800
    assert (rows["nifty-1d"].side, rows["nifty-1d"].unrealised) == ("Flat", None)
    assert [row.trades for row in seen.bots] == [1, 1, 0]


def test_the_page_says_what_it_knows_in_words(client: Client) -> None:
    desks.whole_desk()
    words = text_of(client.get("/"))
    for expected in (
        "Everything is running. 1 of 6 slots have a model, the others hold flat.",
        "NSE open until 15:30",
        "NIFTY +₹1,000 today",
        "BTC \N{MINUS SIGN}$10.00 today",
        "NIFTY bought 130 at 24,861.40",
        "NIFTY 15m v1",
        "+5.0% buy and hold \N{MINUS SIGN}1.8%",
        "14 of 14 answer",
        "Generated market",
        "at 1 USDC = ₹88.60",
        "Simulated: no real money moves.",
    ):
        assert expected in words


def test_a_losing_day_is_no_failure_until_the_limit_acts() -> None:
    desks.whole_desk()
    desks.snapshot("nifty-1h", at("15:30", 1), "90000")
    desks.position("nifty-1h", "0", "1", "-100000", 0, "0")
    assert overview.gather().verdict.level == "calm"
    RiskState.on("nifty").objects.create(
        bot="nifty", trading_date=NOW.date(), loss_latched=True, updated_at=NOW
    )
    seen = overview.gather()
    assert (seen.verdict.level, seen.bots[0].is_latched) == ("warn", True)
    RiskState.on("nifty").objects.update(trading_date=NOW.date() - dt.timedelta(days=1))
    assert overview.gather().verdict.level == "calm"


def test_the_verdict_says_the_worst_first_and_what_was_done() -> None:
    desks.whole_desk()
    desks.model("nifty-15m", 2, "quarantined")
    assert overview.gather().verdict.headline.startswith("NIFTY 15m v2 was kept from trading; v1")
    TrainingRun.objects.create(
        slot="nifty-15m",
        state="failed",
        trigger="t",
        scheduled_for=NOW,
        timesteps=1,
        detail="Traceback (most recent call last):\n  x\nValueError: no space left\nCONTEXT: y",
        created_at=clock.real(),
    )
    found = overview.gather().verdict
    assert found.headline == "Training of NIFTY 15m failed; v1 trades on."
    assert found.detail.startswith("ValueError: no space left. Nothing was activated.")
    JobRun.objects.create(job="btc-training", scheduled_for=at("12:00"), state="failed", detail="x")
    assert "BTC training" not in overview.gather().verdict.headline  # made up for since
    notices.notify("infrastructure", "critical", "job:btc-training", "x")
    assert overview.gather().verdict.headline == "BTC training failed at 12:00."
    Heartbeat.objects.filter(service="nifty-bot").update(
        beat_at=clock.real() - dt.timedelta(seconds=150)
    )
    found = overview.gather().verdict
    assert found.headline.replace(GLUE, " ") == "nifty-bot is silent for 2 m."
    Order.on("btc").objects.update(state="unknown")
    found = overview.gather().verdict
    assert found.headline == "BTC has 1 order whose fate is unknown."
    assert [each.level for each in found.others] == ["fail", "fail", "fail", "warn"]
    # What works again is no longer said.
    JobRun.objects.create(job="btc-training", scheduled_for=at("13:00"), state="done")
    assert not any("BTC training" in each.headline for each in overview.gather().verdict.others)


def test_an_open_warning_stays_in_sight_however_many_fills_come_after_it() -> None:
    desks.whole_desk()
    for minutes, severity in enumerate(("info",) * 12 + ("warning",)):
        then = clock.real() - dt.timedelta(minutes=minutes)
        Notice.objects.create(
            channel="trading",
            severity=severity,
            key=f"k{minutes}",
            text="The disk is full. Make room.",
            created_at=then,
            last_at=then,
            market_at=NOW,
        )
    seen = overview.gather()
    assert seen.notices[0].severity == "warning"
    assert (seen.verdict.level, seen.verdict.headline) == ("warn", "The disk is full.")


def test_a_market_that_stands_still_is_a_failure(set_market: Callable[..., None]) -> None:
    desks.whole_desk()
    set_market(NOW)
    seen = overview.gather()
    assert seen.verdict.headline == "The market stands still at 13:42 IST."


def test_a_market_whose_database_is_down_is_named_and_the_others_are_shown(client: Client) -> None:
    desks.whole_desk()
    cut_off("btc")
    words = text_of(client.get("/"))
    assert "The btc database does not answer. BTC can neither decide nor record" in words
    assert "NIFTY +₹1,000 today" in words
    cut_off("default")
    assert client.get("/healthz").status_code == 503
    down = client.get("/")
    assert (down.status_code, "database does not answer" in text_of(down)) == (503, True)


def test_the_page_asks_each_database_a_fixed_number_of_times(client: Client) -> None:
    desks.whole_desk()
    client.get("/")
    counts = {}
    for alias in desks.ALIASES:
        with CaptureQueriesContext(connections[alias]) as queries:
            client.get("/live")
        counts[alias] = len(queries)
    assert counts["nifty"] <= 13
    assert counts["btc"] <= 12
    assert counts["default"] <= 9


def test_live_answers_with_every_card_the_page_has_a_place_for(client: Client) -> None:
    desks.whole_desk()
    page, live = (client.get(path).content.decode() for path in ("/", "/live"))
    places = re.findall(r'hx-swap-oob="innerHTML:#(\w+)"', live)
    assert len(places) == 13
    for place in places:
        assert f'id="{place}"' in page


def test_bars_are_late_by_the_calendar_and_never_on_a_weekend() -> None:
    calendar = NseCalendar(nse_sessions())
    friday = at("15:15", 5)
    due = next_close(calendar, "15m", clock.epoch(friday))
    assert due == int(at("09:30", 8).timestamp())
    due = next_close(calendar, "1d", Epoch(at("09:15", 5).timestamp()))
    assert due == int(at("15:30", 8).timestamp())
    desks.bar("nifty", "15m", at("15:15", 5), at("15:30", 5))
    book = Book(MARKETS["nifty"], calendar, NOW.date())
    book.bars = {"15m": overview.bookkeeping._newest_bars(MARKETS["nifty"])[0]}

    def state(now: dt.datetime) -> str:
        return freshness.streams([book], now, speed=1.0)[0].state

    assert state(at("12:00", 7)) == "closed"
    assert state(at("09:20", 8)) == "fresh"
    assert state(at("09:31", 8)) == "fresh"
    assert state(at("09:33", 8)) == "late"
    # Imported bars have no feed that could be late.
    book.bars = {"15m": replace(book.bars["15m"], source="imported")}
    assert state(at("09:33", 8)) == "closed"


def test_the_rail_follows_the_session_and_never_draws_the_unbuilt_as_done() -> None:
    session = NseCalendar(nse_sessions()).session_on(NOW.date())
    not_built = JobRun(job="morning-brief", scheduled_for=at("07:00"), state="not_built")
    failed = JobRun(job="btc-training", scheduled_for=at("12:00"), state="failed")
    drawn = timeline.build(NOW, session, [not_built, failed], {"security-check": {"not_built": 55}})
    ticks = {(tick.job.name, tick.at): tick for lane in drawn.lanes for tick in lane.ticks}
    assert ticks["morning-brief", at("07:00")].mark == "unbuilt"
    assert ticks["backups", at("20:30")].mark == "unbuilt"
    assert ticks["straddle-stop", at("15:30")].mark == "next"
    assert ticks["btc-training", at("12:00")].mark == "fail"
    assert ticks["btc-training", at("10:00")].mark == "none"
    assert ticks["btc-training", at("14:00")].mark == "next"
    assert drawn.upcoming
    assert (drawn.upcoming.job.name, drawn.upcoming.at) == ("btc-training", at("14:00"))
    bands = {band.title: band for lane in drawn.lanes for band in lane.bands}
    assert bands["Security check"].kind == "unbuilt"
    assert bands["Options collector"].left_pct == pytest.approx(100 * 550 / 1440, abs=0.01)
    holiday = timeline.build(NOW, None, [], {})
    assert not any(
        tick.job.name == "straddle-stop" for lane in holiday.lanes for tick in lane.ticks
    )
    drawn_jobs = {tick.job.title for lane in drawn.lanes for tick in lane.ticks} | set(bands)
    assert drawn_jobs == {job.title for job in JOBS}


def test_the_curve_sums_slots_that_close_at_different_times_and_is_drawn_in_ist() -> None:
    book = Book(MARKETS["nifty"], NseCalendar([]), NOW.date())
    book.past = [Mark("nifty-15m", at("15:30", 1), Decimal(700), Decimal(0))]
    book.opening = {"nifty-15m": book.past[0]}
    book.today = [
        Mark("nifty-15m", at("09:30"), Decimal(100), Decimal(0)),
        Mark("nifty-1h", at("10:15"), Decimal(40), Decimal(0)),
    ]
    live = (NOW, Decimal(150))
    drawn = curve.build([book], at("00:00"), live, money.rates(88.6))
    assert [value for _, value in drawn.day] == [700, 100, 140, 150]
    assert drawn.day[1][0] == int(at("09:30").timestamp()) + 19_800
    assert (drawn.day_peak, drawn.week_peak, drawn.peak) == (700, 0, 700)
    assert [value for _, value in drawn.week] == [700, 700, 100, 140, 150]


def test_the_training_card_names_the_steps_as_the_pipeline_does() -> None:
    assert machine.STEP_NAMES == pipeline_runs.STEPS


def test_live_training_shows_its_step_and_progress(client: Client) -> None:
    run = TrainingRun.objects.create(
        slot="btc-4h",
        state="running",
        trigger="t",
        scheduled_for=NOW,
        timesteps=40_000,
        progress={
            "timesteps": 10_000,
            "total_timesteps": 40_000,
            "steps_per_second": 1843.2,
            "mean_reward": 0.0132,
            "eta_seconds": 16.0,
        },
        created_at=clock.real(),
        started_at=clock.real(),
    )
    began = clock.real() - dt.timedelta(seconds=5)
    for number, name in enumerate(pipeline_runs.STEPS[:3], start=1):
        ended = began + dt.timedelta(seconds=2.1) if number < 3 else None
        run.steps.create(number=number, name=name, started_at=began, finished_at=ended)
    words = text_of(client.get("/live"))
    assert "BTC 4h step 3 of 7, train" in words
    assert "10,000 of 40,000 steps 1,843 steps/s reward 0.0132 16 s left" in words


def test_exposure_is_net_of_slots_that_trade_against_each_other_and_gross_beside_it(
    client: Client,
) -> None:
    desks.whole_desk()
    desks.position("nifty-1h", "-65", "24900", "0", -1, "0")
    nifty, _ = overview.gather().money.markets
    assert nifty.account.exposure == 65 * 24905
    assert nifty.account.gross == (130 + 65) * 24905
    # Another account nets nothing.
    Position.on("nifty").objects.filter(slot="nifty-1h").update(venue="kite")
    nifty, _ = overview.gather().money.markets
    assert nifty.account.exposure == nifty.account.gross == (130 + 65) * 24905
    text = text_of(client.get("/"))
    assert "Net exposure" in text and "gross ₹" in text


def test_the_account_is_shown_by_product_with_the_owners_part_and_his_options_counted(
    client: Client,
) -> None:
    desks.whole_desk()
    Position.on("nifty").objects.update(venue="kite", instrument=FUTURE)
    at_once = NOW + dt.timedelta(seconds=1)  # the market of these tests runs
    seen("nifty", "kite", FUTURE, "195", "NRML", at_once)
    seen("nifty", "kite", FUTURE, "-50", "MIS", at_once)
    for strike in range(12):
        seen("nifty", "kite", f"NIFTY 2026-06-30 {24_000 + 50 * strike} CE", "75", "NRML", at_once)
    text = text_of(client.get("/"))
    row = f"{FUTURE} \N{MINUS SIGN}50 MIS, +195 NRML +145 +130 +15"
    assert row in text
    assert "and 12 other instruments of the owner" in text and "24050 CE" not in text
    # Nobody has seen the exchange's account, which the BTC bot believes to hold something in.
    assert "BTC on paper no position in it, or nobody has looked yet" in text


def test_a_look_that_is_old_in_an_open_market_is_a_warning() -> None:
    desks.whole_desk()
    seen("nifty", "paper", FUTURE, "130", at=NOW - dt.timedelta(hours=4, minutes=30))
    found = overview.gather()
    assert found.verdict.headline.replace(GLUE, " ") == (
        "The account NIFTY on paper was last looked at 4 h 30 m ago."
    )
    # The bots look by real time: at 48 market seconds to one, four minutes are three hours.
    AccountHolding.on("nifty").objects.update(seen_at=NOW - dt.timedelta(hours=3))
    assert overview.gather().verdict.level == "calm"


def test_what_was_filled_since_the_look_is_nobodys_rest() -> None:
    desks.whole_desk()
    Position.on("btc").objects.update(instrument="BTC-PERP")
    seen("btc", "paper", "BTC-PERP", "0.01", at=at("12:29"))
    [btc] = [each for each in overview.gather().accounts if each.market.slug == "btc"]
    assert [(row.rest, row.state) for row in btc.rows] == [(Decimal("0.04"), "moving")]


def test_an_instrument_that_is_stopped_is_a_failure_however_old_its_notice(client: Client) -> None:
    desks.whole_desk()
    stopped()
    found = overview.gather().verdict
    assert found.headline == "BTC-PERP is stopped: the ledger has 0.02, the venue has 0.05."
    assert (found.link, found.link_words) == ("/trading/", "Say what it is")


def test_a_closing_by_somebody_else_is_told_as_one() -> None:
    desks.whole_desk()
    Order.on("btc").objects.update(leg="by_venue")
    trades = {trade.title: trade.closed_by for trade in overview.gather().trades}
    assert trades == {"BTC": "the venue", "NIFTY": ""}


def test_a_halted_bot_that_closes_says_so(client: Client) -> None:
    desks.whole_desk()
    RiskState.on("btc").objects.create(bot="btc", halted=True, flatten=True, updated_at=NOW)
    assert "sends no orders and closes what it holds" in overview.gather().verdict.headline
    assert "halted, closing" in text_of(client.get("/"))
    Position.on("btc").objects.update(quantity=0)
    assert "keeps its position" in overview.gather().verdict.headline
