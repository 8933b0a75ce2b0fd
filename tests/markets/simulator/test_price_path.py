import datetime
from collections.abc import Mapping

import numpy as np
import pytest

from markets.domain import features
from markets.domain.bars import Bars, FloatArray
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, nse_sessions
from markets.simulator.price_path import WORLDS, PricePath
from tests.exogenous import nothing
from tradingsite.clock import Epoch
from tradingsite.registry import CONTEXTS

Paths = Mapping[str, PricePath]

DATE = datetime.date
CALENDARS: dict[str, Calendar] = {"nifty": NseCalendar(nse_sessions()), "btc": CryptoCalendar()}
END_OF_TIME = 4_000_000_000
# A budget per side: slippage and charges of the generated market's whole span, and more.
COST = {"nifty": 5e-4, "btc": 6e-4}
BARS_PER_YEAR = {
    ("nifty", "15m"): 25 * 248,
    ("nifty", "1h"): 7 * 248,
    ("nifty", "1d"): 248,
    ("btc", "1h"): 24 * 365,
    ("btc", "4h"): 6 * 365,
}


def instant(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime.datetime(year, month, day, hour, minute, tzinfo=datetime.UTC).timestamp())


@pytest.fixture(scope="module")
def paths() -> Paths:
    return {market: PricePath.build(market, CALENDARS[market]) for market in WORLDS}


@pytest.fixture(scope="module")
def twins() -> Paths:
    return {market: PricePath.build(market, CALENDARS[market], edge=False) for market in WORLDS}


def same_bars(one: Bars, other: Bars) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Bars.__slots__)


def test_same_seed_builds_the_same_path_and_another_seed_another(paths: Paths) -> None:
    span = ("1h", Epoch(instant(2020, 1, 1)), Epoch(instant(2020, 3, 1)))
    bars = paths["nifty"].bars(*span)
    assert same_bars(bars, PricePath.build("nifty", CALENDARS["nifty"]).bars(*span))
    other = PricePath.build("nifty", CALENDARS["nifty"], seed=8).bars(*span)
    assert not np.array_equal(bars.close, other.close)


def test_unknown_market_is_refused() -> None:
    with pytest.raises(ValueError, match="nifty, btc"):
        PricePath.build("gold", CALENDARS["nifty"])


@pytest.mark.parametrize(("market", "timeframe"), CONTEXTS)
def test_bars_obey_the_rules_of_bars(paths: Paths, market: str, timeframe: str) -> None:
    bars = paths[market].bars(timeframe, Epoch(0), Epoch(END_OF_TIME))
    bars.validate()
    assert (bars.volume > 0.0).all() if market == "btc" else not bars.volume.any()
    calendar = CALENDARS[market]
    np.testing.assert_array_equal(bars.closes_at, calendar.closes_at(timeframe, bars.opens_at))


@pytest.mark.parametrize("timeframe", ["15m", "1h", "1d"])
def test_bars_follow_every_session_of_the_calendar(paths: Paths, timeframe: str) -> None:
    """Holidays, Diwali hours, Saturdays, the later close from August 2026: all are in."""
    calendar = CALENDARS["nifty"]
    sessions = calendar.sessions(WORLDS["nifty"].origin, DATE(2026, 12, 31))
    expected = [at for session in sessions for at in calendar.bar_opens(timeframe, session.date)]
    assert (
        paths["nifty"].bars(timeframe, Epoch(0), Epoch(END_OF_TIME)).opens_at.tolist() == expected
    )


def test_four_hour_bars_open_on_the_utc_grid(paths: Paths) -> None:
    opens_at = paths["btc"].bars("4h", Epoch(0), Epoch(END_OF_TIME)).opens_at
    assert opens_at[0] == instant(2022, 1, 1)
    assert set(np.diff(opens_at)) == {14_400}
    assert not (opens_at % 14_400).any()


@pytest.mark.parametrize(
    ("market", "short", "long"),
    [("nifty", "15m", "1h"), ("nifty", "1h", "1d"), ("btc", "1h", "4h")],
)
def test_timeframes_agree(paths: Paths, market: str, short: str, long: str) -> None:
    fine = paths[market].bars(short, Epoch(instant(2026, 7, 1)), Epoch(instant(2026, 9, 1)))
    coarse = paths[market].bars(long, Epoch(instant(2026, 7, 1)), Epoch(instant(2026, 9, 1)))
    firsts = np.searchsorted(fine.opens_at, coarse.opens_at)
    lasts = np.searchsorted(fine.closes_at, coarse.closes_at)
    np.testing.assert_array_equal(coarse.open, fine.open[firsts])
    np.testing.assert_array_equal(coarse.close, fine.close[lasts])
    np.testing.assert_array_equal(coarse.high, np.maximum.reduceat(fine.high, firsts))
    np.testing.assert_array_equal(coarse.low, np.minimum.reduceat(fine.low, firsts))
    np.testing.assert_allclose(coarse.volume, np.add.reduceat(fine.volume, firsts))


