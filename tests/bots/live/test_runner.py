"""A bot's loop: each bar decided once, by the replay's own path, whatever dies or comes late."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path as FilePath

import numpy as np
import psycopg
import pytest
from django.db import connections

from bots.decision.engine import SlotInputs, align_to_features, replay_slot
from bots.execution import kill_switch
from bots.live import runner
from bots.live.bar_schedule import BarSchedule
from bots.live.policies import Loaded, Policies
from bots.live.runner import Runner
from bots.models import Decision, Fill, Order, PnlSnapshot, Position, RiskState
from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.domain.features import schema_for
from markets.models import Bar, Source
from markets.simulator import history
from markets.simulator.market import Feed
from markets.simulator.price_path import PricePath
from markets.venues.paper import PaperVenue
from tests.desk import calendar_of, ist
from tests.policies import NoisePolicy
from tradingsite import clock, locks
from tradingsite.clock import Epoch
from tradingsite.errors import Retry
from tradingsite.locks import LockHeld, ProcessLock
from tradingsite.models import Heartbeat
from tradingsite.registry import BOTS, SLOTS, Slot
from tradingsite.supervision.heartbeat import Beat

SetMarket = Callable[..., None]
SHORT = {"15m": 0.4, "1h": 0.5, "4h": 0.5, "1d": 1.5}
_databases = pytest.mark.django_db(databases=["nifty", "btc", "default"])


def databases(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that uses the ledger, and gives its locks back."""
    found: Callable[..., None] = _databases(pytest.mark.usefixtures("unlocked")(test))
    return found


class Chosen(Policies):
    """Give some slots a policy, the others none."""

    def __init__(self, bot: str, slots: tuple[str, ...], seed: int = 3) -> None:
        super().__init__(BOTS[bot])
        self._chosen = {
            slug: Loaded(1, f"{slug} v1", NoisePolicy(self.width(SLOTS[slug]), seed))
            for slug in slots
        }

    @staticmethod
    def width(slot: Slot) -> int:
        """Return the number of features a slot's policy sees."""
        return len(schema_for(slot.market, slot.timeframe).names)

    def current(self, slot: Slot) -> Loaded | None:
        """Return the policy given for a slot."""
        return self._chosen.get(slot.slug)


class Stage:
    """A market at an instant, with a bot that trades it, both moved by hand."""

    def __init__(
        self,
        bot: str,
        set_market: SetMarket,
        path: PricePath,
        start: dt.datetime,
        slots: tuple[str, ...] | None = None,
    ) -> None:
        self.bot = BOTS[bot]
        self.path = path
        self._set_market = set_market
        self.calendar = calendar_of(self.bot.market)
        self.venue = PaperVenue(self.bot.market, self.calendar)
        self.policies = Chosen(
            bot, tuple(s.slug for s in self.bot.slots) if slots is None else slots
        )
        self.go(start)
        history.make_history(self.bot.market, until=clock.epoch(start), path=path)
        self.feed = Feed.of(self.bot.market, self.calendar, path)
        self.runner = self.start()

    def start(self) -> Runner:
        """Return a fresh process's loop."""
        return Runner(self.bot, self.venue, self.calendar, Beat("a-bot"), self.policies)

    def go(self, when: dt.datetime) -> None:
        """Set the market's time."""
        self.now = when
        self._set_market(when)

    def close_bar(self, when: dt.datetime) -> None:
        """Let a bar close: it is stored, decided, and its order fills as the next bar opens."""
        self.go(when)
        self.feed.close_bars(clock.epoch(when))
        self.runner.step()
        self.open_market(when)

    def open_market(self, after: dt.datetime) -> None:
        """Quote the first instant after another at which the market is open, and take fills in."""
        at = clock.epoch(after)
        session = self.calendar.session_at(at) or self.calendar.next_session(at)
        assert session is not None
        self.go(dt.datetime.fromtimestamp(max(at, session.opens_at) + 0.001, dt.UTC))
        self.feed.step(self.now.timestamp())
        self.runner.step()


