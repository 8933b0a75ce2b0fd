"""What training pays is what the live decision path earns: the same actions, the same money."""

from collections.abc import Iterator

import numpy as np
import pytest

from bots.decision import accounting
from bots.decision.actions import DELTAS
from bots.decision.engine import Sleeve, SlotInputs, decide, replay_slot
from bots.decision.observation import WINDOW, Float32Array, limit_notional
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from tests.panels import random_features, random_funding, random_panel
from tests.policies import ScriptedPolicy, script
from training.rl.env import BatchEnv, Episodes, SingleEnv

BARS = 400
ROWS = WINDOW + BARS
START = WINDOW - 1


def _episode(
    seed: int, lot_sizes: tuple[float, ...]
) -> tuple[PricePanel, IntArray, FloatArray, Float32Array]:
    """Return a panel, random actions, and what the batch environment makes of them."""
    funding = random_funding(ROWS, seed)
    panel = random_panel(ROWS, seed, lot_sizes=lot_sizes, funding_rate=funding)
    actions = np.random.default_rng(seed).integers(0, 7, BARS)
    episodes = Episodes(limit_lots=4, bars=BARS)
    batch = BatchEnv(panel, random_features(ROWS), episodes, accounts=1, stagger=False)
    single = SingleEnv(panel, random_features(ROWS), episodes)
    batch.reset()
    single.reset()
    equity, accounts = [batch.equity[0]], [batch.account()]
    for action in actions:
        batch.advance(np.array([action]))
        single.step(action)
        assert batch.equity[0] == pytest.approx(single.sleeve.equity, rel=1e-12)
        equity.append(batch.equity[0])
        accounts.append(batch.account())
    assert panel.roll[START:].sum() == 4
    return panel, actions, np.array(equity), np.concatenate(accounts)


LOTS = [(50.0, 25.0, 75.0, 65.0), (0.01,)]


@pytest.mark.parametrize("lot_sizes", LOTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_replay_earns_what_the_environment_paid(
    seed: int, lot_sizes: tuple[float, ...]
) -> None:
    panel, actions, equity, _ = _episode(seed, lot_sizes)
    column = np.concatenate((np.zeros(START), actions, [0]))
    result = replay_slot(SlotInputs("nifty-15m", panel, script(column), ScriptedPolicy(), 4))
    assert np.array_equal(result.actions, actions)
    assert result.path.equity == pytest.approx(equity, rel=1e-9)
    held = result.lots * panel.lot_size[START + 1 :]
    paid = held * panel.close[START + 1 :] * panel.funding_rate[START + 1 :]
    assert abs(result.path.funding) > 0 and result.path.funding == pytest.approx(paid.sum())
    # A random walk of seven actions must have flipped, or the test says little.
    assert np.count_nonzero(result.lots[1:] * result.lots[:-1] < 0) > 20


def _orders(
    panel: PricePanel, row: int, held: float, lots: int
) -> Iterator[tuple[float, float, float]]:
    """Return the orders of a row as a broker would report them: quantity, price, charges."""
    rolled = bool(panel.roll[row])
    orders = accounting.split(held, lots * float(panel.lot_size[row]), 0 if rolled else 1)
    references = (float(panel.previous_open[row]), float(panel.open[row]))
    for quantity, reference in zip(orders, references, strict=True):
        if quantity:
            buys = quantity > 0
            price = accounting.fill_price(reference, 1 if buys else -1, panel.slippage)
            charges = accounting.order_charges(
                abs(quantity) * price,
                float((panel.buy_rate if buys else panel.sell_rate)[row]),
                float(panel.brokerage_rate[row]),
                float(panel.brokerage_cap[row]),
            )
            yield quantity, price, charges


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("lot_sizes", LOTS)
def test_a_live_bot_earns_what_the_environment_paid(
    parts: int, lot_sizes: tuple[float, ...]
) -> None:
    panel, actions, equity, accounts = _episode(7, lot_sizes)
    capital = limit_notional(4, float(panel.lot_size[START]), float(panel.close[START]))
    sleeve = Sleeve(4, capital, float(panel.lot_size[START]))
    for step, action in enumerate(actions):
        row = START + step
        observed = sleeve.observe(float(panel.close[row]), float(panel.lot_size[row]))
        assert sleeve.equity == pytest.approx(equity[step], rel=1e-9)
        assert observed[0] == pytest.approx(accounts[step], abs=1e-6)
        logits = np.zeros((1, len(DELTAS)), dtype=np.float32)
        logits[0, action] = 1.0
        decision = decide(sleeve, logits)
        # The bot restarts between the decision and its fills, which arrive in parts.
        sleeve = Sleeve.from_state(sleeve.state())
        orders = list(_orders(panel, row + 1, sleeve.quantity, decision.lots_after))
        if panel.roll[row + 1]:
            sleeve.roll(float(panel.lot_size[row + 1]))
        for quantity, price, charges in orders:
            for _ in range(parts):
                sleeve.fill(quantity / parts, price, charges / parts)
        sleeve.pay_funding(float(panel.close[row + 1] * panel.funding_rate[row + 1]))
    sleeve.mark(float(panel.close[-1]), float(panel.lot_size[-1]))
    assert sleeve.equity == pytest.approx(equity[-1], rel=1e-9)