def test_only_closed_bars_are_given(paths: Paths) -> None:
    nine = instant(2026, 8, 4, 3, 45)  # 09:15 IST
    assert len(paths["nifty"].bars("1h", Epoch(nine), Epoch(nine + 3_599))) == 0
    assert len(paths["nifty"].bars("1h", Epoch(nine), Epoch(nine + 3_600))) == 1
    assert len(paths["nifty"].bars("1h", Epoch(nine + 1), Epoch(nine + 3_600))) == 0
    day = paths["nifty"].bars("1h", Epoch(nine), Epoch(nine + 385 * 60))
    assert len(day) == 7
    assert day.closes_at[-1] - day.opens_at[-1] == 25 * 60


def test_history_does_not_depend_on_where_it_ends(paths: Paths) -> None:
    start = instant(2025, 1, 1)
    short = paths["btc"].bars("1h", Epoch(start), Epoch(instant(2025, 2, 1)))
    long = paths["btc"].bars("1h", Epoch(start), Epoch(instant(2026, 2, 1)))
    assert same_bars(short, long.slice(0, len(short)))


@pytest.mark.parametrize("market", WORLDS)
def test_quotes_stay_in_their_bar_and_touch_its_extremes(paths: Paths, market: str) -> None:
    path = paths[market]
    bars = path.bars("15m", Epoch(instant(2026, 8, 4)), Epoch(instant(2026, 8, 5)))
    for row in range(0, len(bars), 9):
        seconds = range(int(bars.opens_at[row]), int(bars.closes_at[row]), 4)
        quotes = np.array([path.price(at) for at in seconds], dtype=np.float64)
        assert quotes[0] == bars.open[row]
        assert (quotes.min(), quotes.max()) == (bars.low[row], bars.high[row])
        assert np.abs(np.diff(quotes)).max() < 0.002 * bars.open[row]
        assert quotes[-1] == pytest.approx(bars.close[row], rel=2e-4)


def test_closed_market_has_no_quote(paths: Paths) -> None:
    close = instant(2026, 8, 4, 10, 10)  # 15:40 IST
    assert paths["nifty"].price(close - 1) is not None
    assert paths["nifty"].price(close) is None
    assert paths["nifty"].price(instant(2026, 8, 8, 6)) is None  # a Saturday
    assert paths["nifty"].price(0) is None
    assert paths["btc"].price(paths["btc"].ends_at) is None
    assert paths["btc"].price(instant(2026, 8, 8, 6)) is not None


@pytest.mark.parametrize("seed", [7, 8, 9])
@pytest.mark.parametrize(
    ("market", "timeframe", "volatility", "levels", "last"),
    [
        ("nifty", "1d", (0.13, 0.165), (2_500.0, 60_000.0), 25_000.0),
        ("btc", "4h", (0.45, 0.55), (8_000.0, 400_000.0), 90_000.0),
    ],
)
def test_prices_are_plausible(
    market: str,
    timeframe: str,
    volatility: tuple[float, float],
    levels: tuple[float, float],
    last: float,
    seed: int,
) -> None:
    bars = PricePath.build(market, CALENDARS[market], seed).bars(
        timeframe, Epoch(0), Epoch(END_OF_TIME)
    )
    returns = np.diff(np.log(bars.close))
    assert volatility[0] < returns.std() * BARS_PER_YEAR[market, timeframe] ** 0.5 < volatility[1]
    assert levels[0] < bars.close.min() < bars.close.max() < levels[1]
    assert bars.close[-1] == pytest.approx(last, rel=0.06)
    clustering = np.corrcoef(np.abs(returns[1:]), np.abs(returns[:-1]))[0, 1]
    kurtosis = np.mean(returns**4) / np.mean(returns**2) ** 2
    assert clustering > 0.1
    assert kurtosis > 4.5