@pytest.fixture(scope="module")
def nifty_path() -> PricePath:
    return PricePath.build("nifty", calendar_of("nifty"))


@pytest.fixture(scope="module")
def btc_path() -> PricePath:
    return PricePath.build("btc", calendar_of("btc"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "YEARS", SHORT)
    monkeypatch.setattr(runner, "LATE_SECONDS", 0.0)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.2)


@pytest.fixture
def unlocked(db: None) -> Iterator[None]:
    """Give back what a bot locked: the tests' connection outlives its rollback."""
    yield
    for market in ("nifty", "btc"):
        with connections[market].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")


def decisions(slot: str) -> list[Decision]:
    return list(Decision.on(SLOTS[slot].market).objects.filter(slot=slot).order_by("bar_closes_at"))


@databases
def test_a_day_over_a_roll_trades_as_the_replay_does(
    set_market: SetMarket, nifty_path: PricePath
) -> None:
    start = ist("2026-06-29 13:15")
    stage = Stage("nifty", set_market, nifty_path, start, slots=("nifty-15m",))
    stage.close_bar(start)
    calendar = stage.calendar
    closes = [
        close
        for day in (start.date(), start.date() + dt.timedelta(days=1))
        for open_at in calendar.bar_opens("15m", day)
        if (close := open_at + 900) > start.timestamp()
    ][:13]
    for close in closes:
        stage.close_bar(dt.datetime.fromtimestamp(close, dt.UTC))

    bars = store.load_bars("nifty", "15m")
    rows = store.load_features("nifty", "15m")
    first = int(np.searchsorted(rows.closes_at, start.timestamp()))
    assert rows.closes_at[first] == start.timestamp()
    panel = align_to_features(
        store.load_price_panel(SLOTS["nifty-15m"], bars, calendar), rows.opens_at
    )
    policy = stage.policies.current(SLOTS["nifty-15m"])
    assert policy is not None
    replayed = replay_slot(
        SlotInputs("nifty-15m", panel, rows.values, policy.policy, stage.bot.limit_lots, first, 0.0)
    )
    live = decisions("nifty-15m")
    # The last bar is decided live, while the replay has no next open to fill it at.
    assert [d.lots_after for d in live[:-1]] == replayed.lots.tolist()
    assert len(set(replayed.lots.tolist())) > 3
    snapshots = PnlSnapshot.on("nifty").objects.filter(
        slot="nifty-15m", at__in=[d.bar_closes_at for d in live]
    )
    equity = np.array([float(s.equity) for s in snapshots.order_by("at")])
    fills = Fill.on("nifty").objects.count()
    assert np.abs(equity - replayed.path.equity).max() < 0.03 * fills
    legs = set(Order.on("nifty").objects.values_list("leg", flat=True))
    assert {"roll-close", "roll-open"} <= legs
    held = {p.instrument for p in Position.on("nifty").objects.filter(slot="nifty-15m")}
    assert held == {"NIFTY 2026-07-28 FUT"}


