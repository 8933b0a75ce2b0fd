"""The broker's venue, reading: lists, bars, quotes, ticks, and errors by their reaction."""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import requests

from markets.simulator import credentials as held
from markets.venues.base import (
    InsufficientFunds,
    NotListed,
    OrderRefused,
    OrderUncertain,
    RateLimited,
    Tick,
    TokenRefused,
)
from markets.venues.kite import errors as kite_errors
from tests.markets.simulator.broker import broker, ist
from tests.markets.venues.kite.desk import CALL, FUTURE, TAG, KiteDesk, kite_desk
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    with kite_desk(tmp_path, set_market) as made:
        yield made


# --- Instruments and prices ----------------------------------------------------------------------


def test_instruments_have_the_desks_names(desk: KiteDesk) -> None:
    listed = {each.name: each for each in desk.venue.instruments()}
    assert listed["NIFTY"].symbol == "NSE:NIFTY 50" and listed["NIFTY"].token == 256265
    assert {"BANKNIFTY", "INDIA VIX", "SENSEX"} <= set(listed)
    future = listed[FUTURE]
    assert (future.symbol, future.kind, future.underlying) == ("NFO:NIFTY26JUNFUT", "FUT", "NIFTY")
    assert (future.lot_size, future.expiry) == (Decimal(65), dt.date(2026, 6, 30))
    call = listed[CALL]
    assert (call.symbol, call.strike, call.kind) == ("NFO:NIFTY26JUN25000CE", Decimal(25000), "CE")
    assert "SENSEX 2026-06-25 FUT" in listed
    assert not any("RELIANCE" in name for name in listed)


def test_the_list_is_fetched_once_a_day(desk: KiteDesk) -> None:
    def fetched() -> int:
        return sum(path.startswith("GET /instruments/") for path in desk.broker.kite.requests)

    desk.venue._listed = None
    before = fetched()
    desk.venue.instruments()
    desk.venue.instruments()
    assert fetched() == before + 4
    desk.go("2026-06-02 07:00")
    desk.sign_in()
    desk.venue.instruments()
    desk.go("2026-06-02 09:00")  # the morning's list is out
    assert FUTURE in {each.name for each in desk.venue.instruments()}
    assert fetched() == before + 12


def test_bars_are_closed_and_inside_the_span(desk: KiteDesk) -> None:
    start, end = int(ist("2026-05-29 10:00")), int(ist("2026-06-02 00:00"))
    bars = desk.venue.bars("NIFTY", "15m", Epoch(start), Epoch(end))
    bars.validate()
    assert bars.opens_at[0] == start
    assert bars.closes_at[-1] == int(ist("2026-06-01 10:00"))  # of now; the next one is forming
    assert len(bars) == 22 + 3
    hours = desk.venue.bars("NIFTY", "1h", Epoch(start), Epoch(end))
    assert hours.opens_at[0] == int(ist("2026-05-29 10:15"))
    assert hours.closes_at[5] - hours.opens_at[5] == 900  # cut off at the close
    assert len(desk.venue.bars(FUTURE, "1m", Epoch(start), Epoch(start + 600))) == 10


def test_a_day_is_named_by_its_session(desk: KiteDesk) -> None:
    bars = desk.venue.bars(
        "NIFTY", "1d", Epoch(ist("2026-05-25 09:15")), Epoch(ist("2026-06-05 00:00"))
    )
    assert bars.opens_at[0] == int(ist("2026-05-25 09:15"))
    assert bars.closes_at[-1] == int(ist("2026-05-29 15:30"))  # today's has not closed


def test_long_spans_are_asked_for_in_pieces(desk: KiteDesk) -> None:
    bars = desk.venue.bars(
        "NIFTY", "15m", Epoch(ist("2025-06-02 09:15")), Epoch(ist("2026-06-01 10:00"))
    )
    calls = [path for path in desk.broker.kite.requests if "historical" in path]
    assert len(calls) == 2
    assert np.all(np.diff(bars.opens_at) > 0) and bars.opens_at[0] == int(ist("2025-06-02 09:15"))
    whole = desk.venue.bars(
        "NIFTY", "15m", Epoch(ist("2025-12-15 09:15")), Epoch(ist("2025-12-24 00:00"))
    )
    place = int(np.searchsorted(bars.opens_at, whole.opens_at[0]))
    assert np.array_equal(bars.close[place : place + len(whole)], whole.close)


def test_there_are_no_four_hours_and_no_unknown_names(desk: KiteDesk) -> None:
    with pytest.raises(ValueError, match="no '4h' bars; it has 1m"):
        desk.venue.bars("NIFTY", "4h", Epoch(0), Epoch(1))
    with pytest.raises(NotListed, match="no 'NIFTY 2019-01-31 FUT'"):
        desk.venue.bars("NIFTY 2019-01-31 FUT", "1h", Epoch(0), Epoch(1))


def test_quotes_are_in_pieces_and_what_is_missing_is_absent(desk: KiteDesk) -> None:
    listed = [each.name for each in desk.venue.instruments() if each.underlying == "NIFTY"]
    names = sorted({"NIFTY", FUTURE, CALL, *listed[:600]})
    desk.fault("missing_quotes", match="NIFTY26JUN25000CE")
    found = desk.venue.quotes([*names, "NIFTY 1999-01-01 FUT"])
    assert set(found) == set(names) - {CALL}
    future = found[FUTURE]
    assert 0 < future.bid < future.ask and future.volume > 0 and future.interest > 0
    assert abs((future.at - clock.market()).total_seconds()) < 60 and future.at.tzinfo
    index = found["NIFTY"]
    assert index.last > 0 and (index.bid, index.ask, index.interest) == (0, 0, 0)
    assert desk.venue.quote(FUTURE) == future.last
    desk.fault("missing_quotes", match="NIFTY26JUNFUT")
    assert desk.venue.quote(FUTURE) is None


