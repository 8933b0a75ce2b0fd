import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import pytest

from bots.decision.actions import DELTAS, HOLD
from bots.decision.engine import (
    PanelBroker,
    SlotInputs,
    align_to_features,
    decide,
    replay,
    replay_slot,
)
from bots.decision.observation import WINDOW, Float32Array
from bots.decision.risk import RiskGate
from bots.decision.sleeve import Sleeve
from markets.domain.calendar import trading_date
from markets.domain.price_panel import PricePanel
from tests.panels import make_panel, random_features, random_funding, random_panel
from tests.policies import NoisePolicy, ScriptedPolicy, script
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded

BUY, SELL = 0, 6
FIRST = WINDOW - 1


def _scripted(panel: PricePanel, actions: Sequence[int], slot: str = "nifty-15m") -> SlotInputs:
    """Return the slot whose decisions from the first one on are the actions, then hold."""
    column = np.full(len(panel), HOLD)
    column[FIRST : FIRST + len(actions)] = actions
    return SlotInputs(slot, panel, script(column), ScriptedPolicy(), limit_lots=4)


def _logits(action: int) -> Float32Array:
    logits = np.zeros((1, len(DELTAS)), dtype=np.float32)
    logits[0, action] = 2.0
    return logits


def test_decide_takes_the_likeliest_action() -> None:
    sleeve = Sleeve(4, 1e6, 50.0)
    sleeve.fill(50.0, 100.0, 0.0)
    decision = decide(sleeve, _logits(1))
    assert (decision.action, decision.lots_before, decision.lots_after) == (1, 1, 3)
    assert decision.logits[1] == 2.0


def test_decide_obeys_the_gate() -> None:
    gate = RiskGate(10.0)
    gate.observe(Epoch(1_704_081_600), 100.0)
    gate.observe(Epoch(1_704_081_600), 80.0)
    sleeve = Sleeve(4, 1e6, 50.0)
    sleeve.fill(100.0, 100.0, 0.0)
    assert decide(sleeve, _logits(BUY), gate).lots_after == 2
    assert decide(sleeve, _logits(SELL), gate).lots_after == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_decide_holds_when_the_policy_is_not_finite(bad: float) -> None:
    logits = _logits(0)
    logits[0, 3] = bad
    with pytest.raises(Degraded, match="not finite"):
        decide(Sleeve(4, 1e6, 50.0), logits)


def test_replay_by_hand() -> None:
    # The decision at the close of row 31 is filled at the open of row 32.
    close = [100.0] * 32 + [110.0, 120.0, 120.0]
    opens = [100.0] * 32 + [105.0, 110.0, 130.0]
    panel = make_panel(close, opens, buy_rate=0.001, sell_rate=0.002, slippage=0.01)
    result = replay_slot(_scripted(panel, [BUY, HOLD, SELL]))
    bought, sold = result.path.trades
    assert result.path.equity[0] == 4 * 50 * 100.0
    assert bought.price == pytest.approx(106.05)
    assert bought.charges == pytest.approx(200 * 106.05 * 0.001)
    assert bought.slippage == pytest.approx(200 * 1.05)
    assert bought.opens_at == panel.opens_at[32]
    assert sold.price == pytest.approx(130.0 * 0.99)
    held = 20_000 - 200 * 106.05 - bought.charges
    expected = [20_000, held + 200 * 110, held + 200 * 120, held + 200 * sold.price - sold.charges]
    assert result.path.equity == pytest.approx(expected)
    assert result.actions.tolist() == [BUY, HOLD, SELL]
    assert result.lots.tolist() == [4, 4, 0]
    assert result.path.net_pnl == pytest.approx(expected[-1] - 20_000)
    assert result.path.turnover == pytest.approx(200 * (106.05 + 128.7))
    assert result.path.charges == pytest.approx(bought.charges + sold.charges)
    assert result.path.slippage == pytest.approx(200 * (1.05 + 1.3))


def test_a_flip_is_two_orders_and_a_roll_closes_at_the_old_contracts_price() -> None:
    panel = make_panel(
        np.full(36, 1_000.0), roll_rows=(34,), basis=0.01, lot_sizes=(50.0, 65.0), slippage=0.0
    )
    result = replay_slot(_scripted(panel, [BUY, SELL, SELL, HOLD]))
    trades = [(trade.quantity, trade.price) for trade in result.path.trades]
    assert trades == [(200.0, 1_000.0), (-200.0, 1_000.0), (-260.0, 1_000.0)]
    flipped = replay_slot(_scripted(panel, [BUY, HOLD, HOLD, HOLD]))
    trades = [(trade.quantity, trade.price) for trade in flipped.path.trades]
    assert trades == [(200.0, 1_000.0), (-200.0, 990.0), (260.0, 1_000.0)]
    assert flipped.path.net_pnl == pytest.approx(-200 * 10.0)


