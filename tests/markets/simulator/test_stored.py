"""Stored bars lived through again: prices that are the bars' own and nothing beyond them."""

import numpy as np
import pytest

from markets.simulator.stored import StoredPath
from markets.simulator.world import World
from tests.markets.simulator.broker import ist, shared_world

START, END = int(ist("2024-06-03 09:15")), int(ist("2024-06-07 15:30"))


@pytest.fixture(scope="module")
def path() -> StoredPath:
    return StoredPath(shared_world()[0].prices.bars("NIFTY", 900, START, END))


def test_every_bar_is_lived_through_from_its_open_over_its_extremes_to_its_close(
    path: StoredPath,
) -> None:
    bars = path.bars
    for number in range(0, len(bars), 7):
        at = np.linspace(bars.opens_at[number], bars.closes_at[number] - 0.001, 1_000)
        seen = path.prices(at)
        assert seen[0] == bars.open[number]
        assert seen[-1] == pytest.approx(bars.close[number], abs=0.01)
        assert seen.max() == pytest.approx(bars.high[number], abs=0.2)
        assert seen.min() == pytest.approx(bars.low[number], abs=0.2)
        assert bars.low[number] <= seen.min() and seen.max() <= bars.high[number]


def test_outside_the_bars_the_last_close_stands_and_nothing_trades(path: StoredPath) -> None:
    night = ist("2024-06-03 20:00")
    close = path.bars.close[np.flatnonzero(path.bars.closes_at <= night)[-1]]
    assert path.price(night) is None
    assert path.prices(np.array([night]))[0] == close
    assert path.covers(night)
    assert path.price(START - 1.0) is None and not path.covers(START - 1.0)
    assert np.isnan(path.prices(np.array([START - 1.0]))[0])
    assert not path.covers(path.ends_at)


def test_a_world_of_stored_bars_quotes_them(path: StoredPath) -> None:
    original = shared_world()[0]
    at = ist("2024-06-04 12:07")
    world = World.build(
        lambda: at, nse=original.prices.nse, nifty=path, btc=original.prices._paths["BTC"]
    )
    board = world.board()
    place = board.listing.by_key["NSE:NIFTY 50"]
    assert board.is_open
    assert board.last[place] == path.price(at)
    symbols = {row.symbol for row in board.listing.rows if row.kind == "FUT"}
    # Expiries on Thursdays, as they were then.
    assert "NIFTY24JUNFUT" in symbols
    assert (
        str(next(r.expiry for r in board.listing.rows if r.symbol == "NIFTY24JUNFUT"))
        == "2024-06-27"
    )
