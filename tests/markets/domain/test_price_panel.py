import dataclasses
import datetime
import time

import numpy as np
import pytest

from markets.domain.bars import Bars
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, nse_days, trading_date
from markets.domain.contracts import expiries
from markets.domain.price_panel import PricePanel, build_price_panel
from tests.markets.domain.rates import rates_on
from tradingsite.clock import Epoch

Date = datetime.date
CARRY = 0.065


@pytest.fixture(scope="module")
def nse() -> NseCalendar:
    return NseCalendar.from_days(nse_days())


def walk(calendar: Calendar, timeframe: str, start: Date, end: Date, level: float) -> Bars:
    opens_at = np.array(
        [
            open_at
            for session in calendar.sessions(start, end)
            for open_at in calendar.bar_opens(timeframe, session.date)
        ],
        dtype=np.int64,
    )
    random = np.random.default_rng(5)
    close = level * np.exp(np.cumsum(random.normal(0.0, 0.001, len(opens_at))))
    open_ = np.concatenate(([level], close[:-1]))
    bars = Bars(
        opens_at=opens_at,
        closes_at=calendar.closes_at(timeframe, opens_at),
        open=open_,
        high=np.maximum(open_, close),
        low=np.minimum(open_, close),
        close=close,
        volume=np.zeros(len(opens_at)),
    )
    bars.validate()
    return bars


@pytest.fixture(scope="module")
def bars(nse: NseCalendar) -> Bars:
    return walk(nse, "1h", Date(2024, 1, 1), Date(2026, 11, 30), 22_000.0)


@pytest.fixture(scope="module")
def panel(nse: NseCalendar, bars: Bars) -> PricePanel:
    return build_price_panel("nifty", bars, nse, slippage_bps=1.0, carry_per_year=CARRY)


def test_bitcoin_is_priced_as_it_is() -> None:
    calendar = CryptoCalendar()
    bars = walk(calendar, "4h", Date(2025, 4, 1), Date(2025, 6, 30), 60_000.0)
    panel = build_price_panel("btc", bars, calendar, slippage_bps=1.5)
    assert np.array_equal(panel.open, bars.open)
    assert np.array_equal(panel.close, bars.close)
    assert np.array_equal(panel.previous_open, bars.open)
    assert not panel.roll.any()
    assert (panel.lot_size == 0.01).all()
    assert panel.slippage == pytest.approx(0.00015)


def test_nifty_rolls_once_a_month_at_the_first_bar_of_expiry_day(
    nse: NseCalendar, panel: PricePanel
) -> None:
    rolled = [trading_date(Epoch(opens_at)) for opens_at in panel.opens_at[panel.roll]]
    assert rolled == expiries(nse, Date(2024, 1, 1), Date(2026, 11, 30))
    assert Date(2026, 11, 23) in rolled
    for row in np.flatnonzero(panel.roll):
        assert trading_date(Epoch(panel.opens_at[row - 1])) < trading_date(
            Epoch(panel.opens_at[row])
        )


def test_price_is_the_spot_with_carry_to_expiry(bars: Bars, panel: PricePanel) -> None:
    days = [trading_date(Epoch(opens_at)) for opens_at in bars.opens_at]
    row = days.index(Date(2026, 11, 3))
    factor = 1 + CARRY * 20 / 365  # to Monday 23 November 2026
    assert panel.open[row] == pytest.approx(bars.open[row] * factor, rel=1e-14)
    assert panel.close[row] == pytest.approx(bars.close[row] * factor, rel=1e-14)
    expiry_day = days.index(Date(2026, 11, 23))
    assert panel.previous_open[expiry_day] == bars.open[expiry_day]
    next_factor = 1 + CARRY * 36 / 365  # to Tuesday 29 December 2026
    assert panel.open[expiry_day] == pytest.approx(bars.open[expiry_day] * next_factor, rel=1e-14)


