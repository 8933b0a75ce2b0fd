"""Trade books in the files that people have, and the files that they take for one."""

import datetime as dt
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from markets.imports.bars import BadFile
from markets.imports.tradebook import TradeBook, read_tradebook
from tests.markets.imports.tradebooks import DERIVATIVES, SHARES, line, write

TITLES = (
    *("Symbol", "ISIN", "Trade Date", "Exchange", "Segment", "Series", "Trade Type", "Auction"),
    *("Quantity", "Price", "Trade ID", "Order ID", "Order Execution Time"),
)
OPTION = (
    *("NIFTY2660225000CE", "", "2026-06-01", "NSE", "FO", "", "buy", False),
    *(65, 92.35, "0512233", "1100000001234567", "2026-06-01T10:15:00", "2026-06-02"),
)
SHARE = (
    *("NIFTYBEES", "INF204KB14I2", "2026-06-01", "NSE", "EQ", "EQ", "sell", False),
    *(8, 239.1, "1712", "1000000000000009", "2026-06-01T10:02:11"),
)
PREAMBLE: tuple[list[Any], ...] = (
    [],
    [None, "Client ID", "AB1234"],
    [],
    [None, "Tradebook for F&O from 2026-06-01"],
    [],
)


def sheet_of(
    book: openpyxl.Workbook, title: str, rows: Sequence[Sequence[Any]], header: Sequence[str]
) -> None:
    """Add a sheet as the back office writes it: some lines, and a table from column B on."""
    sheet = book.create_sheet(title)
    for row in (*PREAMBLE, [None, *header], *([None, *row] for row in rows)):
        sheet.append(list(row))


