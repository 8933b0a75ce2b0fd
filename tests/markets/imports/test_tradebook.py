"""The broker's trade book, read strictly: every bad row is named by file, line and reason."""

import datetime as dt
import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from markets.imports.bars import BadFile
from markets.imports.tradebook import desk_name, read_tradebook
from markets.simulator import owner
from tests.markets.imports.tradebooks import DERIVATIVES, SHARE, SHARES, line, write
from tests.markets.simulator.broker import ist, shared_world
from tradingsite.clock import IST


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tradebook.csv"


def test_derivatives_have_fourteen_columns(path: Path) -> None:
    write(path, line(), line(trade_id="10000002", trade_type="sell", symbol="NIFTY26JUN25000CE"))
    bought, sold = read_tradebook(path).trades
    assert bought.key == ("NFO", dt.date(2026, 6, 1), "10000001", "NIFTY26JUNFUT")
    assert (bought.quantity, bought.price) == (Decimal(65), Decimal("25101.35"))
    assert bought.at == dt.datetime(2026, 6, 1, 10, 15, tzinfo=IST)
    assert bought.instrument == "NIFTY 2026-06-30 FUT"
    assert sold.quantity == Decimal(-65)
    assert sold.instrument == "NIFTY 2026-06-30 25000 CE"


def test_shares_have_thirteen_columns(path: Path) -> None:
    write(path, line(SHARES, **SHARE), header=SHARES)
    [trade] = read_tradebook(path).trades
    assert (trade.exchange, trade.symbol, trade.instrument) == ("NSE", "RELIANCE", "")
    assert trade.expiry is None and trade.quantity == Decimal(10)


def test_a_packed_file_is_read_and_its_progress_told(tmp_path: Path) -> None:
    packed = tmp_path / "tradebook.csv.gz"
    rows = [line(trade_id=str(number)) for number in range(1, 1_001)]
    packed.write_bytes(gzip.compress("\n".join([DERIVATIVES, *rows, "", ""]).encode("utf-8-sig")))
    told: list[int] = []
    assert len(read_tradebook(packed, told.append).trades) == 1_000
    assert told and told[-1] <= packed.stat().st_size


def test_the_simulated_owners_book_is_read_whole(path: Path) -> None:
    world, hand = shared_world()
    hand.at = ist("2026-06-01 10:00")
    text = owner.tradebook(world, years=0.3)
    path.write_text(text)
    book = read_tradebook(path)
    assert len(book.trades) == text.count("\n") - 1 and not book.skipped
    assert all(trade.instrument.endswith("FUT") for trade in book.trades)


def test_what_is_not_for_the_desk_is_named_with_its_reason(path: Path) -> None:
    write(
        path,
        line(),
        line(trade_id="10000002", exchange="MCX", segment="COM", symbol="GOLD26JUNFUT"),
        line(),
        line(trade_id="10000003", auction="true"),
    )
    book = read_tradebook(path)
    assert [(row.line, row.reason) for row in book.skipped] == [
        (3, "MCX COM is none of the segments that the desk keeps"),
        (4, "the same execution as in line 2"),
    ]
    assert [trade.is_auction for trade in book.trades] == [False, True]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"quantity": "many"}, "quantity 'many' is not a number"),
        ({"quantity": "NaN"}, "quantity is NaN, not a number"),
        ({"quantity": "-65"}, "quantity -65 is not positive"),
        ({"quantity": "0"}, "quantity 0 is not positive"),
        ({"quantity": "1e12"}, "quantity 1e12 is too large"),
        ({"price": ""}, "price '' is not a number"),
        ({"price": "inf"}, "price is inf, not a number"),
        ({"price": "-0.05"}, "price -0.05 is not positive"),
        ({"trade_date": "01-06-2026"}, "trade_date '01-06-2026' is not a date like 2026-06-01"),
        ({"trade_date": "20260601"}, "trade_date '20260601' is not a date like 2026-06-01"),
        ({"trade_date": "2026-W23-1"}, "is not a date like 2026-06-01"),
        ({"trade_date": ""}, "trade_date '' is not a date like 2026-06-01"),
        ({"trade_date": "2026-13-01"}, "trade_date '2026-13-01' is not a date"),
        ({"trade_date": "1926-06-01"}, "trade_date 1926-06-01 is not between 1994 and 2100"),
        ({"trade_date": "2026-06-02"}, "is not on its trade_date, 2026-06-02"),
        ({"order_execution_time": "10:15"}, "order_execution_time '10:15' is not a time like"),
        ({"order_execution_time": "2026-06-01T10:15:00+05:30"}, "names a zone"),
        ({"expiry_date": "2026-02-30"}, "expiry_date '2026-02-30' is not a date"),
        ({"expiry_date": "2026-05-26"}, "expiry_date 2026-05-26 is before its trade_date"),
        ({"trade_type": "hold"}, "trade_type 'hold' is neither buy nor sell"),
        ({"auction": "maybe"}, "auction 'maybe' is neither true nor false"),
        ({"trade_id": ""}, "trade_id is empty"),
        ({"trade_id": "1" * 41}, "is too long to be one"),
        ({"symbol": " "}, "symbol is empty"),
        ({"exchange": ""}, "exchange is empty"),
        ({"trade_id": "5.20E+08"}, "trade_id 5.20E+08 was made a number by Excel"),
        ({"trade_id": "5,20E+08"}, "15 columns"),
        ({"order_id": "1.3E+15"}, "order_id 1.3E+15 was made a number by Excel"),
        ({"trade_id": "512233.0"}, "trade_id '512233.0' is no id"),
        ({"order_id": "1300-78746"}, "is no id, which are digits and nothing else; if Excel has"),
        ({"trade_date": "1/6/26"}, "'1/6/26' is not a date like 2026-06-01: as Excel writes"),
        ({"trade_date": "46174"}, "as Excel writes dates; import the file as it was downloaded"),
        ({"trade_id": "1,2"}, "15 columns where the header has 14"),
        ({"trade_id": "10000000", "price": "1"}, "was something else in line 2"),
    ],
)
def test_a_bad_row_is_named_by_its_line(path: Path, changes: dict[str, str], reason: str) -> None:
    write(path, line(trade_id="10000000"), "", line(**changes))
    with pytest.raises(BadFile) as refused:
        read_tradebook(path)
    assert str(refused.value).startswith(f"{path}, line 4: ")
    assert reason in str(refused.value)