def test_sessions_open_with_a_gap_and_are_busiest_at_their_ends(paths: Paths) -> None:
    bars = paths["nifty"].bars("15m", Epoch(instant(2019, 1, 1)), Epoch(instant(2026, 1, 1)))
    is_first = np.diff(bars.opens_at, prepend=0) > 6 * 3_600
    gaps = np.abs(np.log(bars.open[1:] / bars.close[:-1]))
    assert np.median(gaps[is_first[1:]]) > 0.001
    assert not gaps[np.diff(bars.opens_at) == 900].any()
    ranges = np.log(bars.high / bars.low)
    middle = np.median(np.roll(ranges, -12)[is_first])
    assert np.median(ranges[is_first]) > 1.5 * middle
    assert np.median(np.roll(ranges, -24)[is_first]) > 1.15 * middle


def shuffled(bars: Bars) -> Bars:
    """Return the bars in random order, chained into a new path: the same changes, no memory."""
    chosen = np.random.default_rng(0).permutation(len(bars))
    close = np.log(bars.close)
    before = np.concatenate([np.log(bars.open[:1]), close[:-1]])
    chained = before[0] + np.cumsum((close - before)[chosen])
    base = np.concatenate([before[:1], chained[:-1]])
    open_, high, low = (
        np.exp(base + (np.log(column) - before)[chosen])
        for column in (bars.open, bars.high, bars.low)
    )
    return Bars(bars.opens_at, bars.closes_at, open_, high, low, np.exp(chained), bars.volume)


def net_sharpe(
    path: PricePath, market: str, timeframe: str, start: int = 0, shuffle: bool = False
) -> float:
    """Return the yearly Sharpe ratio, net of costs, of a ridge forecast on the last quarter.

    Decided at a bar's close, filled at the next open, held while the forecast does not turn past
    a threshold; weights and threshold come from the first three quarters.
    """
    bars = {
        name: path.bars(name, Epoch(start), Epoch(END_OF_TIME))
        for name in CONTEXTS[market, timeframe]
    }
    own = bars[timeframe] = path.bars(timeframe, Epoch(start), Epoch(END_OF_TIME))
    if shuffle:
        own = bars[timeframe] = shuffled(own)
    rows = features.compute(market, timeframe, bars, nothing(market), CALENDARS[market])
    index = np.searchsorted(own.opens_at, rows.opens_at)[:-2]
    target = np.log(own.open[index + 2] / own.open[index + 1])
    cut = int(0.75 * len(target))
    values = rows.values[:-2].astype(np.float64)
    values = (values - values[:cut].mean(axis=0)) / (values[:cut].std(axis=0) + 1e-9)
    past = values[:cut]
    penalty = 0.003 * cut * np.eye(values.shape[1])
    weights = np.linalg.solve(
        past.T @ past + penalty, past.T @ (target[:cut] - target[:cut].mean())
    )
    forecast = values @ weights / (past @ weights).std()

    def earned(rows: slice, threshold: float) -> FloatArray:
        decided = np.where(np.abs(forecast[rows]) > threshold, np.sign(forecast[rows]), 0.0)
        latest = np.maximum.accumulate(np.where(decided != 0.0, np.arange(len(decided)), 0))
        held = decided[latest]
        return held * target[rows] - np.abs(np.diff(held, prepend=0.0)) * COST[market]

    past_rows, new_rows = slice(0, cut), slice(cut, None)
    threshold = max((0.25, 0.5, 1.0, 1.5, 2.0, 2.5), key=lambda x: earned(past_rows, x).sum())
    earnings = earned(new_rows, threshold)
    years = BARS_PER_YEAR[market, timeframe]
    return float(earnings.mean() / (earnings.std() + 1e-12) * years**0.5)


def test_every_slot_has_an_edge_after_costs_and_the_twin_has_none(
    paths: Paths, twins: Paths
) -> None:
    with_edge, without, at_random = {}, {}, {}
    for market, timeframe in CONTEXTS:
        start = instant(2017, 1, 1) if timeframe == "15m" else 0
        with_edge[market, timeframe] = net_sharpe(paths[market], market, timeframe, start)
        without[market, timeframe] = net_sharpe(twins[market], market, timeframe, start)
        at_random[market, timeframe] = net_sharpe(
            paths[market], market, timeframe, start, shuffle=True
        )
    assert min(with_edge.values()) > 1.5, with_edge
    assert max(with_edge.values()) < 8.0, with_edge
    for none in (without, at_random):
        # The standard error of one slot's test span is between a half and one.
        assert max(none.values()) < 1.2, none
        assert np.mean(list(none.values())) < 0.5, none