def test_a_flip_pays_brokerage_for_two_orders() -> None:
    panel = make_panel(np.full(36, 1_000.0), brokerage_rate=1.0, brokerage_cap=20.0)
    result = replay_slot(_scripted(panel, [1, SELL]))
    assert [trade.quantity for trade in result.path.trades] == [100.0, -100.0, -100.0]
    assert result.path.charges == 60.0


def test_baselines_go_through_the_same_accounting() -> None:
    panel = random_panel(400, seed=5, funding_rate=random_funding(400))
    result = replay_slot(_scripted(panel, [BUY]))
    assert np.array_equal(result.buy_and_hold.equity, result.path.equity)
    assert result.buy_and_hold.trades == result.path.trades
    rolls = int(panel.roll[FIRST + 2 :].sum())
    assert rolls == 4
    assert len(result.buy_and_hold.trades) == 1 + 2 * rolls
    assert result.buy_and_hold.charges > 0
    assert result.buy_and_hold.slippage > 0
    assert result.buy_and_hold.funding == pytest.approx(result.path.funding) != 0.0
    assert result.flat.funding == 0.0
    assert result.flat.net_pnl == 0.0
    assert result.flat.trades == ()


def test_one_bar_at_a_time_decides_the_same() -> None:
    panel, values = random_panel(300, seed=1), random_features(300)
    slot = SlotInputs("nifty-15m", panel, values, NoisePolicy(5), 4)
    batched, live = replay_slot(slot), replay_slot(slot, sequential=True)
    assert len(set(batched.actions.tolist())) > 3
    assert np.array_equal(batched.actions, live.actions)
    assert np.array_equal(batched.path.equity, live.path.equity)


@pytest.mark.parametrize("cut", [120, 121, 250])
def test_the_future_does_not_change_the_past(cut: int) -> None:
    panel, values = random_panel(300, seed=2), random_features(300)
    policy = NoisePolicy(5)
    whole = replay_slot(SlotInputs("nifty-15m", panel, values, policy, 4))
    rng = np.random.default_rng(0)
    changed = values.copy()
    changed[cut:] = rng.standard_normal((300 - cut, 5))
    later = dataclasses.replace(
        panel,
        open=np.where(np.arange(300) < cut, panel.open, panel.open * 1.5),
        close=np.where(np.arange(300) < cut, panel.close, panel.close * 0.5),
    )
    other = replay_slot(SlotInputs("nifty-15m", later, changed, policy, 4))
    decided = cut - FIRST
    assert np.array_equal(whole.actions[:decided], other.actions[:decided])
    assert np.array_equal(whole.path.equity[:decided], other.path.equity[:decided])
    assert not np.array_equal(whole.actions, other.actions)


def test_the_gate_adds_up_all_slots_and_latches_them_together() -> None:
    # Each loses 1,200 at most of a limit of 1,500 they share: only together is it too much.
    falling = np.concatenate((np.full(33, 100.0), np.linspace(99.8, 94.0, 15)))
    slots = [
        _scripted(make_panel(falling), [BUY] + [HOLD] * 12 + [SELL, BUY], name) for name in "ab"
    ]
    for slot in slots:
        alone = RiskGate(1_500.0)
        assert replay_slot(slot, alone).lots.tolist() == [4] * 13 + [0, 4, 4]
        assert not alone.is_latched
    gate = RiskGate(1_500.0)
    for result in replay(slots, gate):
        assert result.lots.tolist() == [4] * 13 + [0, 0, 0]
    assert gate.is_latched


def test_slots_of_different_timeframes_are_decided_in_order_of_time() -> None:
    # The slower slot's loss, seen at its close, latches the quicker slot from then on only.
    slow_close = np.concatenate((np.full(33, 100.0), [80.0, 80.0]))
    slow = _scripted(make_panel(slow_close, bar_seconds=3_600), [BUY], "nifty-1h")
    quick = _scripted(make_panel(np.full(140, 100.0)), [0, 6] * 54)
    bound = replay([slow, quick], RiskGate(3_000.0))[1]
    lost_at = slow.panel.closes_at[33]
    latched = trading_date(Epoch(lost_at))
    dates = [trading_date(at) for at in bound.closes_at[:-1].tolist()]
    after = [at >= lost_at for at in bound.closes_at[:-1].tolist()]
    held = bound.lots.tolist()
    assert all(
        lots == 0
        for lots, late, date in zip(held, after, dates, strict=True)
        if late and date == latched
    )
    assert all(
        lots == (4 if row % 2 == 0 else 0)
        for row, (lots, late) in enumerate(zip(held, after, strict=True))
        if not late
    )
    assert any(late and date == latched for late, date in zip(after, dates, strict=True))


