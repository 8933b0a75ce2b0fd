"""A paper account at a broker's real prices: its fills, and what it does when they are missing."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from markets.models import Quote
from markets.venues import paper
from markets.venues.paper import PaperVenue
from tests.desk import calendar_of
from tests.markets.venues.kite.desk import FUTURE, KiteDesk, kite_desk
from tradingsite import clock

pytestmark = pytest.mark.django_db(databases=["nifty", "default"])


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    with kite_desk(tmp_path, set_market) as made:
        yield made


def test_paper_orders_fill_at_the_brokers_quotes_and_wait_where_it_has_none(
    desk: KiteDesk,
) -> None:
    account = PaperVenue("nifty", calendar_of("nifty"))
    desk.broker.fault("missing_quotes", match="NIFTY26JUNFUT")
    # The account needs a first price before it takes an order.
    quote = desk.venue.quotes(["NIFTY"])["NIFTY"]
    Quote.on("nifty").objects.create(instrument=FUTURE, price=quote.last, at=quote.at)
    account.place("T1PAPER", FUTURE, Decimal(65), 10.0)
    desk.go("2026-06-01 10:01")
    assert paper.fill_from("nifty", desk.venue, clock.market()) == 0
    assert [each.state for each in account.orders(["T1PAPER"])] == ["open"]
    desk.go("2026-06-01 10:02")
    assert paper.fill_from("nifty", desk.venue, clock.market()) == 1
    shown = desk.venue.quotes([FUTURE])[FUTURE]
    [trade] = account.trades(clock.market())
    assert trade.price == (shown.last * Decimal("1.001")).quantize(Decimal("0.0001"))
    assert account.quote(FUTURE) == shown.last
    assert desk.broker.kite.trading.placements == 0, "nothing reached the broker"
