"""Models that wait decide in the shadow: what they would have won, and nothing in any market."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

from bots.decision.engine import SlotInputs, align_to_features, replay_slot
from bots.decision.observation import Float32Array
from bots.live import runner
from bots.live.policies import Loaded
from bots.models import Decision, Order, ShadowAccount, ShadowDecision
from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.models import Source
from markets.simulator import history
from markets.simulator.price_path import PricePath
from tests.bots.live.test_runner import SHORT, Chosen, Stage, calendar_of, unlocked
from tests.desk import ist
from tradingsite import clock
from tradingsite.registry import SLOTS

__all__ = ["unlocked"]
SetMarket = Callable[..., None]
pytestmark = [
    pytest.mark.django_db(databases=["nifty", "btc", "default"]),
    pytest.mark.usefixtures("unlocked"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "YEARS", SHORT)
    monkeypatch.setattr(runner, "LATE_SECONDS", 0.0)


class Broken:
    """Fail at every bar, as a model of tomorrow's might."""

    def encode(self, windows: Float32Array) -> Float32Array:
        """Fail."""
        raise RuntimeError("no such operator")

    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Fail."""
        raise RuntimeError("no such operator")


class Followed(Stage):
    """A bot without a model of its own, one slot of which is followed in the shadow."""

    challengers: Chosen

    def start(self) -> runner.Runner:
        """Return a fresh process's loop."""
        self.challengers = Chosen("btc", ("btc-1h",), seed=3)
        beat = runner.Beat("a-bot")
        return runner.Runner(
            self.bot, self.venue, self.calendar, beat, self.policies, self.challengers
        )


@pytest.fixture
def stage(set_market: SetMarket) -> Followed:
    path = PricePath.build("btc", calendar_of("btc"))
    return Followed("btc", set_market, path, ist("2026-06-01 05:30"), slots=("btc-4h",))


def test_a_shadow_trades_as_the_replay_of_its_model_does_and_sends_nothing(
    stage: Followed,
) -> None:
    start = stage.now
    rates = np.random.default_rng(2).normal(0.0, 0.002, 12).round(8).tolist()
    for hour, rate in enumerate(rates):
        now = start + dt.timedelta(hours=hour)
        stage.close_bar(now)
        if hour:  # the collector has the payment of the hour when the hour is over
            payment = (clock.epoch(now), Decimal(repr(rate)))
            exogenous_capture.upsert(exogenous_capture.FUNDING, [payment], Source.GENERATED)
    made = list(ShadowDecision.on("btc").objects.order_by("bar_closes_at"))
    assert len(made) == 12
    assert {(row.slot, row.model) for row in made} == {("btc-1h", "btc-1h v1")}
    assert not Order.on("btc").objects.filter(shares__has_key="btc-1h").exists()
    own = Decision.on("btc").objects.filter(slot="btc-1h")
    assert set(own.values_list("cause", flat=True)) == {"no_model"}

    bars, rows = store.load_bars("btc", "1h"), store.load_features("btc", "1h")
    first = int(np.searchsorted(rows.closes_at, start.timestamp()))
    panel = align_to_features(
        store.load_price_panel(SLOTS["btc-1h"], bars, stage.calendar), rows.opens_at
    )
    policy = stage.challengers.current(SLOTS["btc-1h"])
    assert policy is not None
    replayed = replay_slot(
        SlotInputs("btc-1h", panel, rows.values, policy.policy, stage.bot.limit_lots, first, 0.0)
    )
    lots = [row.lots_after for row in made[:-1]]
    assert lots == replayed.lots.tolist()
    assert len(set(lots)) > 2
    # The payment of a bar's close is known a bar later, and paid at that one's price.
    held = np.array([0, *replayed.lots]) * 0.01
    due = held * panel.close[first:] * panel.funding_rate[first:]
    equity = np.array([float(row.equity) for row in made])
    assert np.abs(equity - (replayed.path.equity + due)).max() < 0.05
    assert abs(replayed.path.funding) > 1.0
    account = ShadowAccount.on("btc").objects.get()
    assert (account.bars, account.since, account.decided_at) == (
        12,
        made[0].bar_closes_at,
        made[-1].bar_closes_at,
    )
    assert account.trades and account.charges > 0 and account.slippage > 0
    assert float(account.funding) == pytest.approx(replayed.path.funding - due[-1], abs=0.05)
    net_return = float(made[-1].equity) / float(account.notional)
    assert account.net_return == pytest.approx(net_return, rel=1e-4)


def test_a_restart_goes_on_where_the_shadow_was(stage: Followed) -> None:
    start = stage.now
    for hour in range(6):
        stage.close_bar(start + dt.timedelta(hours=hour))
        if hour == 3:
            stage.runner.close()
            stage.runner = stage.start()
    made = ShadowDecision.on("btc").objects.order_by("bar_closes_at")
    assert made.count() == 6
    pairs = list(made.values_list("lots_before", "lots_after"))
    assert [before for before, _ in pairs[1:]] == [after for _, after in pairs[:-1]]


def test_another_challenger_begins_flat(stage: Followed) -> None:
    start = stage.now
    for hour in range(4):
        stage.close_bar(start + dt.timedelta(hours=hour))
    kept = stage.challengers._chosen["btc-1h"]
    stage.challengers._chosen["btc-1h"] = Loaded(2, "btc-1h v2", kept.policy)
    stage.close_bar(start + dt.timedelta(hours=4))
    newest = ShadowAccount.on("btc").objects.get(model="btc-1h v2")
    assert (newest.bars, newest.sleeve["equity"]) == (1, 0.0)
    assert ShadowAccount.on("btc").objects.get(model="btc-1h v1").bars == 4


def test_a_shadow_that_fails_touches_no_order(
    stage: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    stage.challengers._chosen["btc-1h"] = Loaded(2, "btc-1h v2", Broken())
    stage.close_bar(ist("2026-06-01 05:30"))
    assert Decision.on("btc").objects.filter(slot="btc-4h", cause__in=["trade", "choice"]).exists()
    assert not ShadowDecision.on("btc").objects.exists()
    assert "the shadow failed at a bar; trading is not touched" in caplog.text
    assert not ShadowAccount.on("btc").objects.filter(bars__gt=0).exists()