def test_ticks_carry_the_desks_names(desk: KiteDesk) -> None:
    taken: list[Tick] = []
    stream = desk.venue.ticks(["NIFTY", FUTURE], taken.extend)
    try:
        desk.broker.wait(lambda: {each.instrument for each in taken} == {"NIFTY", FUTURE})
        desk.broker.wait(stream.is_alive)
    finally:
        stream.close()
    assert {each.instrument for each in taken} == {"NIFTY", FUTURE}  # never a token or a symbol
    assert all(each.last > 0 for each in taken)
    assert not stream.is_alive()


# --- Reading what fails --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault, reaction",
    [
        # Pages, which the client gives as one and the same error of its own.
        ("unavailable", Retry),
        ("server_error", Retry),
        ("not_json", Retry),
        ("busy", RateLimited),
        ("reset", Retry),
        ("rate_limit", RateLimited),
        ("token_expired", TokenRefused),
    ],
)
def test_reading_says_what_to_do(desk: KiteDesk, fault: str, reaction: type[Exception]) -> None:
    desk.fault(fault)
    with pytest.raises(reaction):
        desk.venue.orders([TAG])


def test_errors_by_their_status() -> None:
    from kiteconnect import exceptions as ex

    assert isinstance(kite_errors.of_reading(ex.GeneralException("x", code=500)), Retry)
    assert isinstance(kite_errors.of_reading(ex.NetworkException("x", code=503)), Retry)
    assert isinstance(kite_errors.of_reading(ex.InputException("x")), Degraded)
    assert isinstance(kite_errors.of_reading(KeyError("content-type")), Degraded)
    assert isinstance(kite_errors.of_reading(KeyError("content-type"), 200), Degraded)
    assert isinstance(kite_errors.of_reading(KeyError("content-type"), 502), Retry)
    # The status of an answer is not that of a connection which broke after it.
    assert isinstance(kite_errors.of_reading(requests.ConnectionError(), 429), Retry)
    for unsure in (
        ex.OrderException("Order request timed out. Please check the order book", code=400),
        ex.OrderException("RMS: circuit limit", code=500),
        ex.NetworkException("Request failed (kitetrade-oms).", code=503),
        KeyError("content-type"),
    ):
        assert isinstance(kite_errors.of_placing(unsure), OrderUncertain), unsure


# As brokers answer, by research/brokers.md 2.1; the form decides, and no list of words.
REFUSALS = (
    ("InputException", 400, "Markets are closed right now. Use GTT for placing long standing"),
    ("InputException", 400, "Intraday orders (MIS) are allowed only till 3.26 PM. Try placing"),
    ("InputException", 400, "Price exceeds circuit limits for the instrument."),
    ("OrderException", 400, "LIMIT orders that are far away from the LTP are restricted"),
    ("NetworkException", 400, "Maximum allowed order requests exceeded."),
    ("GeneralException", 400, "User not enabled for the segment."),
    ("PermissionException", 403, "No IPs configured for this app."),
    ("InputException", 400, "A text that nobody has heard of: check the order book"),
    ("OrderException", 404, "Couldn't find that `order_id`."),
)


@pytest.mark.parametrize(("name", "code", "text"), REFUSALS)
def test_a_refusal_is_known_by_its_form(name: str, code: int, text: str) -> None:
    from kiteconnect import exceptions as ex

    error = getattr(ex, name)(text, code=code)
    assert isinstance(kite_errors.of_placing(error), OrderRefused)


def test_want_of_margin_is_known_with_its_second_sentence_too() -> None:
    from kiteconnect import exceptions as ex

    said = "Insufficient funds. Required margin is 95417.84 but available margin is 74251.80. "
    error = ex.GeneralException(said + "Check the orderbook for open orders.", code=400)
    assert isinstance(kite_errors.of_placing(error), InsufficientFunds)


def test_a_new_token_is_used_without_a_restart(desk: KiteDesk) -> None:
    desk.venue.margins()
    desk.broker.kite.sessions.expire()
    with pytest.raises(TokenRefused, match=r"Sign in again at /kite/"):
        desk.venue.margins()
    desk.sign_in()
    assert desk.venue.margins().currency == "INR"
    assert desk.venue.profile()["user_id"] == held.KITE_USER_ID


def test_each_thread_has_a_client_of_its_own(desk: KiteDesk) -> None:
    desk.venue.margins()
    clients = [desk.venue._client()]
    thread = threading.Thread(target=lambda: clients.append(desk.venue._client()))
    thread.start()
    thread.join()
    assert clients[0] is desk.venue._client() and clients[0] is not clients[1]


def test_by_the_real_rules_the_broker_refuses_nothing(
    tmp_path: Path, set_market: Callable[..., None]
) -> None:
    with broker(has_limits=True) as served:
        served.kite.limits._counts.clear()
        desk = KiteDesk(served, tmp_path, set_market)
        venue = desk.make()
        venue.instruments()
        threads = [threading.Thread(target=venue.margins) for _ in range(14)]
        threads += [threading.Thread(target=venue.quote, args=(FUTURE,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert served.kite.limits.refused == 0
        assert served.kite.limits.most_in_a_second <= 10


def test_no_token_reaches_a_log(desk: KiteDesk, caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, "urllib3", "kiteconnect"):
        caplog.set_level(logging.DEBUG, name)
    desk.place()
    desk.filled()
    desk.venue.trades(clock.market())
    token = desk.tokens.current()
    desk.broker.kite.sessions.expire()
    with pytest.raises(TokenRefused):
        desk.venue.margins()
    assert "GET /orders" in caplog.text
    assert token not in caplog.text and held.KITE_API_SECRET not in caplog.text