@databases
def test_a_day_of_a_perpetual_pays_the_funding_that_the_replay_does(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    start = ist("2026-06-01 05:30")
    stage = Stage("btc", set_market, btc_path, start, slots=("btc-1h",))
    stage.close_bar(start)
    rates = np.random.default_rng(2).normal(0.0, 0.002, 11).round(8).tolist()
    for hour, rate in enumerate(rates, start=1):
        now = start + dt.timedelta(hours=hour)
        stage.close_bar(now)
        # The collector has the payment of the hour when the hour is over.
        payment = (clock.epoch(now), Decimal(repr(rate)))
        exogenous_capture.upsert(exogenous_capture.FUNDING, [payment], Source.GENERATED)

    bars, rows = store.load_bars("btc", "1h"), store.load_features("btc", "1h")
    first = int(np.searchsorted(rows.closes_at, start.timestamp()))
    slot, policy = SLOTS["btc-1h"], stage.policies.current(SLOTS["btc-1h"])
    assert policy is not None
    panel = align_to_features(store.load_price_panel(slot, bars, stage.calendar), rows.opens_at)
    replayed = replay_slot(
        SlotInputs("btc-1h", panel, rows.values, policy.policy, stage.bot.limit_lots, first, 0.0)
    )
    live = decisions("btc-1h")
    assert [d.lots_after for d in live[:-1]] == replayed.lots.tolist()
    row = Position.on("btc").objects.get(slot="btc-1h")
    # The payment of the last close is not known yet when that bar is decided.
    held = replayed.lots[-1] * 0.01
    due = held * float(panel.close[-1] * panel.funding_rate[-1])
    assert abs(replayed.path.funding) > 1.0 and due
    assert float(row.funding) == pytest.approx(replayed.path.funding - due, abs=0.002)
    assert float(row.equity) == pytest.approx(replayed.path.equity[-1] + due, abs=0.1)


@databases
def test_a_session_of_all_slots_ends_with_ledger_and_venue_agreeing(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    start = ist("2026-06-01 05:30")
    stage = Stage("btc", set_market, btc_path, start)
    stage.close_bar(start)
    for hour in range(1, 25):
        stage.close_bar(start + dt.timedelta(hours=hour))
    assert len(decisions("btc-1h")) == 25
    assert len(decisions("btc-4h")) == 7
    ledger = sum(row.quantity for row in Position.on("btc").objects.all())
    assert stage.venue.positions().get("BTC-PERP", Decimal(0)) == ledger
    orders = Order.on("btc").objects.all()
    assert len(orders) > 4
    assert {order.state for order in orders} == {"filled"}
    cash = sum(row.cash for row in Position.on("btc").objects.all())
    fills = Fill.on("btc").objects.all()
    assert cash == pytest.approx(
        -sum(f.quantity * f.price + f.charges for f in fills), abs=Decimal("0.01")
    )
    assert not RiskState.on("btc").objects.get().halted
    assert RiskState.on("btc").objects.get().trading_date == dt.date(2026, 6, 2)


@databases
def test_a_restart_never_decides_a_bar_twice(set_market: SetMarket, btc_path: PricePath) -> None:
    start = ist("2026-06-01 09:30")
    stage = Stage("btc", set_market, btc_path, start)
    stage.close_bar(start)
    stage.close_bar(start + dt.timedelta(hours=1))
    before = [(d.pk, d.action) for d in decisions("btc-1h")]
    orders = Order.on("btc").objects.count()
    stage.runner.close()
    stage.runner = stage.start()
    for _ in range(3):
        stage.runner.step()
    assert [(d.pk, d.action) for d in decisions("btc-1h")] == before
    assert Order.on("btc").objects.count() == orders


@databases
def test_a_bar_that_is_no_longer_the_newest_is_left_undecided(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    start = ist("2026-06-01 09:30")
    stage = Stage("btc", set_market, btc_path, start)
    stage.close_bar(start)
    later = start + dt.timedelta(hours=3)
    stage.close_bar(later)
    assert [d.bar_closes_at for d in decisions("btc-1h")] == [start, later]


@databases
def test_a_policy_that_answers_no_number_holds(set_market: SetMarket, btc_path: PricePath) -> None:
    start = ist("2026-06-01 09:30")
    stage = Stage("btc", set_market, btc_path, start, slots=("btc-1h",))
    broken = NoisePolicy(stage.policies.width(SLOTS["btc-1h"]))
    broken.act = lambda code, account: np.full((1, 7), np.nan, dtype=np.float32)  # type: ignore[method-assign]
    stage.policies._chosen["btc-1h"] = Loaded(1, "btc-1h v1", broken)
    stage.close_bar(start)
    (decision,) = decisions("btc-1h")
    assert (decision.action, decision.lots_after) == ("hold", 0)
    assert decision.reason == "the policy's logits are not finite: hold, and look at the model"
    assert not Order.on("btc").objects.exists()


@databases
def test_what_keeps_a_slot_from_deciding_is_a_hold_with_its_reason(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    start = ist("2026-06-01 09:30")
    stage = Stage("btc", set_market, btc_path, start, slots=())
    stage.close_bar(start)
    late = start + dt.timedelta(hours=1)
    stage.go(late)
    stage.runner.step()  # waits for the bar
    stage.runner.step()
    stage.feed.close_bars(Epoch((late + dt.timedelta(hours=1)).timestamp()))
    RiskState.on("btc").objects.update(halted=True, halt_reason="a test")
    stage.close_bar(late + dt.timedelta(hours=1))
    assert [(d.action, d.lots_after, d.reason) for d in decisions("btc-1h")] == [
        ("hold", 0, "no model yet"),
        ("hold", 0, "bar late: it was not stored in time"),
        ("hold", 0, "halted: a test"),
    ]
    assert not Order.on("btc").objects.exists()
    assert Heartbeat.objects.get(service="a-bot").state in {"running", "halted"}


@databases
def test_the_daily_loss_latches_at_a_mark_and_is_remembered(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    start = ist("2026-06-01 09:30")
    stage = Stage("btc", set_market, btc_path, start)
    stage.bot = dataclasses.replace(stage.bot, daily_loss_limit=Decimal("0.01"))
    stage.runner = stage.start()
    stage.close_bar(start)
    for hour in range(1, 4):
        stage.close_bar(start + dt.timedelta(hours=hour))
    risk = RiskState.on("btc").objects.get()
    assert risk.loss_latched
    lots = [(abs(d.lots_before), abs(d.lots_after)) for d in decisions("btc-1h")[-1:]]
    assert all(after <= before for before, after in lots)


@databases
def test_quarter_hours_are_snapshots_of_every_slot(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    start = ist("2026-06-01 09:30")
    stage = Stage("btc", set_market, btc_path, start)
    stage.close_bar(start)
    for minutes in (14, 15, 16, 29, 31):
        stage.open_market(start + dt.timedelta(minutes=minutes))
    at = PnlSnapshot.on("btc").objects.filter(slot="btc-4h").order_by("at")
    after = [(row.at - start) / dt.timedelta(minutes=1) for row in at]
    assert after[-2:] == [15.0, 30.0]


@databases
def test_a_market_without_a_feed_is_not_decided_on(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    bars = btc_path.bars("1h", Epoch(1_700_000_000), Epoch(1_700_100_000))
    store.save_bars("btc", "1h", bars, Source.IMPORTED)
    set_market(ist("2026-06-01 09:30"))
    bot = BOTS["btc"]
    calendar = calendar_of("btc")
    loop = Runner(bot, PaperVenue("btc", calendar), calendar, Beat("a-bot"), Chosen("btc", ()))
    loop.step()
    loop.step()
    assert not Decision.on("btc").objects.exists()
    assert Bar.on("btc").objects.count() == len(bars)


def test_a_slot_is_due_at_its_newest_close_only_and_together_with_the_others() -> None:
    bot = BOTS["nifty"]
    agenda = BarSchedule(bot.slots, calendar_of("nifty"), {})
    close = int(ist("2026-06-01 15:30").timestamp())
    due = agenda.due(Epoch(close + 5))
    assert due is not None
    assert {slot.timeframe: at for slot, at in due.closes.items()} == dict.fromkeys(
        ("15m", "1h", "1d"), close
    )
    agenda.done(due)
    assert agenda.due(Epoch(close + 3_600)) is None
    following = agenda.due(Epoch(ist("2026-06-02 09:30").timestamp()))
    assert following is not None
    assert [slot.timeframe for slot in following.closes] == ["15m"]


@databases
def test_before_the_markets_clock_runs_a_bot_waits(tmp_path: FilePath) -> None:
    clock.simulate(tmp_path / "none.json")
    try:
        calendar = calendar_of("btc")
        Runner(BOTS["btc"], PaperVenue("btc", calendar), calendar, Beat("a-bot")).step()
    finally:
        clock.simulate(None)
    assert Heartbeat.objects.get(service="a-bot").state == "waiting"
    assert not RiskState.on("btc").objects.exists()


def other_connection() -> psycopg.Connection[tuple[object, ...]]:
    one = connections["btc"].settings_dict
    return psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname=one["NAME"],
    )


@databases
def test_a_second_process_of_a_bot_waits_and_names_the_first(
    set_market: SetMarket, btc_path: PricePath
) -> None:
    set_market(ist("2026-06-01 09:30"))
    key = ProcessLock("btc bot", "btc").key
    with other_connection() as first:
        assert first.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone() == (True,)
        first.execute("SET application_name = 'btc bot pid 4711 on prod since 09:00:00'")
        second = Stage("btc", set_market, btc_path, ist("2026-06-01 09:30")).runner
        with pytest.raises(LockHeld, match="held by btc bot pid 4711 on prod since 09:00:00"):
            second.step()
        assert not Position.on("btc").objects.exists(), "it has touched nothing"
    mine = ProcessLock("btc bot", "btc")
    assert mine.ensure()
    assert not mine.ensure()
    mine.release()


@databases
def test_nothing_is_decided_before_the_venue_was_read(
    set_market: SetMarket, btc_path: PricePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ist("2026-06-01 05:30")
    stage = Stage("btc", set_market, btc_path, start)
    monkeypatch.setattr(runner, "VENUE_PAUSE_SECONDS", 0.0)

    def fail(*arguments: object) -> dict[str, Decimal]:
        raise Retry("503")

    with monkeypatch.context() as patched:
        patched.setattr(stage.venue, "positions", fail)
        stage.close_bar(start)
        assert decisions("btc-1h") == []
        beat = Heartbeat.objects.get(service="a-bot")
        assert (beat.state, beat.detail) == ("blocked", "paper does not answer: 503")
    stage.runner.step()
    stage.close_bar(start + dt.timedelta(hours=1))
    made = decisions("btc-1h")
    assert made[0].cause in Decision.Cause.values and made[0].latency_ms is not None


@databases
def test_why_nothing_happened_has_a_cause(set_market: SetMarket, btc_path: PricePath) -> None:
    start = ist("2026-06-01 05:30")
    stage = Stage("btc", set_market, btc_path, start, slots=("btc-1h",))
    for hour in range(8):
        stage.close_bar(start + dt.timedelta(hours=hour))
    assert {each.cause for each in decisions("btc-4h")} == {"no_model"}
    traded = [each for each in decisions("btc-1h") if each.lots_after != each.lots_before]
    assert traded and {each.cause for each in traded} == {"trade"}
    kill_switch.halt(stage.bot, "a test", "me")
    stage.close_bar(start + dt.timedelta(hours=8))
    assert decisions("btc-1h")[-1].cause == "halted"


@databases
def test_what_the_broker_would_square_off_is_closed_before_it(
    set_market: SetMarket, nifty_path: PricePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ist("2026-06-01 14:15")
    stage = Stage("nifty", set_market, nifty_path, start, slots=("nifty-15m",))

    def squares_off_at(product: str, date: dt.date) -> dt.datetime:
        return ist(f"{date} 15:25")

    monkeypatch.setattr(stage.venue, "squares_off_at", squares_off_at)
    held = []
    for minutes in range(0, 61, 15):
        stage.close_bar(start + dt.timedelta(minutes=minutes))
        held.append(Position.on("nifty").objects.get(slot="nifty-15m").lots)
    assert any(held[:4]), "it traded until then"
    assert held[4:] == [0], "out at 15:15; the bar of 15:30 is for the morning"
    last = decisions("nifty-15m")[-1]
    assert (last.cause, last.lots_after) == ("closed", 0)
    assert last.reason == "paper squares off what is held at the session's end"