def test_a_file_that_is_something_else_is_refused(path: Path) -> None:
    path.write_text("ts,open,high,low,close\n2026-06-01,1,1,1,1\n")
    with pytest.raises(BadFile, match=r"line 1: this is a file of bars, for `manage\.py"):
        read_tradebook(path)
    path.write_text("when,what\n2026-06-01,1\n")
    with pytest.raises(BadFile, match="line 1: the header 'when,what' lacks symbol, trade_date"):
        read_tradebook(path)
    write(path, line(), header=DERIVATIVES.replace("price,", "rate,"))
    with pytest.raises(BadFile, match=r"lacks price; wanted is Zerodha's trade book\. Down"):
        read_tradebook(path)
    write(path, header=DERIVATIVES)
    with pytest.raises(BadFile, match="has a header and no rows"):
        read_tradebook(path)
    write(path, header=f"{DERIVATIVES},price")
    with pytest.raises(BadFile, match="the header has price twice"):
        read_tradebook(path)
    path.write_text("")
    with pytest.raises(BadFile, match="is empty"):
        read_tradebook(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="not UTF-8 text"):
        read_tradebook(path)
    path.write_bytes(b"%PDF-1.7\xff\xfe\x00")
    with pytest.raises(BadFile, match="is a PDF, as contract notes are, and no trade book"):
        read_tradebook(path)
    with pytest.raises(BadFile, match="no such file"):
        read_tradebook(path.with_name("none.csv"))


def test_a_packed_file_that_is_cut_off_is_refused(path: Path) -> None:
    rows = [line(trade_id=str(number)) for number in range(1, 3_000)]
    packed = gzip.compress("\n".join([DERIVATIVES, *rows]).encode())
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(BadFile, match="the gzip file is cut off or damaged"):
        read_tradebook(path)


@pytest.mark.parametrize(
    "symbol, expiry, name",
    [
        ("NIFTY26JUNFUT", "2026-06-30", "NIFTY 2026-06-30 FUT"),
        ("BANKNIFTY26JUN55000PE", "2026-06-30", "BANKNIFTY 2026-06-30 55000 PE"),
        ("NIFTY2612025650PE", "2026-01-20", "NIFTY 2026-01-20 25650 PE"),
        ("NIFTY26O0825650CE", "2026-10-08", "NIFTY 2026-10-08 25650 CE"),
        ("SENSEX2660481000CE", "2026-06-04", "SENSEX 2026-06-04 81000 CE"),
        ("NIFTY26JUNFUT", "2026-07-28", ""),  # the symbol is of another month
        ("NIFTY2612025650PE", "2026-01-27", ""),
        ("RELIANCE26JUNFUT", "2026-06-30", ""),
        ("NIFTYBEES", "2026-06-30", ""),
        ("NIFTY26JUNFUT", "", ""),
    ],
)
def test_a_symbol_and_its_expiry_give_the_desks_name(symbol: str, expiry: str, name: str) -> None:
    assert desk_name(symbol, dt.date.fromisoformat(expiry) if expiry else None) == name
