"""Each format that people have, by a small file of invented rows: the values, and what is said."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from markets.calendar import CryptoCalendar, NseCalendar, nse_sessions
from markets.importing import Asked, BadFile, Read, read_files
from markets.imports.formats import FORMATS, STATED

NSE, CRYPTO = NseCalendar(nse_sessions()), CryptoCalendar()
ROOT = Path(__file__).resolve().parents[3]
MINUTES = 375
DAY = dt.datetime(2024, 1, 8)  # noqa: DTZ001 - the exchange's own clock


def read(path: Path, timeframe: str, market: str = "nifty", **said: object) -> Read:
    """Read one file."""
    asked = Asked(market, **said)  # type: ignore[arg-type]
    return read_files([path], timeframe, NSE if market == "nifty" else CRYPTO, asked)


def whole_day(line: str, *, first: str = "09:15", count: int = MINUTES) -> str:
    """Return a line of each minute of a session; {d} is its date, {t} its time."""
    start = DAY.replace(hour=int(first[:2]), minute=int(first[3:]))
    moments = [start + dt.timedelta(minutes=each) for each in range(count)]
    return "".join(f"{line.format(m=each)}\n" for each in moments)


IST_OPEN = 1_704_685_500  # 2024-01-08 09:15 IST
FIRST = (21_747.2, 21_752.8, 21_738.4, 21_745.1)
OHLC = "21747.2,21752.8,21738.4,21745.1"

MINUTE_FILES = {
    "amibroker": whole_day("NIFTY_F1,{m:%Y%m%d,%H:%M}," + OHLC + ",48075", first="09:16"),
    "amibroker-oi": "NIFTY,20240108,09:08,21700,21700,21700,21700,0,0\n"
    + whole_day("NIFTY,{m:%Y%m%d,%H:%M}," + OHLC + ",0,0", first="09:16"),
    "amibroker-export": "Ticker,Date,Open,High,Low,Close,Volume,Time\n"
    + whole_day("NIFTY,{m:%d/%m/%Y}," + OHLC + ",5,{m:%H:%M:%S}"),
    "instrument": "Instrument,Date,Time,Open,High,Low,Close\n"
    + whole_day("NIFTY,{m:%Y%m%d,%H:%M}," + OHLC),
    "gdfl": "Ticker,Date,Time,Open,High,Low,Close,Volume,Open Interest\n"
    + "NIFTY25JAN2421800CE.NFO,08/01/2024,09:15:59,310,318,305,312,9150,2210450\n"
    + whole_day("NIFTY-I.NFO,{m:%d/%m/%Y,%H:%M}:59," + OHLC + ",63250,118"),
    "chain": "date,time,symbol,open,high,low,close,oi,volume\n"
    + "2024-01-08,09:15:00,NIFTY11JAN2421800CE,92,99,88,95,3400150,412300\n"
    + whole_day("{m:%Y-%m-%d,%H:%M:%S},NIFTY-I," + OHLC + ",12100300,51200"),
    "metatrader4": whole_day("{m:%Y.%m.%d,%H:%M}," + OHLC + ",212"),
    "metatrader5": "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    + whole_day("{m:%Y.%m.%d}\t{m:%H:%M:%S}\t" + OHLC.replace(",", "\t") + "\t212\t7\t30"),
    "stooq-bulk": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    + whole_day("^NSEI,1,{m:%Y%m%d,%H%M%S}," + OHLC + ",0,0"),
    "tradingview": "time,open,high,low,close,MA,MA,Volume MA\n"
    + whole_day("{m:%Y-%m-%dT%H:%M:%S}+05:30," + OHLC + ",NaN,NaN,1"),
    "kite": ",date,open,high,low,close,volume\n"
    + whole_day("0,{m:%Y-%m-%d %H:%M:%S}+05:30," + OHLC + ",0"),
    "plain": "date,open,high,low,close,volume\n"
    + whole_day("{m:%Y-%m-%d %H:%M:%S}," + OHLC + ",0"),
}


@pytest.mark.parametrize("key", MINUTE_FILES)
def test_a_session_of_minutes_is_read_and_made_into_the_markets_bars(
    tmp_path: Path, key: str
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(MINUTE_FILES[key])
    said = {"dates": "dmy"} if key == "amibroker-export" else {}
    found = read(path, "1m", **said)
    title = STATED[key].title if key in STATED else {f.key: f for f in FORMATS}[key].title
    assert title in found.said[0]
    assert {name: len(bars) for name, bars in found.bars.items()} == {"15m": 25, "1h": 7, "1d": 1}
    bars = found.bars["15m"]
    assert int(bars.opens_at[0]) == IST_OPEN
    assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0]) == FIRST
    assert int(found.bars["1d"].closes_at[0]) == IST_OPEN + 22_500


DAILY_FILES = {
    "stooq-polish": "Data;Otwarcie;Najwyzszy;Najnizszy;Zamkniecie;Wolumen\n2024-01-08;21747,2;"
    "21752,8;21738,4;21745,1;7\n",
    "yfinance": "Price,Close,High,Low,Open,Volume\nTicker,^NSEI,^NSEI,^NSEI,^NSEI,^NSEI\n"
    "Date,,,,,\n2024-01-08,21745.1,21752.8,21738.4,21747.2,7\n",
    "yahoo": "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-08," + OHLC + ",21000,7\n"
    "2024-01-09,null,null,null,null,null,null\n",
    "investing": '"Date","Price","Open","High","Low","Vol.","Change %"\n'
    '"01/15/2024","21,745.10","21,747.20","21,752.80","21,738.40","-","0.1%"\n'
    '"01/08/2024","21,745.10","21,747.20","21,752.80","21,738.40","281.46M","0.1%"\n',
    "nse-fo-bhavcopy": "INSTRUMENT,SYMBOL,EXPIRY_DT,STRIKE_PR,OPTION_TYP,OPEN,HIGH,LOW,CLOSE,"
    "SETTLE_PR,CONTRACTS,VAL_INLAKH,OPEN_INT,CHG_IN_OI,TIMESTAMP,\n"
    "FUTIDX,BANKNIFTY,25-Jan-2024,0,XX,1,1,1,1,1,1,1,1,1,08-JAN-2024,\n"
    "FUTIDX,NIFTY,29-Feb-2024,0,XX,2,2,2,2,2,2,2,2,2,08-JAN-2024,\n"
    f"FUTIDX,NIFTY,25-Jan-2024,0,XX,{OHLC},1,7,1,1,1,08-JAN-2024,\n"
    "OPTIDX,NIFTY,25-Jan-2024,21800,CE,3,3,3,3,3,3,3,3,3,08-JAN-2024,\n",
    "udiff": "TradDt,FinInstrmTp,TckrSymb,XpryDt,OpnPric,HghPric,LwPric,ClsPric,TtlTradgVol\n"
    f"2024-01-08,IDF,NIFTY,2024-01-25,{OHLC},7\n2024-01-08,IDO,NIFTY,2024-01-25,1,1,1,1,1\n",
    "nse-index": "\ufeffDate ,Open ,High ,Low ,Close ,Shares Traded ,Turnover (₹ Cr)\n"
    f"09-JAN-2024,{OHLC},9,1\n08-JAN-2024,{OHLC},7,1\n",
    "niftyindices": '"Index Name","Date","Open","High","Low","Close"\n'
    '"NIFTY 50","08 Jan 2024","21747.20","21752.80","21738.40","21745.10"\n',
    "nse-closes": "Index Name,Index Date,Open Index Value,High Index Value,Low Index Value,"
    f"Closing Index Value,Volume\nNifty Bank,08-01-2024,1,1,1,1,1\nNifty 50,08-01-2024,{OHLC},7\n",
}


@pytest.mark.parametrize("key", DAILY_FILES)
def test_days_are_read(tmp_path: Path, key: str) -> None:
    name = "NIFTY 50-01-01-2024-to-31-01-2024.csv" if key == "nse-index" else "file.csv"
    path = tmp_path / name
    path.write_text(DAILY_FILES[key])
    found = read(path, "1d")
    bars = found.bars["1d"]
    assert {f.key: f for f in FORMATS}[key].title in found.said[0]
    assert int(bars.opens_at[0]) == IST_OPEN
    assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0]) == FIRST
    wanted = {"investing": 281.46e6, "niftyindices": 0.0}
    assert bars.volume[0] == pytest.approx(wanted.get(key, 7.0))


UTC_OPEN = 1_704_672_000  # 2024-01-08 00:00 UTC
BTC = "43970.1,44102,43901.5,44055.2"
LATER = "44055.2,44120,43980,44001.7"
BTC_FILES = {
    "binance": f"{UTC_OPEN}000,{BTC},15.5,{UTC_OPEN + 3599}999,6,5,7,3,0\n"
    f"{UTC_OPEN + 3600}000000,{LATER},8,{UTC_OPEN + 7199}999999,6,5,7,3,0\n",
    "binance-header": "open_time,open,high,low,close,volume,close_time,count\n"
    f"{UTC_OPEN}000,{BTC},15.5,1,1\n{UTC_OPEN + 3600}000,{LATER},8,1,1\n",
    "bybit-mt4": f"2024.01.08 03:00,{BTC},15.5\n2024.01.08 04:00,{LATER},8\n",
    "bybit-mt4-header": f"start_at,open,high,low,close,volume\n2024.01.08 03:00,{BTC},15.5\n"
    f"2024.01.08 04:00,{LATER},8\n",
    "cryptodatadownload": "https://www.CryptoDataDownload.com\n"
    "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount\n"
    f"{UTC_OPEN + 3600}000,2024-01-08 01:00:00,BTCUSDT,{LATER},8,1,1\n"
    f"{UTC_OPEN}000,2024-01-08 00:00:00,BTCUSDT,{BTC},15.5,1,1\n",
    "kaggle-bitcoin": "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency)\n"
    f"{UTC_OPEN}.0,{BTC},15.5,1\n{UTC_OPEN + 1800},NaN,NaN,NaN,NaN,NaN,NaN\n"
    f"{UTC_OPEN + 3600},{LATER},8,1\n",
    "okx": "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm\n"
    f"BTC-USDT-SWAP,{BTC},1550,15.5,9,{UTC_OPEN}000,1\n"
    f"BTC-USDT-SWAP,{LATER},800,8,9,{UTC_OPEN + 3600}000,1\n"
    f"BTC-USDT-SWAP,{LATER},800,8,9,{UTC_OPEN + 7200}000,0\n",
    "hyperliquid": f"t,T,s,i,o,c,h,l,v,n\n"
    f"{UTC_OPEN}000,1,BTC,1h,43970.1,44055.2,44102,43901.5,15.5,410\n"
    f"{UTC_OPEN + 3600}000,1,BTC,1h,44055.2,44001.7,44120,43980,8,1\n",
}


@pytest.mark.parametrize("key", BTC_FILES)
def test_hours_of_bitcoin_are_read(tmp_path: Path, key: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(BTC_FILES[key])
    found = read(path, "1h", "btc")
    bars = found.bars["1h"]
    assert {f.key: f for f in FORMATS}[key].title in found.said[0]
    assert bars.opens_at.tolist() == [UTC_OPEN, UTC_OPEN + 3600]
    assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0]) == tuple(
        map(float, BTC.split(","))
    )
    assert bars.volume.tolist() == [15.5, 8.0]


def rows_of(times: Sequence[object]) -> list[list[object]]:
    """Return rows as an API gives them."""
    pairs = zip(times, (BTC, LATER), ("15.5", "8"), strict=True)
    return [[at, *map(float, prices.split(",")), float(volume)] for at, prices, volume in pairs]


MS = [UTC_OPEN * 1000, (UTC_OPEN + 3600) * 1000]
COLUMNS = [list(column) for column in zip(*rows_of([UTC_OPEN, UTC_OPEN + 3600]), strict=True)]
NAMED = dict(zip(("ticks", "open", "high", "low", "close", "volume"), COLUMNS, strict=True))
JSON_FILES: dict[str, object] = {
    "bybit": {"retCode": 0, "result": {"symbol": "BTCUSDT", "list": rows_of(MS)[::-1]}},
    "deribit": {"jsonrpc": "2.0", "result": {"status": "ok", **NAMED}},
    "ccxt": rows_of(MS),
    "groww": {"status": "SUCCESS", "payload": {"candles": rows_of(MS)}},
    "dhan": {"timestamp": NAMED["ticks"], **{k: v for k, v in NAMED.items() if k != "ticks"}},
    "kite": {
        "data": {"candles": rows_of(["2024-01-08T05:30:00+0530", "2024-01-08T06:30:00+0530"])}
    },
    "upstox": {
        "data": {
            "candles": [
                [*row, 0]
                for row in rows_of(["2024-01-08T05:30:00+05:30", "2024-01-08T06:30:00+05:30"])[::-1]
            ]
        }
    },
}


@pytest.mark.parametrize("key", JSON_FILES)
def test_answers_that_were_saved_as_json_are_read(tmp_path: Path, key: str) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(JSON_FILES[key]))
    found = read(path, "1h", "btc")
    assert STATED[key].title in found.said[0]
    assert found.bars["1h"].opens_at.tolist() == [UTC_OPEN, UTC_OPEN + 3600]
    assert found.bars["1h"].volume.tolist() == [15.5, 8.0]


def test_shoonyas_series_is_read_by_its_epochs(tmp_path: Path) -> None:
    path = tmp_path / "tp.json"
    keys = ("into", "inth", "intl", "intc")
    row = {"stat": "Ok", "time": "08-01-2024 09:15:00", "intv": "7", "v": "99"}
    row |= dict(zip(keys, OHLC.split(","), strict=True)) | {"ssboe": str(IST_OPEN)}
    path.write_text(json.dumps([row]))
    bars = read(path, "15m").bars["15m"]
    assert bars.opens_at.tolist() == [IST_OPEN] and bars.volume.tolist() == [7.0]


def test_dhans_seconds_since_1980_are_shifted_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "dhan.json"
    prices = {name: [100.0] for name in ("open", "high", "low", "close")}
    path.write_text(json.dumps({"start_Time": [1_328_845_500], **prices}))
    shifted = read(path, "15m", since_1980=True).bars["15m"]
    at = dt.datetime(2022, 2, 9, 9, 15, tzinfo=ZoneInfo("Asia/Kolkata"))
    assert shifted.opens_at.tolist() == [int(at.timestamp())]


def test_a_workbook_parquet_gzip_and_zip_hold_the_same(tmp_path: Path) -> None:
    text = f"ts,open,high,low,close,volume\n2024-01-08T09:15:00+05:30,{OHLC},7\n"
    plain = tmp_path / "a.csv"
    plain.write_text(text)
    packed = tmp_path / "b.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    zipped = tmp_path / "c.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("inner.csv", text)
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active["B4"] = "a heading"
    for column, cell in enumerate(("ts", "open", "high", "low", "close", "volume"), start=2):
        book.active.cell(6, column, cell)
    for column, value in enumerate((DAY.replace(hour=9, minute=15), *FIRST, 7), start=2):
        book.active.cell(7, column, value)
    sheet = tmp_path / "d.xlsx"
    book.save(sheet)
    table = tmp_path / "e.parquet"
    at = pa.array([IST_OPEN], pa.timestamp("s", "UTC"))
    names = ("open", "high", "low", "close", "volume")
    parquet.write_table(
        pa.table({"date": at} | {n: [v] for n, v in zip(names, (*FIRST, 7.0), strict=True)}), table
    )
    for path in (plain, packed, zipped, sheet, table):
        zone = ZoneInfo("Asia/Kolkata") if path == sheet else None
        bars = read(path, "15m", zone=zone).bars["15m"]
        assert bars.opens_at.tolist() == [IST_OPEN], path
        assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0]) == FIRST, path
        assert bars.volume.tolist() == [7.0], path


def test_excels_own_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    rows = whole_day("{m:%d-%m-%Y %H:%M};21747,2;21752,8;21738,4;21745,1;0")
    path.write_text("date;open;high;low;close;volume\n" + rows)
    found = read(path, "1m", dates="dmy")
    assert found.bars["1d"].close.tolist() == [21_745.1]
    assert "decimal commas" in found.said[0] and "read as Asia/Kolkata" in found.said[0]


def test_a_checksum_beside_a_file_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h-2024-01.zip"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("BTCUSDT-1h-2024-01.csv", BTC_FILES["binance"])
    path.write_bytes(packed.getvalue())
    beside = tmp_path / f"{path.name}.CHECKSUM"
    beside.write_text(f"{hashlib.sha256(packed.getvalue()).hexdigest()}  {path.name}\n")
    assert "what the .CHECKSUM beside it says" in read(path, "1h", "btc").said[0]
    beside.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(BadFile, match=r"not the file that .*CHECKSUM tells of"):
        read(path, "1h", "btc")


def test_every_format_has_a_test_and_a_row_in_the_documents() -> None:
    tested = {*MINUTE_FILES, *DAILY_FILES, *BTC_FILES, *JSON_FILES, "shoonya"}
    known = {each.key for each in FORMATS} | set(STATED) - {"binance"}
    assert known - tested == {"okx-api"}  # refused without --volume
    text = (ROOT / "docs" / "data.md").read_text()
    for each in (*FORMATS, *STATED.values()):
        assert f"| {each.title[0].upper() + each.title[1:]} |" in text, each.key
