import numpy as np
import pytest

from bots.decision.observation import (
    ACCOUNT_HIGH,
    ACCOUNT_LOW,
    ACCOUNT_SIZE,
    WINDOW,
    AccountStates,
    account_state,
    account_units,
    limit_notional,
    windows,
)


def test_account_state_scales_by_the_value_of_the_limit() -> None:
    notional = limit_notional(4, 50.0, 20_000.0)
    assert notional == 4_000_000.0
    state = account_state(-2, 4, 40_000.0, 16, 20_000.0, notional)
    assert state == pytest.approx((-0.5, 0.5, 0.25, 0.1))


def test_account_state_stays_within_its_bounds() -> None:
    wild = account_state(4, 4, 1e12, 10_000, 1e12, 1.0)
    assert wild == ACCOUNT_HIGH
    assert account_state(-4, 4, -1e12, 0, 0.0, 1.0) == ACCOUNT_LOW


def test_account_state_of_columns_is_that_of_scalars() -> None:
    rng = np.random.default_rng(3)
    lots = rng.integers(-4, 5, 50).astype(float)
    pnl, drawdown = rng.normal(0, 1e5, 50), rng.uniform(0, 1e6, 50)
    bars, notional = rng.integers(0, 200, 50).astype(float), rng.uniform(1e6, 2e6, 50)
    units = np.stack(np.broadcast_arrays(*account_units(4, notional)))
    columns = AccountStates(50).of(lots, pnl, bars, drawdown, units)
    rows = zip(lots, pnl, bars, drawdown, notional, strict=True)
    scalars = [account_state(q, 4, p, b, d, n) for q, p, b, d, n in rows]
    assert np.array_equal(columns.T, np.array(scalars))
    assert len(columns) == ACCOUNT_SIZE
    assert np.abs(columns[1]).max() == columns[3].max() == 5.0


def test_windows_end_at_their_row() -> None:
    values = np.arange(40 * 3, dtype=np.float32).reshape(40, 3)
    view = windows(values)
    assert view.shape == (40 - WINDOW + 1, WINDOW, 3)
    assert np.array_equal(view[2], values[2 : 2 + WINDOW])
    assert np.shares_memory(view, values)


def test_windows_refuse_too_few_rows() -> None:
    with pytest.raises(ValueError, match="31 feature rows"):
        windows(np.zeros((31, 3), dtype=np.float32))
