"""The market as a function of time: prices, lists, quotes and history that cannot disagree."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.domain.calendar import ist_instant
from markets.domain.contracts import expiries
from markets.domain.price_panel import build_price_panel
from markets.simulator.board import Quoter
from markets.simulator.listing import CALL, CHAINS, FUTURE, PUT, Exchange
from markets.simulator.noise import key_of, uniform, wave
from markets.simulator.options import black76, normal_cdf, smile
from markets.simulator.price_path import PricePath
from markets.simulator.prices import FOLLOWERS
from markets.simulator.world import World
from tests.markets.simulator.broker import ist, shared_world
from tradingsite.clock import Epoch

SESSION = ist("2026-06-01 09:15"), ist("2026-06-01 15:30")


@pytest.fixture(scope="module")
def world() -> World:
    return shared_world()[0]


@pytest.fixture(scope="module")
def nifty(world: World) -> PricePath:
    return PricePath.build("nifty", world.prices.nse)


# --- Randomness by key ---------------------------------------------------------------------------


def test_random_numbers_follow_from_their_key_and_are_spread_evenly() -> None:
    numbers = np.arange(100_000)
    found = uniform(key_of("a", 7), numbers)
    assert (found == uniform(key_of("a", 7), numbers)).all()
    assert ((found >= 0.0) & (found < 1.0)).all()
    counts, _ = np.histogram(found, bins=50, range=(0.0, 1.0))
    assert counts.min() > 1_800 and counts.max() < 2_200
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(found, uniform(key_of("b", 7), numbers))[0, 1]) < 0.02


def test_a_wave_is_continuous_has_mean_nought_and_about_the_variance_of_one() -> None:
    at = np.arange(0, 400 * 86_400, 180, dtype=np.float64)
    found = wave("x", 7, at, (180, 3_600, 86_400))
    assert abs(found.mean()) < 0.1
    assert 0.7 < found.std() < 1.3
    fine = wave("x", 7, np.arange(0, 86_400, 1.0), (180, 3_600, 86_400))
    assert np.abs(np.diff(fine)).max() < 0.01


# --- Options -------------------------------------------------------------------------------------


def test_normal_distribution_function() -> None:
    # Values of the standard tables.
    x = np.array([-3.0, -1.0, 0.0, 0.5, 1.96, 6.0])
    known = np.array([0.0013499, 0.1586553, 0.5, 0.6914625, 0.9750021, 1.0])
    assert np.abs(normal_cdf(x) - known).max() < 2e-7


@given(
    forward=st.floats(1_000.0, 90_000.0),
    moneyness=st.floats(-0.2, 0.2),
    days=st.floats(0.01, 90.0),
    volatility=st.floats(0.05, 1.0),
)
def test_calls_and_puts_hold_parity_and_bounds(
    forward: float, moneyness: float, days: float, volatility: float
) -> None:
    strike = np.array([forward * np.exp(moneyness)])
    years, level = np.array([days / 365.0]), np.array([volatility])
    forwards = np.array([forward])
    call = black76(forwards, strike, years, level, np.array([True]))
    put = black76(forwards, strike, years, level, np.array([False]))
    discount = np.exp(-0.065 * years)
    assert call - put == pytest.approx(discount * (forwards - strike), abs=forward * 1e-5)
    assert (call >= -1e-9).all() and (put >= -1e-9).all()
    assert (call <= forwards).all() and (put <= strike).all()


def test_a_textbook_price() -> None:
    # Undiscounted at-the-money Black-76 is F (2 N(s/2) - 1).
    forward, years, volatility = np.array([25_000.0]), np.array([0.25]), np.array([0.16])
    half = 0.5 * volatility * np.sqrt(years)
    known = forward * (2.0 * normal_cdf(half) - 1.0) * np.exp(-0.065 * years)
    assert black76(forward, forward, years, volatility, np.array([True])) == pytest.approx(known)


def test_the_smile_is_dearer_below_the_money_and_bent() -> None:
    strikes = np.array([22_000.0, 23_500.0, 25_000.0, 26_500.0])
    found = smile(np.full(4, 25_000.0), strikes, np.full(4, 0.1), 0.14, -0.16, 0.1)
    assert found[2] == pytest.approx(0.14)
    assert found[0] > found[1] > found[2]


# --- Prices --------------------------------------------------------------------------------------


def test_prices_of_many_instants_are_those_of_each(nifty: PricePath) -> None:
    at = SESSION[0] + np.arange(0.0, 6 * 3_600.0, 7.3)
    assert nifty.prices(at).tolist() == [nifty.price(each) for each in at]
    closed = nifty.prices(np.array([SESSION[1] + 1.0, ist("2026-06-02 09:14")]))
    assert (
        closed[0] == closed[1] == nifty.bars("15m", Epoch(SESSION[0]), Epoch(SESSION[1])).close[-1]
    )
    assert np.isnan(nifty.prices(np.array([0.0]))[0])


@pytest.mark.parametrize(("name", "seconds"), [("15m", 900), ("1h", 3_600)])
def test_bars_from_quotes_are_the_generated_bars(
    world: World, nifty: PricePath, name: str, seconds: int
) -> None:
    start, end = int(ist("2026-05-18 09:00")), int(SESSION[1])
    ours = world.prices.bars("NIFTY", seconds, start, end)
    theirs = nifty.bars(name, Epoch(start), Epoch(end))
    for column in ("opens_at", "closes_at", "open", "high", "low", "close"):
        assert (getattr(ours, column) == getattr(theirs, column)).all(), column


def test_followers_move_with_nifty_and_by_themselves(world: World) -> None:
    days = [
        session.closes_at
        for session in world.prices.nse.sessions(dt.date(2025, 1, 1), dt.date(2026, 5, 29))
    ]
    at = np.array(days, dtype=np.float64)
    nifty = np.diff(np.log(world.prices.spot("NIFTY", at)))
    for name in FOLLOWERS:
        own = np.diff(np.log(world.prices.spot(name, at)))
        assert 0.3 < np.corrcoef(nifty, own)[0, 1] <= 1.0, name
        assert 0.003 < own.std() < 0.05, name
    vix = world.prices.spot("INDIA VIX", at)
    assert 9.0 <= vix.min() < vix.max() <= 70.0


def test_what_is_closed_stands_still(world: World) -> None:
    night = np.array([ist("2026-06-01 15:30"), ist("2026-06-01 22:00"), ist("2026-06-02 09:14")])
    for name in world.prices.names:
        if name != "BTC":
            assert len(set(world.prices.spot(name, night).tolist())) == 1, name


# --- The list ------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", [dt.date(2026, 6, 1), dt.date(2026, 11, 18), dt.date(2024, 6, 3)])
def test_tokens_and_keys_are_unique_and_strikes_surround_the_money(
    world: World, date: dt.date
) -> None:
    listing = world.exchange.on(date)
    assert len(listing.by_key) == len(listing.by_token) == len(listing.rows)
    assert all(0 < row.token < 2**32 for row in listing.rows)
    for chain in CHAINS:
        spot = world.prices.spot_at(chain.name, ist_instant(date, dt.time(15)))
        rows = [row for row in listing.rows if row.name == chain.name and row.is_option]
        assert min(row.strike for row in rows) < 0.94 * spot
        assert max(row.strike for row in rows) > 1.06 * spot
        for expiry in {row.expiry for row in rows}:
            sides = [
                {row.strike for row in rows if (row.expiry, row.kind) == (expiry, kind)}
                for kind in (CALL, PUT)
            ]
            assert sides[0] == sides[1]


def test_a_contract_keeps_its_token_and_symbol_all_its_life(world: World) -> None:
    first, later = (world.exchange.on(dt.date(2026, 6, day)) for day in (1, 19))
    both = first.by_key.keys() & later.by_key.keys()
    assert len(both) > 500
    for key in both:
        assert first.rows[first.by_key[key]].token == later.rows[later.by_key[key]].token


def test_futures_expire_when_the_desk_says_they_do(world: World) -> None:
    nse = world.prices.nse
    date = dt.date(2025, 10, 1)
    while date < dt.date(2026, 12, 1):
        ours = [row.expiry for row in world.exchange.futures(CHAINS[0], date)]
        assert ours == expiries(nse, date, date + dt.timedelta(days=130))[:3]
        date += dt.timedelta(days=9)


# --- Quotes and history --------------------------------------------------------------------------


def test_the_future_is_worth_what_the_panel_says(world: World) -> None:
    bars = world.prices.bars("NIFTY", 900, SESSION[0], SESSION[1])
    panel = build_price_panel("nifty", bars, world.prices.nse, slippage_bps=0.0)
    board = world.quoter.board(float(bars.closes_at[3]) - 0.001)
    place = board.listing.by_key["NFO:NIFTY26JUNFUT"]
    assert board.last[place] == pytest.approx(panel.close[3], abs=0.06)


def test_a_quote_is_what_history_shows_at_its_minute(world: World) -> None:
    at = ist("2026-06-01 11:23")
    board = Quoter(Exchange(world.prices)).board(at)
    picked = [0, 3, board.listing.by_key["NSE:INFY"]]
    picked += [place for place, row in enumerate(board.listing.rows) if row.kind == FUTURE][:2]
    picked += list(range(100, len(board.listing.rows), 700))
    for place in picked:
        row = board.listing.rows[place]
        bars, interest = world.quoter.history(row, 60, SESSION[0], at)
        assert bars.close[-1] == board.last[place], row
        assert world.quoter.price(row, at) == board.last[place]
        assert len(bars) == len(interest) == 128
        if not row.is_option:
            ranges = board.low[place], board.high[place]
            assert ranges == (bars.low.min(), bars.high.max())


def test_a_day_only_grows(world: World) -> None:
    quoter = Quoter(Exchange(world.prices))
    before = quoter.board(SESSION[0] + 1.0)
    assert before.is_open
    for minute in (10, 60, 200, 374):
        after = quoter.board(SESSION[0] + minute * 60.0)
        assert (after.volume >= before.volume).all()
        assert (after.high >= before.high).all() and (after.low <= before.low).all()
        assert (after.low <= after.last).all() and (after.last <= after.high).all()
        assert (after.open == before.open).all() and (after.close == before.close).all()
        has_bid = after.bid > 0.0
        assert (after.bid[has_bid] < after.ask[has_bid]).all()
        before = after
    closed = quoter.board(SESSION[1] + 3_600.0)
    assert not closed.is_open
    assert (closed.volume >= before.volume).all()


def test_an_option_ends_at_what_is_inside_it(world: World) -> None:
    expiry = ist("2026-06-02 15:29:59.9")
    board = world.quoter.board(expiry)
    spot = world.prices.spot_at("NIFTY", expiry)
    for place, row in enumerate(board.listing.rows):
        if row.name == "NIFTY" and row.is_option and row.expiry == dt.date(2026, 6, 2):
            side = 1.0 if row.kind == CALL else -1.0
            inside = max(side * (spot - row.strike), 0.0)
            assert board.last[place] == pytest.approx(max(inside, 0.05), abs=8.0)