def test_a_held_contract_has_no_jump_but_carry(bars: Bars, panel: PricePanel) -> None:
    stays = ~panel.roll
    assert np.array_equal(panel.previous_open[stays], panel.open[stays])
    assert (panel.previous_open[panel.roll] < panel.open[panel.roll]).all()
    # The spot opens where it closed, so only days of carry separate a close and the next open
    # of the contract held: three over a weekend, a few more over holidays.
    jump = panel.close[:-1] / panel.previous_open[1:] - 1.0
    nights = np.diff((bars.opens_at + 19_800) // 86_400)
    assert (np.abs(jump[nights == 0]) < 1e-12).all()
    assert (jump > -1e-12).all()
    assert jump.max() < CARRY * nights.max() / 365 + 1e-9


def test_lots_change_only_where_the_contract_does(panel: PricePanel) -> None:
    changes = np.flatnonzero(np.diff(panel.lot_size)) + 1
    assert panel.roll[changes].all()
    dates = [trading_date(Epoch(panel.opens_at[row])) for row in changes]
    assert dates == [Date(2024, 4, 25), Date(2025, 1, 30), Date(2025, 12, 30)]
    assert list(dict.fromkeys(panel.lot_size)) == [50.0, 25.0, 75.0, 65.0]


def test_charges_are_those_of_each_bars_date(panel: PricePanel) -> None:
    for row in (0, len(panel) // 2, len(panel) - 1):
        rates = rates_on("nifty", trading_date(Epoch(panel.opens_at[row])))
        assert panel.buy_rate[row] == rates.buy_rate
        assert panel.sell_rate[row] == rates.sell_rate
        assert panel.brokerage_rate[row] == rates.brokerage_rate
        assert panel.brokerage_cap[row] == rates.brokerage_cap
    assert len(np.unique(panel.sell_rate)) == 3


def test_a_later_bar_never_changes_an_earlier_row(
    nse: NseCalendar, bars: Bars, panel: PricePanel
) -> None:
    for stop in (1, 2, 130, 131, 1_000, 2_500, len(bars) - 1):
        short = build_price_panel("nifty", bars.slice(0, stop), nse, 1.0, CARRY)
        assert_same(short, panel.slice(0, stop))


def test_slice_gives_views_of_every_column(panel: PricePanel) -> None:
    part = panel.slice(10, 20)
    assert len(part) == 10
    assert part.slippage == panel.slippage
    assert np.shares_memory(part.previous_open, panel.previous_open)
    assert np.array_equal(part.opens_at, panel.opens_at[10:20])


def test_a_hole_over_expiry_rolls_once_at_the_spot(nse: NseCalendar, bars: Bars) -> None:
    days = np.array([trading_date(Epoch(opens_at)).toordinal() for opens_at in bars.opens_at])
    hole = (days >= Date(2025, 3, 20).toordinal()) & (days <= Date(2025, 6, 10).toordinal())
    kept = Bars(*(getattr(bars, field.name)[~hole] for field in dataclasses.fields(Bars)))
    panel = build_price_panel("nifty", kept, nse, 1.0, CARRY)
    row = int(np.flatnonzero(hole)[0])
    assert panel.roll[row]
    assert panel.previous_open[row] == kept.open[row]


def test_carry_comes_from_the_registry_unless_given(nse: NseCalendar, bars: Bars) -> None:
    few = bars.slice(0, 50)
    assert_same(
        build_price_panel("nifty", few, nse, 1.0), build_price_panel("nifty", few, nse, 1.0, CARRY)
    )
    flat = build_price_panel("nifty", few, nse, 1.0, carry_per_year=0.0)
    assert np.array_equal(flat.open, few.open)


def test_no_bars_make_an_empty_panel(nse: NseCalendar) -> None:
    assert len(build_price_panel("nifty", Bars.empty(), nse, 1.0)) == 0
    assert len(build_price_panel("btc", Bars.empty(), CryptoCalendar(), 1.0)) == 0


def test_an_unknown_market_is_refused(nse: NseCalendar) -> None:
    with pytest.raises(ValueError, match="nifty, btc"):
        build_price_panel("gold", Bars.empty(), nse, 1.0)


def test_building_is_quick_enough_to_do_it_anew(nse: NseCalendar) -> None:
    bars = walk(nse, "15m", Date(2021, 4, 1), Date(2024, 10, 15), 15_000.0)
    assert len(bars) > 21_000
    started = time.process_time()
    build_price_panel("nifty", bars, nse, 1.0)
    # About 2 ms here; the bound leaves room for a busy machine.
    assert time.process_time() - started < 0.05


def assert_same(left: PricePanel, right: PricePanel) -> None:
    for field in dataclasses.fields(PricePanel):
        assert np.array_equal(getattr(left, field.name), getattr(right, field.name)), field.name
