"""The packets of the simulated ticker, and the desk's parser, against kiteconnect's own parser."""

import datetime as dt
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kiteconnect import KiteTicker

from markets.domain.bars import IntArray
from markets.simulator.board import Board
from markets.simulator.kite.packets import Sheet
from markets.simulator.listing import INDEX as INDEX_KIND
from markets.venues.base import Tick
from markets.venues.kite.packets import DIVISORS, INDEX, INSTRUMENT, BadFrame, parse
from tests.markets.simulator.kite_client import ELEVEN, world_from

NOW = dt.datetime(2026, 6, 1, 5, 30, tzinfo=dt.UTC)
LENGTHS = (8, 28, 32, 44, 184)


def library(frame: bytes) -> list[dict[str, Any]]:
    """Return what kiteconnect reads in a frame."""
    found: list[dict[str, Any]] = KiteTicker("key", "token")._parse_binary(frame)
    return found


def as_tick(read: dict[str, Any]) -> Tick:
    """Return the desk's tick of the library's, whose times are of the machine's zone."""
    depth = read.get("depth", {"buy": [{"price": 0.0}], "sell": [{"price": 0.0}]})
    at = read.get("exchange_timestamp")
    return Tick(
        str(read["instrument_token"]),
        read["last_price"],
        depth["buy"][0]["price"],
        depth["sell"][0]["price"],
        read.get("volume_traded", 0),
        read.get("oi", 0),
        at.astimezone(dt.UTC) if at else NOW,
    )


class AnyName(dict[int, str]):
    """Names every token by its number."""

    def __contains__(self, token: object) -> bool:
        return True

    def __missing__(self, token: int) -> str:
        return str(token)


@pytest.fixture(scope="module")
def board() -> Board:
    """Return the board of eleven o'clock."""
    return world_from(speed=0.0).board()


def places_of(board: Board, *keys: str) -> IntArray:
    """Return the places of instruments."""
    return np.array([board.listing.by_key[key] for key in keys])


def some_option(board: Board, exchange: str) -> int:
    """Return the place of an option near the money of the first expiry."""
    rows = board.listing.rows
    priced = [p for p, row in enumerate(rows) if row.exchange == exchange and row.is_option]
    return min(priced, key=lambda place: abs(board.last[place] - 100.0))


@pytest.mark.parametrize("exchange", ["NFO", "BFO"])
def test_a_full_packet_is_what_the_board_shows(board: Board, exchange: str) -> None:
    place = some_option(board, exchange)
    frame = Sheet.of(board, np.array([place])).frame({"full": np.array([0])})
    assert len(frame) == 2 + 2 + 184
    [read] = library(frame)
    row = board.listing.rows[place]
    bids, offers = board.depth(place)
    assert read["instrument_token"] == row.token
    assert read["mode"] == "full"
    assert read["tradable"]
    assert read["last_price"] == pytest.approx(board.last[place])
    assert read["ohlc"] == {
        "open": pytest.approx(board.open[place]),
        "high": pytest.approx(board.high[place]),
        "low": pytest.approx(board.low[place]),
        "close": pytest.approx(board.close[place]),
    }
    assert read["volume_traded"] == board.volume[place] > 0
    assert read["oi"] == board.interest[place]
    assert read["oi_day_low"] <= read["oi"] <= read["oi_day_high"]
    assert read["last_traded_quantity"] == row.lot_size
    assert read["total_buy_quantity"] == 40 * sum(quantity for quantity, _, _ in bids)
    for side, levels in (("buy", bids), ("sell", offers)):
        assert read["depth"][side] == [
            {"quantity": quantity, "price": pytest.approx(price), "orders": orders}
            for quantity, price, orders in levels
        ]
    local = dt.datetime.fromtimestamp(ELEVEN)  # noqa: DTZ006 - as the library makes it
    assert read["exchange_timestamp"] == read["last_trade_time"] == local


def test_lesser_modes_are_the_beginning_of_the_full_one(board: Board) -> None:
    place = some_option(board, "NFO")
    sheet, row = Sheet.of(board, np.array([place])), np.array([0])
    [full] = library(sheet.frame({"full": row}))
    for mode, length, keys in (("quote", 44, 11), ("ltp", 8, 4)):
        frame = sheet.frame({mode: row})
        assert len(frame) == 4 + length
        [read] = library(frame)
        assert read["mode"] == mode
        assert len(read) == keys
        assert {**full, "mode": mode} | read == {**full, "mode": mode}