def test_the_latch_opens_on_the_next_date() -> None:
    close = np.concatenate((np.full(32, 100.0), [80.0], np.full(60, 80.0)))
    panel = make_panel(close)
    actions = [BUY, SELL] + [2] * 55
    free = replay_slot(_scripted(panel, actions))
    bound = replay_slot(_scripted(panel, actions), RiskGate(1_000.0))
    assert free.lots[2] == 1
    dates = [trading_date(at) for at in bound.closes_at[:-1].tolist()]
    first_open = next(row for row, lots in enumerate(bound.lots.tolist()) if row > 1 and lots)
    assert dates[first_open] == dates[first_open - 1] + datetime.timedelta(days=1)


def test_replaying_slots_together_or_alone_is_the_same_without_a_gate() -> None:
    slots = [
        SlotInputs(
            name,
            random_panel(rows, seed=rows, bar_seconds=seconds),
            random_features(rows, seed=rows),
            NoisePolicy(5, seed=rows),
            4,
        )
        for name, rows, seconds in (("nifty-15m", 260, 900), ("nifty-1h", 90, 3_600))
    ]
    for together, slot in zip(replay(slots), slots, strict=True):
        alone = replay_slot(slot)
        assert np.array_equal(together.path.equity, alone.path.equity)
        assert together.path.trades == alone.path.trades


def test_the_panel_broker_fills_nothing_when_nothing_changes() -> None:
    panel = random_panel(50)
    sleeve = Sleeve(4, 1e7, 50.0)
    assert PanelBroker(panel).rebalance(sleeve, 1, 0) == ()
    assert len(PanelBroker(panel).rebalance(sleeve, 2, 3)) == 1
    assert PanelBroker(panel).rebalance(sleeve, 3, 3) == ()


def test_align_keeps_the_rows_with_features() -> None:
    panel = random_panel(300)
    assert all(
        np.array_equal(
            getattr(align_to_features(panel, panel.opens_at), name), getattr(panel, name)
        )
        for name in panel.__dataclass_fields__
    )
    later = align_to_features(panel, panel.opens_at[40:])
    assert np.array_equal(later.close, panel.close[40:])
    assert len(align_to_features(panel, panel.opens_at[:0])) == 0


def test_align_moves_a_roll_out_of_a_row_without_features() -> None:
    panel = random_panel(300)
    kept = np.delete(np.arange(300), [96, 97, 98])
    aligned = align_to_features(panel, panel.opens_at[kept])
    assert aligned.roll[96]
    assert aligned.lot_size[96] == panel.lot_size[99]
    assert aligned.previous_open[96] == pytest.approx(panel.open[99] * 0.996)
    assert not aligned.roll[97]


def test_align_moves_funding_out_of_a_row_without_features() -> None:
    panel = random_panel(300, funding_rate=random_funding(300))
    kept = np.setdiff1d(np.arange(300), [0, 60, 61, 62, 200])
    aligned = align_to_features(panel, panel.opens_at[kept])
    total = panel.funding_rate[60:64].sum()
    assert aligned.funding_rate[kept == 63][0] == pytest.approx(total)
    assert aligned.funding_rate.sum() == pytest.approx(panel.funding_rate[1:].sum())


def test_align_names_a_feature_row_without_a_bar() -> None:
    panel = random_panel(50)
    opens_at = panel.opens_at.copy()
    opens_at[7] += 1
    with pytest.raises(ValueError, match="feature row 7"):
        align_to_features(panel, opens_at)
    with pytest.raises(ValueError, match="feature row 50"):
        align_to_features(panel, np.append(panel.opens_at, panel.opens_at[-1] + 900))


def test_a_slot_panel_refuses_what_it_cannot_replay() -> None:
    panel = random_panel(40)
    with pytest.raises(ValueError, match="39 feature rows for 40 bars"):
        SlotInputs("nifty-15m", panel, random_features(39), NoisePolicy(5), 4)
    with pytest.raises(ValueError, match="row 30"):
        SlotInputs("nifty-15m", panel, random_features(40), NoisePolicy(5), 4, start=30)
    with pytest.raises(ValueError, match="row 39"):
        SlotInputs("nifty-15m", panel, random_features(40), NoisePolicy(5), 4, start=39)
