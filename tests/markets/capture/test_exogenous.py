"""India VIX and funding beside the bars."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from django.test import override_settings

from markets.capture import exogenous as exogenous_capture
from markets.capture.exogenous import FUNDING, VIX
from markets.models import Reading, Source
from markets.simulator import exogenous as simulated_exogenous
from markets.simulator.hyperliquid.market import UNIVERSE
from tests.markets.capture.bars.desk import DATABASES, BarsDesk, bars_desk
from tests.markets.simulator.broker import ist, shared_world
from tradingsite import clock
from tradingsite.clock import Epoch

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture
def desk(
    tmp_path: Path, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[BarsDesk]:
    """Return a desk in paper mode on Monday at ten, without a bar or a reading."""
    monkeypatch.setattr(exogenous_capture, "FIRST_DAYS", 4)
    with override_settings(MODE="paper"), bars_desk(tmp_path, set_market, monkeypatch) as made:
        yield made


def times(series: exogenous_capture.Series) -> list[str]:
    rows = Reading.on(series.market).objects.filter(series=series.name).order_by("at")
    return [f"{row.at.astimezone(clock.IST):%d %H:%M}" for row in rows]


def test_every_close_of_the_volatility_index_is_kept(desk: BarsDesk) -> None:
    run = desk.fire()
    assert run and "of INDIA VIX 15m" in run.detail
    assert times(VIX[0])[:2] == ["29 09:30", "29 09:45"] and times(VIX[0])[-1] == "01 10:00"
    assert times(VIX[1])[-2:] == ["29 15:15", "29 15:30"]
    assert times(VIX[2])[-1] == "29 15:30"
    row = Reading.on("nifty").objects.filter(series="INDIA VIX 15m").order_by("-at")[0]
    assert row.source == Source.VENUE
    prices = shared_world()[0].prices
    truth = float(prices.spot("INDIA VIX", np.array([ist("2026-06-01 10:00")]))[0])
    assert abs(float(row.value) - truth) < 0.01
    assert desk.fire() is None


def test_the_next_close_comes_with_the_next_bar(desk: BarsDesk) -> None:
    desk.fire()
    desk.go("2026-06-01 10:14")
    assert desk.fire() is None
    desk.go("2026-06-01 10:15")
    run = desk.fire()
    assert run and "1 of INDIA VIX 15m" in run.detail and "1 of INDIA VIX 1h" in run.detail
    assert times(VIX[0])[-1] == times(VIX[1])[-1] == "01 10:15"


def test_funding_is_paid_by_the_hour_of_this_exchange(desk: BarsDesk) -> None:
    desk.fire()
    assert times(FUNDING)[-1] == "01 09:30"
    assert len(times(FUNDING)) == 4 * 24
    assert exogenous_capture.interval(FUNDING) == 3_600
    desk.go("2026-06-01 10:30")
    assert exogenous_capture.due(FUNDING, clock.epoch(desk.now)) is None  # paid a little later
    desk.go("2026-06-01 10:31")
    run = desk.fire()
    assert run and "1 of FUNDING" in run.detail
    assert times(FUNDING)[-1] == "01 10:30"
    row = Reading.on("btc").objects.order_by("-at")[0]
    market = desk.exchange.engine.market
    paid = market.funding_rate(UNIVERSE[0], ist("2026-06-01 10:30") - 1)
    assert row.value == paid.quantize(Decimal("1e-10"))


def test_one_series_that_fails_costs_the_others_nothing(desk: BarsDesk) -> None:
    desk.kite.broker.kite.sessions.expire()
    run = desk.fire()
    assert run and "INDIA VIX 15m did not come" in run.detail and "96 of FUNDING" in run.detail
    assert times(VIX[0]) == []
    desk.kite.sign_in()
    desk.go("2026-06-01 10:05")
    run = desk.fire()
    assert run and times(VIX[0])[-1] == "01 10:00"


def test_the_generated_past_is_what_the_venues_would_say_of_it(desk: BarsDesk) -> None:
    world = shared_world()[0]
    start, end = int(ist("2026-05-21 05:30")), int(ist("2026-05-29 20:00"))
    for series in (VIX[2], FUNDING):
        said = exogenous_capture.fetch(series, Epoch(start), Epoch(end))
        assert (
            simulated_exogenous.rows_of(series.name, world, 7, Epoch(start), Epoch(end)) == said
            and len(said) > 5
        )
    with pytest.raises(ValueError, match="no generated series 'GOLD'"):
        simulated_exogenous.rows_of("GOLD", world, 7, Epoch(start), Epoch(end))


def test_a_corrected_reading_takes_the_place_of_the_first() -> None:
    at = int(ist("2026-06-01 10:00"))
    assert exogenous_capture.upsert(FUNDING, [(at, Decimal("0.0001"))], Source.VENUE) == 1
    assert exogenous_capture.upsert(FUNDING, [(at, Decimal("0.0001"))], Source.VENUE) == 0
    assert exogenous_capture.upsert(FUNDING, [(at, Decimal("0.0002"))], Source.VENUE) == 1
    assert Reading.on("btc").objects.get().value == Decimal("0.0002")
    assert exogenous_capture.upsert(FUNDING, [], Source.VENUE) == 0


def test_a_page_of_funding_after_the_other(desk: BarsDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = int(ist("2026-05-20 05:30")), int(ist("2026-05-23 05:30"))
    whole = exogenous_capture.fetch(FUNDING, Epoch(start), Epoch(end))
    monkeypatch.setattr("markets.venues.ccxt.market_data.FUNDINGS_PER_PAGE", 10)
    assert exogenous_capture.fetch(FUNDING, Epoch(start), Epoch(end)) == whole
    assert [at for at, _ in whole] == list(range(start + 3_600, end + 1, 3_600))