def workbook(path: Path, *rows: Sequence[Any]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    sheet_of(book, "F&O", rows or (OPTION,), (*TITLES, "Expiry Date"))
    book.save(path)
    return path


def of_one_cell(path: Path) -> Path:
    """Have a workbook's sheets say that they are one cell, as some exports do."""
    packed = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            body = old.read(name)
            if "worksheets/" in name:
                body, count = re.subn(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', body)
                assert count == 1
            new.writestr(name, body)
    return path


def only(book: TradeBook) -> tuple[Any, ...]:
    [trade] = book.trades
    return (
        *(trade.key, trade.quantity, trade.price, trade.order_id, trade.instrument),
        *(trade.expiry, trade.at.isoformat(), trade.is_auction),
    )


WANTED = (
    ("NFO", dt.date(2026, 6, 1), "0512233", "NIFTY2660225000CE"),
    *(Decimal(65), Decimal("92.35"), "1100000001234567", "NIFTY 2026-06-02 25000 CE"),
    *(dt.date(2026, 6, 2), "2026-06-01T10:15:00+05:30", False),
)


@pytest.mark.parametrize("dress", [lambda path: path, of_one_cell])
def test_the_xlsx_export_is_read(tmp_path: Path, dress: Callable[[Path], Path]) -> None:
    book = read_tradebook(dress(workbook(tmp_path / "book.xlsx")))
    assert only(book) == WANTED
    assert book.trades[0].line == 7  # as the spreadsheet counts


def test_its_dates_may_be_real_ones_or_numbers_of_days(tmp_path: Path) -> None:
    at = dt.datetime(2026, 6, 1, 10, 15)  # noqa: DTZ001
    for date, time in ((dt.datetime(2026, 6, 1), at), (46174, 46174 + 10.25 / 24)):  # noqa: DTZ001
        row = [*OPTION]
        row[2], row[12], row[13] = date, time, dt.date(2026, 6, 2)
        assert only(read_tradebook(workbook(tmp_path / "book.xlsx", row))) == WANTED


def test_all_its_sheets_that_are_trade_books_are_read(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["Notes"])
    sheet_of(book, "Equity", [SHARE], TITLES)
    sheet_of(book, "F&O", [OPTION], (*TITLES, "Expiry Date"))
    book.save(path)
    assert [trade.exchange for trade in read_tradebook(path).trades] == ["NSE", "NFO"]


def test_an_id_that_the_workbook_holds_as_a_long_number_is_refused(tmp_path: Path) -> None:
    for place in (10, 11):
        row = [*OPTION]
        row[place] = 1_100_000_001_234_567
        path = workbook(tmp_path / "book.xlsx", OPTION, row)
        with pytest.raises(BadFile, match=r"sheet 'F&O', line 8: .*_id 1\.10E\+15 .*by Excel"):
            read_tradebook(path)


def test_a_workbook_saved_as_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "book.csv"
    rows = [[*(cell or "" for cell in row), *[""] * (15 - len(row))] for row in PREAMBLE]
    rows += [["", *TITLES, "Expiry Date"], ["", *map(str, OPTION)]]
    path.write_text("\n".join(",".join(row) for row in rows))
    assert only(read_tradebook(path)) == WANTED


def test_the_book_of_2021_has_no_auction(tmp_path: Path) -> None:
    header = DERIVATIVES.replace(",auction", "")
    [trade] = read_tradebook(write(tmp_path / "b.csv", line(header), header=header)).trades
    assert trade.trade_id == "10000001" and not trade.is_auction


@pytest.mark.parametrize("place", ["NSE,FO", "NFO,FO", "NFO,NFO"])
def test_derivatives_without_isin(tmp_path: Path, place: str) -> None:
    header = DERIVATIVES.replace(",isin", "").replace(",series", "")
    exchange, segment = place.split(",")
    text = line(header, exchange=exchange, segment=segment)
    [trade] = read_tradebook(write(tmp_path / "b.csv", text, header=header)).trades
    assert trade.exchange == "NFO"


def test_orders_ids_that_all_end_in_zero_are_of_a_spreadsheet(tmp_path: Path) -> None:
    ids = [f"130000000{number:06d}0" for number in range(1, 9)]
    rows = [line(order_id=each, trade_id=str(1000 + int(each[9:15]))) for each in ids]
    with pytest.raises(BadFile, match="each of 8 order ids ends in 0 after 15 digits, as Excel"):
        read_tradebook(write(tmp_path / "b.csv", *rows))
    rows.append(line(order_id="1300000000078746"))
    assert len(read_tradebook(write(tmp_path / "b.csv", *rows)).trades) == 9


OTHERS = {
    "tax P&L": "Symbol,Entry Date,Exit Date,Quantity,Buy Value,Sell Value,Profit,Turnover",
    "P&L statement": "Symbol,ISIN,Quantity,Buy Value,Sell Value,Realized P&L,Realized P&L Pct.",
    "contract note": "Contract Description,B/S,Quantity,WAP Per Unit,Brokerage,Remarks",
    "annexure of a contract note": "Order No.,Order Time,Trade No.,Trade Time,Security",
    "ledger": "particulars,posting_date,cost_center,voucher_type,debit,credit,net_balance",
    "screen of positions": '"Product","Instrument","Qty.","Avg.","LTP","P&L","Chg.",""',
    "screen of holdings": '"Instrument","Qty.","Avg. cost","LTP","Cur. val","P&L"',
    "screen of orders": "Time,Type,Instrument,Product,Qty.,Avg. price,Status",
    "Dhan": "Date,Time,Name,Buy/Sell,Order,Exchange,Segment,Quantity/Lot,Trade Price,Trade Value",
    "Upstox": "Date,Company,Amount,Exchange,Segment,Scrip Code,Trade Num,Trade Time,Side",
    "Angel One": "Scrip/Contract,Buy/Sell,Buy Price,Sell Price,Quantity,Order ID,Trade ID,Date",
    "Groww": "Stock name,Symbol,Value,Exchange Order Id,Execution date and time,Order status",
    "importbars": "Date,Open,High,Low,Close,Volume",
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_export_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    text = "\n".join(["Client ID,AB1234", "", OTHERS[name], "1,2,3,4,5,6,7,8"])
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(BadFile, match=f"line 3: this is .*{re.escape(name)}.*Console, Reports"):
        read_tradebook(tmp_path / "other.csv")


def test_a_statement_is_known_by_the_lines_above_its_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "F&O"
    book.active.append([None, "P&L Statement for F&O from 2026-04-01 to 2026-06-30"])
    book.active.append([None, "Account Head", "Amount"])
    book.save(tmp_path / "pnl.xlsx")
    with pytest.raises(BadFile, match=r"sheet 'F&O', line 1: this is Zerodha's P&L statement"):
        read_tradebook(tmp_path / "pnl.xlsx")


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    whole = workbook(path).read_bytes()
    for count in (40, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:count])
        with pytest.raises(BadFile, match=r"book\.xlsx: the workbook is cut off or damaged"):
            read_tradebook(path)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("tradebook.csv", "symbol")
    with pytest.raises(BadFile, match="is a zip file and no workbook: unpack it first"):
        read_tradebook(path)
    for body, what in ((b"\xd0\xcf\x11\xe0\xa1\xb1", r"\.xls"), (b"<html>", "a page or XML")):
        path.write_bytes(body)
        with pytest.raises(BadFile, match=f"is .*{what}.*, and no trade book"):
            read_tradebook(path)
    openpyxl.Workbook().save(path)
    with pytest.raises(BadFile, match="is empty"):
        read_tradebook(path)


def test_a_bad_row_of_a_workbook_is_named_by_sheet_and_line(tmp_path: Path) -> None:
    row = [*OPTION]
    row[8] = -65
    with pytest.raises(BadFile, match=r"book\.xlsx, sheet 'F&O', line 8: quantity -65 is not"):
        read_tradebook(workbook(tmp_path / "book.xlsx", OPTION, row))
    # Its columns are those of the CSV.
    assert [each.lower().replace(" ", "_") for each in TITLES] == SHARES.split(",")
