"""Market data of the simulated broker, through the broker's own client."""

import datetime as dt
from collections.abc import Iterator

import pytest
import requests
from kiteconnect import exceptions

from tests.markets.simulator.broker import FUTURE, Broker, broker
from tradingsite.clock import IST

NIFTY = 256265


@pytest.fixture(scope="module")
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


def test_the_list_of_instruments_is_whole_and_can_be_asked_for_by_exchange(desk: Broker) -> None:
    rows = desk.client.instruments()
    assert len({row["instrument_token"] for row in rows}) == len(rows) > 3_000
    indices = {row["tradingsymbol"]: row for row in rows if row["segment"] == "INDICES"}
    assert {name: row["instrument_token"] for name, row in indices.items()} == {
        "NIFTY 50": 256265,
        "NIFTY BANK": 260105,
        "INDIA VIX": 264969,
        "SENSEX": 265,
    }
    nfo = desk.client.instruments("NFO")
    assert nfo == [row for row in rows if row["exchange"] == "NFO"]
    futures = [row for row in nfo if row["instrument_type"] == "FUT" and row["name"] == "NIFTY"]
    assert [row["tradingsymbol"] for row in futures] == [FUTURE, "NIFTY26JULFUT", "NIFTY26AUGFUT"]
    assert (futures[0]["lot_size"], futures[0]["tick_size"]) == (65, 0.1)
    assert futures[0]["expiry"] == dt.date(2026, 6, 30)
    for row in rows[:50]:
        assert row["instrument_token"] >> 8 == int(row["exchange_token"])
    with pytest.raises(exceptions.InputException, match="Invalid exchange"):
        desk.client.instruments("NOWHERE")


def test_symbols_are_those_of_weekly_and_monthly_contracts(desk: Broker) -> None:
    desk.go("2026-11-18 10:00")
    rows = [row for row in desk.client.instruments("NFO") if row["name"] == "NIFTY"]
    strikes = {row["tradingsymbol"]: row["expiry"] for row in rows if row["strike"] == 23_000}
    # The last Tuesday of November 2026 is a holiday: its contract ends on Monday the 23rd.
    assert strikes["NIFTY26NOV23000CE"] == dt.date(2026, 11, 23)
    assert strikes["NIFTY26D0123000PE"] == dt.date(2026, 12, 1)
    assert strikes["NIFTY26DEC23000PE"] == dt.date(2026, 12, 29)
    desk.go("2026-06-01 10:00")


def test_quotes_of_five_hundred_instruments_come_in_one_call(desk: Broker) -> None:
    keys = [f"NFO:{row['tradingsymbol']}" for row in desk.client.instruments("NFO")]
    quotes = desk.client.quote(keys[:500])
    assert list(quotes) == keys[:500]
    for quote in quotes.values():
        ohlc, depth = quote["ohlc"], quote["depth"]
        assert ohlc["low"] <= quote["last_price"] <= ohlc["high"]
        assert depth["sell"][0]["price"] >= quote["last_price"] >= depth["buy"][0]["price"]
        assert [level["price"] for level in depth["sell"]] == sorted(
            level["price"] for level in depth["sell"]
        )
    with pytest.raises(exceptions.InputException, match="500 are the most"):
        desk.client.quote(keys[:501])
    assert len(desk.client.ltp(keys[:1_000])) == 1_000
    with pytest.raises(exceptions.InputException, match="1000 are the most"):
        desk.client.ltp(keys[:1_001])
    assert desk.client.quote(["NFO:NOTHING"]) == {}


def test_history_agrees_with_the_quotes_and_with_itself(desk: Broker) -> None:
    desk.go("2026-06-01 12:07")
    ltp = desk.client.ltp(["NSE:NIFTY 50"])["NSE:NIFTY 50"]["last_price"]
    day, now = "2026-06-01 09:15:00", "2026-06-01 15:30:00"
    minutes = desk.client.historical_data(NIFTY, day, now, "minute")
    quarters = desk.client.historical_data(NIFTY, day, now, "15minute")
    assert len(minutes) == 172, "up to now, and the bar that is still forming"
    assert minutes[-1]["close"] == ltp
    assert quarters[-1]["date"] == dt.datetime(2026, 6, 1, 12, 0, tzinfo=IST)
    for number, bar in enumerate(quarters):
        part = minutes[number * 15 : number * 15 + 15]
        assert bar["open"] == part[0]["open"]
        assert bar["close"] == part[-1]["close"]
        assert bar["high"] == max(each["high"] for each in part)
        assert bar["low"] == min(each["low"] for each in part)
    days = desk.client.historical_data(NIFTY, "2026-05-25", "2026-06-01", "day")
    assert [row["date"].day for row in days] == [25, 26, 27, 29, 1], "the 28th is a holiday"
    assert days[-1]["close"] == ltp
    desk.go("2026-06-01 10:00")