@pytest.mark.parametrize(("mode", "length"), [("ltp", 8), ("quote", 28), ("full", 32)])
def test_indices_have_packets_of_their_own(board: Board, mode: str, length: int) -> None:
    places = places_of(board, "NSE:NIFTY 50", "NSE:INDIA VIX", "BSE:SENSEX")
    frame = Sheet.of(board, places).frame({mode: np.arange(3)})
    assert len(frame) == 2 + 3 * (2 + length)
    for place, read in zip(places, library(frame), strict=True):
        assert read["mode"] == mode
        assert not read["tradable"]
        assert read["last_price"] == pytest.approx(board.last[place], abs=0.006)
        if mode != "ltp":
            assert read["ohlc"]["high"] == pytest.approx(board.high[place], abs=0.006)
            assert read["ohlc"]["open"] == pytest.approx(board.open[place], abs=0.006)
        if mode == "full":
            change = struct.unpack(">i", frame[4 + 24 : 4 + 28])[0] / 100.0
            assert read["exchange_timestamp"].timestamp() == ELEVEN
            first = places[0]
            assert change == pytest.approx(board.last[first] - board.close[first], abs=0.006)


def test_a_frame_mixes_modes_and_kinds(board: Board) -> None:
    places = np.arange(40)
    wanted = {"full": np.arange(0, 20), "ltp": np.arange(20, 30), "quote": np.arange(30, 40)}
    read = library(Sheet.of(board, places).frame(wanted))
    expected = {
        board.listing.rows[place].token: mode for mode, rows in wanted.items() for place in rows
    }
    assert {each["instrument_token"]: each["mode"] for each in read} == expected
    kinds = {board.listing.rows[place].kind for place in places}
    assert INDEX_KIND in kinds
    assert len(kinds) > 2


def test_prices_have_the_units_of_their_segment() -> None:
    tokens = np.array([(77 << 8) + segment for segment in (1, 2, 3, 4, 5, 6, 7, 9, 12)])
    sheet = Sheet.empty(tokens)
    for records in (sheet.instruments, sheet.indices):
        records["packet"]["last"] = np.rint(1.2345 * DIVISORS[tokens & 0xFF])
    read = library(sheet.frame({"ltp": np.arange(len(tokens))}))
    prices = {each["instrument_token"] & 0xFF: each["last_price"] for each in read}
    assert prices == {1: 1.23, 2: 1.23, 3: 1.2345, 4: 1.23, 5: 1.23} | {
        **{6: 1.2345, 7: 1.23, 9: 1.23, 12: 1.2345}
    }


def test_numbers_too_large_for_the_wire_are_cut(board: Board) -> None:
    sheet = Sheet.of(board, places_of(board, "BSE:SENSEX"))
    for _ in range(10):
        sheet.multiply_last(0, 10)
    assert library(sheet.frame({"ltp": np.array([0])}))[0]["last_price"] == (2**32 - 1) / 100.0


@given(
    st.lists(
        st.sampled_from(LENGTHS).flatmap(lambda n: st.binary(min_size=n, max_size=n))
        | st.binary(min_size=4, max_size=60),
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None)
def test_our_parser_reads_what_the_librarys_reads(packets: list[bytes]) -> None:
    frame = struct.pack(">H", len(packets))
    frame += b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)
    assert parse(frame, AnyName(), NOW) == [as_tick(each) for each in library(frame)]


def test_our_parser_passes_over_what_nobody_named(board: Board) -> None:
    places = places_of(board, "NSE:NIFTY 50", "NSE:RELIANCE")
    frame = Sheet.of(board, places).frame({"full": np.arange(2)})
    [tick] = parse(frame, {256265: "NIFTY"}, NOW)
    assert tick.instrument == "NIFTY"
    assert tick.at == dt.datetime.fromtimestamp(ELEVEN, dt.UTC)
    assert parse(b"\0", {256265: "NIFTY"}, NOW) == []


def test_our_parser_refuses_a_frame_cut_short(board: Board) -> None:
    frame = Sheet.of(board, np.arange(20)).frame({"full": np.arange(20)})
    for length in (3, 100, len(frame) - 1):
        with pytest.raises(BadFrame):
            parse(frame[:length], {}, NOW)


def test_layouts_have_the_wires_lengths() -> None:
    assert (INSTRUMENT.itemsize, INDEX.itemsize) == (184, 32)
