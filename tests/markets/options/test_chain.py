"""Which instruments are wanted."""

import datetime as dt
from decimal import Decimal

from markets.domain.calendar import ist_instant
from markets.options.chain import CHAINS, MOST, Chain, indices, wanted
from markets.venues.base import VenueInstrument
from tests.markets.simulator.broker import shared_world

MONDAY = dt.date(2026, 6, 1)
FIRST, SECOND = dt.date(2026, 6, 2), dt.date(2026, 6, 9)
NIFTY = (Chain("NIFTY", 2, 3),)


def index(name: str) -> VenueInstrument:
    zero = Decimal(0)
    return VenueInstrument(name, f"NSE:{name}", 1, "INDEX", name, None, zero, zero, zero)


def option(strike: int, expiry: dt.date = FIRST, kind: str = "CE") -> VenueInstrument:
    name = f"NIFTY {expiry} {strike} {kind}"
    numbers = Decimal(strike), Decimal(65), Decimal("0.05")
    return VenueInstrument(name, f"NFO:{name}", 1, kind, "NIFTY", expiry, *numbers)


def listed(*expiries: dt.date) -> list[VenueInstrument]:
    return [
        index("NIFTY"),
        *(
            option(strike, expiry, kind)
            for expiry in expiries or (FIRST,)
            for strike in range(24_000, 26_001, 50)
            for kind in ("CE", "PE")
        ),
    ]


def strikes(rows: list[VenueInstrument]) -> list[int]:
    return sorted({int(row.strike) for row in rows if row.kind != "INDEX"})


def test_strikes_are_round_the_money_of_the_nearest_expiries() -> None:
    third = dt.date(2026, 6, 16)
    found = wanted(listed(third, SECOND, FIRST), {"NIFTY": 25_012.0}, MONDAY, chains=NIFTY)
    assert strikes(found) == [24_850, 24_900, 24_950, 25_000, 25_050, 25_100, 25_150]
    assert {row.expiry for row in found} == {None, FIRST, SECOND}
    assert len(found) == 1 + 2 * 7 * 2
    assert found[0].name == "NIFTY"


def test_it_follows_the_spot_and_keeps_what_was_wanted() -> None:
    rows = listed()
    before = {row.name for row in wanted(rows, {"NIFTY": 25_000.0}, MONDAY, chains=NIFTY)}
    assert before == {
        row.name for row in wanted(rows, {"NIFTY": 25_020.0}, MONDAY, before, chains=NIFTY)
    }
    after = wanted(rows, {"NIFTY": 25_101.0}, MONDAY, before, chains=NIFTY)
    assert strikes(after) == list(range(24_850, 25_251, 50))


def test_what_is_furthest_leaves_when_two_calls_are_full() -> None:
    rows = listed()
    all_day = {row.name for row in rows}
    found = wanted(rows, {"NIFTY": 25_000.0}, MONDAY, all_day, chains=NIFTY, most=21)
    assert len(found) == 21
    assert {24_850, 25_000, 25_150} <= set(strikes(found))


def test_expiries_are_dates_of_the_list() -> None:
    shifted = dt.date(2026, 11, 23)  # the Tuesday is a holiday
    rows = listed(shifted, dt.date(2026, 12, 1), dt.date(2026, 12, 8))
    friday = wanted(rows, {"NIFTY": 25_000.0}, dt.date(2026, 11, 20), chains=NIFTY)
    assert {row.expiry for row in friday} == {None, shifted, dt.date(2026, 12, 1)}
    tuesday = wanted(rows, {"NIFTY": 25_000.0}, dt.date(2026, 11, 24), chains=NIFTY)
    assert {row.expiry for row in tuesday} == {None, dt.date(2026, 12, 1), dt.date(2026, 12, 8)}


def test_the_month_s_last_expiry_is_never_left_out() -> None:
    weeks = [dt.date(2026, 9, 1) + dt.timedelta(weeks=week) for week in range(6)]
    four = (Chain("NIFTY", 4, 10),)
    found = wanted(listed(*weeks), {"NIFTY": 25_000.0}, weeks[0], chains=four)
    assert {row.expiry for row in found} == {None, *weeks[:3], dt.date(2026, 9, 29)}
    # From the second week on the month's last is one of the nearest four.
    found = wanted(listed(*weeks), {"NIFTY": 25_000.0}, weeks[1], chains=four)
    assert {row.expiry for row in found} == {None, *weeks[1:5]}


def test_a_new_strike_joins_and_a_lost_symbol_leaves() -> None:
    rows = listed()
    before = {row.name for row in wanted(rows, {"NIFTY": 25_000.0}, MONDAY, chains=NIFTY)}
    rows.append(option(25_025))
    found = {row.name for row in wanted(rows, {"NIFTY": 25_020.0}, MONDAY, before, chains=NIFTY)}
    assert "NIFTY 2026-06-02 25025 CE" in found
    lost = "NIFTY 2026-06-02 25000 CE"
    left = [row for row in rows if row.name != lost]
    assert lost not in {
        row.name for row in wanted(left, {"NIFTY": 25_000.0}, MONDAY, before, chains=NIFTY)
    }


def test_without_a_spot_there_is_only_what_was_wanted_before() -> None:
    rows = listed()
    assert [row.name for row in wanted(rows, {}, MONDAY, chains=NIFTY)] == ["NIFTY"]
    kept = wanted(rows, {}, MONDAY, {"NIFTY 2026-06-02 25000 PE"}, chains=NIFTY)
    assert [row.name for row in kept] == ["NIFTY", "NIFTY 2026-06-02 25000 PE"]


def test_the_three_chains_are_about_730_of_what_the_exchanges_list() -> None:
    assert indices() == ("NIFTY", "BANKNIFTY", "SENSEX")
    assert sum(each.expiries * (2 * each.strikes_each_side + 1) * 2 for each in CHAINS) == 728
    assert MOST == 1_000
    world, _ = shared_world()
    friday = dt.date(2026, 11, 20)
    rows = [
        VenueInstrument(
            f"{row.underlying} {row.expiry} {row.strike:g} {row.kind}",
            row.key,
            row.token,
            row.kind,
            row.underlying,
            row.expiry,
            *map(Decimal, (repr(row.strike), str(row.lot_size), repr(row.tick_size))),
        )
        for row in world.exchange.on(friday).rows
    ]
    at = ist_instant(friday, dt.time(10))
    spots = {name: world.prices.spot_at(name, at) for name in indices()}
    found = [row for row in wanted(rows, spots, friday) if row.kind in ("CE", "PE")]
    assert len(found) == 728
    nifty = sorted({row.expiry for row in found if row.underlying == "NIFTY" and row.expiry})
    assert nifty[0] == dt.date(2026, 11, 23)