def test_history_of_contracts_has_open_interest_where_asked(desk: Broker) -> None:
    rows = desk.client.instruments("NFO")
    token = next(row["instrument_token"] for row in rows if row["tradingsymbol"] == FUTURE)
    bars = desk.client.historical_data(token, "2026-05-29", "2026-05-29", "5minute", oi=True)
    assert len(bars) == 75
    assert all(bar["oi"] > 0 and bar["volume"] > 0 for bar in bars)


@pytest.mark.parametrize(
    ("token", "interval", "start", "end", "said"),
    [
        (NIFTY, "minute", "2026-03-01", "2026-05-20", "exceeds max limit: 60 days"),
        (NIFTY, "15minute", "2025-09-01", "2026-05-20", "exceeds max limit: 200 days"),
        (NIFTY, "4hour", "2026-05-01", "2026-05-20", "Invalid interval"),
        (1, "day", "2026-05-01", "2026-05-20", "invalid token"),
        (NIFTY, "day", "2026-05-20", "2026-05-01", "cannot be after"),
        (NIFTY, "day", "soon", "2026-05-01", "Invalid `from` date"),
    ],
)
def test_wrong_history_requests_are_refused(
    desk: Broker, token: int, interval: str, start: str, end: str, said: str
) -> None:
    with pytest.raises(exceptions.InputException, match=said):
        desk.client.historical_data(token, start, end, interval)


def test_faults_of_quotes(desk: Broker) -> None:
    keys = [f"NFO:{FUTURE}", "NSE:INFY"]
    right = desk.client.ltp(keys)
    desk.fault("missing_quotes", match="INFY")
    assert list(desk.client.ltp(keys)) == [f"NFO:{FUTURE}"]
    desk.fault("absurd_price", match="INFY")
    absurd = desk.client.ltp(keys)
    assert absurd["NSE:INFY"]["last_price"] == pytest.approx(
        10 * right["NSE:INFY"]["last_price"], abs=0.01
    )
    before = desk.client.quote(keys[0])[keys[0]]
    desk.fault("stale_prices", seconds=600)
    desk.client.quote(keys[0])
    desk.go("2026-06-01 10:05")
    stale = desk.client.quote(keys[0])[keys[0]]
    assert (stale["last_price"], stale["timestamp"]) == (before["last_price"], before["timestamp"])
    desk.go("2026-06-01 10:11")
    assert desk.client.quote(keys[0])[keys[0]]["timestamp"].minute == 11
    desk.go("2026-06-01 10:00")


def test_faults_are_put_listed_and_ended_by_http(desk: Broker) -> None:
    path = f"{desk.url}/_sim/fault"
    put = requests.post(path, json={"kind": "server_error", "times": 2}, timeout=5)
    assert put.json()["times"] == 2
    with pytest.raises(exceptions.DataException):
        desk.client.profile()
    listed = requests.get(path, timeout=5).json()
    assert [(each["kind"], each["times"]) for each in listed["waiting"]] == [("server_error", 1)]
    assert "timeout_after_acceptance" in listed["kinds"]
    assert requests.delete(path, timeout=5).json() == {"ended": 1}
    assert desk.client.profile()["user_id"] == "SIM001"
    wrong = requests.post(path, json={"kind": "nonsense"}, timeout=5)
    assert (wrong.status_code, "no fault 'nonsense'" in wrong.json()["error"]) == (400, True)


def test_an_hour_is_another_name_of_sixty_minutes(desk: Broker) -> None:
    span = (256265, "2026-05-25", "2026-05-29")
    hours = desk.client.historical_data(*span, "hour")
    assert hours == desk.client.historical_data(*span, "60minute")
    assert len(hours) >= 5 * 7 - 7
