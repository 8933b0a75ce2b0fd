"""One small file of each format that is read, as its vendor writes it."""

from __future__ import annotations

import gzip
import io
import zipfile
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from tests.markets.imports.answers import ANSWERS
from tests.markets.imports.rows import Case

_OHLC, _OHLCV = "{o},{h},{l},{c}", "{o},{h},{l},{c},{v}"
_INDIA = ZoneInfo("Asia/Kolkata")
_ENDS = "times are the ends of bars, as 3 whole sessions show"
_TURNED = "newest first, turned round"


def _zip(text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("BTCUSDT-1h-2024-06.csv", text)
    return packed.getvalue()


def _workbook(text: str) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["Candles of NIFTY 50"])
    for line in text.splitlines():
        book.active.append(line.split(","))
    packed = io.BytesIO()
    book.save(packed)
    return packed.getvalue()


def _parquet(text: str) -> bytes:
    packed = io.BytesIO()
    parquet.write_table(arrow_csv.read_csv(io.BytesIO(text.encode())), packed)
    return packed.getvalue()


def _index_parquet(text: str) -> bytes:
    """Pack with the times as an index of pandas', which has no name."""
    table = arrow_csv.read_csv(io.BytesIO(text.encode()))
    at = table["ts"].cast(pa.timestamp("ns", "Asia/Kolkata"))
    packed = io.BytesIO()
    table = table.drop(["ts"]).append_column("__index_level_0__", at)
    parquet.write_table(table, packed)
    return packed.getvalue()


def _decimal_commas(text: str) -> bytes:
    return text.replace(",", ";").replace(".", ",").encode("utf-8-sig")


CASES: tuple[Case, ...] = (
    *ANSWERS,
    Case(
        key="amibroker",
        timeframe="1m",
        row="NIFTY_F1,{e:%Y%m%d},{e:%H:%M}," + _OHLCV,
        name="NIFTY_F1.txt",
        said=(_ENDS, "of NIFTY_F1", "75 15m bars made of 1m bars"),
    ),
    Case(
        key="amibroker",
        row="NIFTY,{t:%Y%m%d},{t:%H:%M}," + _OHLCV,
        said=("times are the starts of bars, as 3 whole sessions show",),
    ),
    Case(key="amibroker-oi", row="NIFTY_F1,{e:%Y%m%d},{e:%H:%M}," + _OHLCV + ",9120300"),
    Case(key="metatrader4", row="{t:%Y.%m.%d},{t:%H:%M}," + _OHLCV, asked={"zone": _INDIA}),
    Case(
        key="metatrader4",
        row="{u:%Y.%m.%d},{u:%H:%M}," + _OHLCV,
        said=("times without a zone read as UTC, by which 3 sessions are the exchange's",),
    ),
    Case(
        key="bybit-mt4",
        market="btc",
        timeframe="1h",
        row="{b:%Y.%m.%d} {b:%H:%M}," + _OHLCV,
        name="BTCUSDT_60_2024-06-03_2024-06-05.csv.gz",
        pack=lambda text: gzip.compress(text.encode()),
        said=("its clock is UTC+3 all year",),
    ),
    Case(
        key="bybit-mt4-header",
        market="btc",
        timeframe="1h",
        head="start_at,open,high,low,close,volume\n",
        row="{b:%Y.%m.%d} {b:%H:%M}," + _OHLCV,
    ),
    *(
        Case(
            key="binance",
            market="btc",
            timeframe="1h",
            row=f"{{s}}{unit}," + _OHLCV + f",{{end}}{unit},66890112,51230,780.1,34320011,0",
            name=name,
            pack=pack,
        )
        for unit, name, pack in (
            ("000", "BTCUSDT-1h-2024-06.csv", str.encode),
            ("000000", "BTCUSDT-1h-2024-06.zip", _zip),
        )
    ),
    Case(
        key="binance-header",
        market="btc",
        timeframe="1h",
        head="open_time,open,high,low,close,volume,close_time,quote_volume,count,"
        "taker_buy_volume,taker_buy_quote_volume,ignore\n",
        row="{s}000," + _OHLCV + ",{end}000,66890112,51230,780.1,34320011,0",
    ),
    Case(
        key="gdfl",
        timeframe="1m",
        head="Ticker,Date,Time,Open,High,Low,Close,Volume,Open Interest\n",
        row="NIFTY-I.NFO,{z:%d/%m/%Y},{z:%H:%M:%S}," + _OHLCV + ",11874300\n"
        "NIFTY25JUN2421800CE.NFO,{z:%d/%m/%Y},{z:%H:%M:%S},310.2,318,305.5,312.4,9150,2210450",
        said=("of NIFTY-I.NFO", "1,125 rows of options passed over", "last second of its minute"),
    ),
    Case(
        key="amibroker-export",
        head="Ticker,Date,Open,High,Low,Close,Volume,Time\n",
        row="NIFTY,{t:%d/%m/%Y}," + _OHLCV + ",{t:%H:%M:%S}",
        asked={"dates": "dmy"},
        said=("dates with the day first",),
    ),
    Case(
        key="instrument",
        head="Instrument,Date,Time,Open,High,Low,Close\n",
        row="NIFTY,{t:%Y%m%d},{t:%H:%M}," + _OHLC,
        has_volume=False,
    ),
    Case(
        key="chain",
        head="date,time,symbol,open,high,low,close,oi,volume\n",
        row="{t:%Y-%m-%d},{t:%H:%M:%S},NIFTY-I," + _OHLC + ",12100300,{v}\n"
        "{t:%Y-%m-%d},{t:%H:%M:%S},NIFTY06JUN2421800CE,92.5,99.0,88.1,95.3,3400150,412300",
        said=("75 rows of options passed over",),
    ),
    Case(
        key="metatrader5",
        head="<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n",
        row="{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{o}\t{h}\t{l}\t{c}\t212\t{v}\t30",
        said=("times without a zone read as Asia/Kolkata",),
    ),
    Case(
        key="metatrader5",
        timeframe="1d",
        head="<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n",
        row="{t:%Y.%m.%d}\t{o}\t{h}\t{l}\t{c}\t212\t{v}\t30",
    ),
    Case(
        key="stooq-bulk",
        timeframe="1d",
        head="<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\r\n",
        row="^NSEI,D,{t:%Y%m%d},000000," + _OHLCV + ",0",
        between="\r\n",
    ),
    Case(
        key="stooq-polish",
        timeframe="1d",
        head="Data;Otwarcie;Najwyzszy;Najnizszy;Zamkniecie;Wolumen\n",
        row="{t:%Y-%m-%d};{o};{h};{l};{c};{v}",
    ),
    Case(
        key="stooq-polish",
        timeframe="1d",
        head="Notowania sp\u00f3\u0142ki\nData,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie\n",
        row="{t:%Y-%m-%d}," + _OHLC,
        has_volume=False,
        pack=lambda text: text.encode("cp1250"),
    ),
    Case(
        key="yfinance",
        timeframe="1d",
        head="Price,Close,High,Low,Open,Volume\nTicker,^NSEI,^NSEI,^NSEI,^NSEI,^NSEI\nDate,,,,,\n",
        row="{t:%Y-%m-%d},{c},{h},{l},{o},{v}",
        said=("its columns are in the order that their names say",),
    ),
    Case(
        key="yfinance",
        head="Price,Close,High,Low,Open,Volume\nTicker,^NSEI,,,,\nDatetime,,,,,\n",
        row="{u:%Y-%m-%d %H:%M:%S}+00:00,{c},{h},{l},{o},{v}",
    ),
    Case(
        key="investing",
        timeframe="1d",
        newest_first=True,
        head='"Date","Price","Open","High","Low","Vol.","Change %"\r\n',
        row='"{t:%m/%d/%Y}","{c:,.2f}","{o:,.2f}","{h:,.2f}","{l:,.2f}","{v}","0.15%"',
        between="\r\n",
        asked={"dates": "mdy"},
        said=(_TURNED, "dates with the month first"),
    ),
    Case(
        key="yahoo",
        timeframe="1d",
        head="Date,Open,High,Low,Close,Adj Close,Volume\n",
        row="{t:%Y-%m-%d}," + _OHLC + ",1.5,{v}",
        tail="\n2024-06-06,null,null,null,null,null,null",
        said=("not `Adj Close`", "1 rows without prices passed over"),
    ),
    Case(
        key="cryptodatadownload",
        market="btc",
        timeframe="1h",
        newest_first=True,
        head="https://www.CryptoDataDownload.com\n"
        "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount\n",
        row="{s}000,{u:%Y-%m-%d %H:%M:%S},BTCUSDT," + _OHLCV + ",35790011,40122",
        said=(_TURNED, "of BTCUSDT"),
    ),
    Case(
        key="cryptodatadownload",
        market="btc",
        timeframe="1h",
        head="Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\n",
        row="{u:%Y-%m-%d %I-%p},BTCUSD," + _OHLCV + ",1",
    ),
    Case(
        key="kaggle-bitcoin",
        market="btc",
        timeframe="1m",
        head="Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price\n"
        "1717372740,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n",
        row="{s}," + _OHLCV + ",1,1",
        said=("spot prices", "1 rows without prices passed over", "18 4h bars made of 1m bars"),
    ),
    Case(
        key="okx",
        market="btc",
        timeframe="1h",
        head="instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm\n",
        row="BTC-USDT-SWAP," + _OHLC + ",152033,{v},66890112.4,{s}000,1",
        tail="\nBTC-USDT-SWAP,1,1,1,1,1,1,1,1717632000000,0",
    ),
    Case(
        key="hyperliquid",
        market="btc",
        timeframe="1h",
        head="[",
        row='{{"t":{s}000,"T":{end}000,"s":"BTC","i":"1h","o":"{o}","c":"{c}","h":"{h}",'
        '"l":"{l}","v":"{v}","n":410}}',
        between=",",
        tail="]",
    ),
    Case(
        key="hyperliquid",
        market="btc",
        timeframe="1h",
        head=",t,T,s,i,o,c,h,l,v,n\n",
        row="0,{s}000,{end}000,BTC,1h,{o},{c},{h},{l},{v},410",
    ),
    Case(
        key="shoonya",
        newest_first=True,
        head='[{"stat":"Not_Ok","emsg":"no data"},',
        row='{{"stat":"Ok","time":"{t:%d-%m-%Y %H:%M:%S}","into":"{o}","inth":"{h}",'
        '"intl":"{l}","intc":"{c}","intv":"{v}","v":"1","ssboe":"{s}"}}',
        between=",",
        tail="]",
        said=(_TURNED,),
    ),
    Case(
        key="nse-fo-bhavcopy",
        timeframe="1d",
        head="INSTRUMENT,SYMBOL,EXPIRY_DT,STRIKE_PR,OPTION_TYP,OPEN,HIGH,LOW,CLOSE,SETTLE_PR,"
        "CONTRACTS,VAL_INLAKH,OPEN_INT,CHG_IN_OI,TIMESTAMP,\n",
        row="FUTIDX,BANKNIFTY,26-Jun-2024,0,XX,1,1,1,1,1,1,1,1,1,{t:%d-%b-%Y},\n"
        "FUTIDX,NIFTY,30-May-2024,0,XX,4,4,4,4,4,4,4,4,4,{t:%d-%b-%Y},\n"
        "FUTIDX,NIFTY,25-Jul-2024,0,XX,2,2,2,2,2,2,2,2,2,{t:%d-%b-%Y},\n"
        "FUTIDX,NIFTY,27-Jun-2024,0,XX," + _OHLC + ",1,{v},1,1,1,{t:%d-%b-%Y},\n"
        "OPTIDX,NIFTY,27-Jun-2024,21800,CE,3,3,3,3,3,3,3,3,3,{t:%d-%b-%Y},",
        said=("the near month's future is taken; its volume is in lots",),
    ),
    Case(
        key="udiff",
        timeframe="1d",
        head="TradDt,BizDt,Sgmt,Src,FinInstrmTp,TckrSymb,XpryDt,OpnPric,HghPric,LwPric,ClsPric,"
        "TtlTradgVol,Rmks\n",
        row="{t:%Y-%m-%d},{t:%Y-%m-%d},FO,NSE,IDF,NIFTY,2024-07-25,2,2,2,2,2,\n"
        "{t:%Y-%m-%d},{t:%Y-%m-%d},FO,NSE,IDF,NIFTY,2024-06-27," + _OHLCV + ",\n"
        "{t:%Y-%m-%d},{t:%Y-%m-%d},FO,NSE,IDO,NIFTY,2024-06-27,3,3,3,3,3,",
    ),
    Case(
        key="nse-index",
        timeframe="1d",
        newest_first=True,
        head="\ufeffDate ,Open ,High ,Low ,Close ,Shares Traded ,Turnover (\u20b9 Cr)\n",
        row="{t:%d-%b-%Y}," + _OHLCV + ",31000.5",
        name="NIFTY 50-01-01-2024-to-31-12-2024.csv",
        said=(_TURNED,),
    ),
    Case(
        key="niftyindices",
        timeframe="1d",
        newest_first=True,
        head='"Index Name","Date","Open","High","Low","Close"\r\n',
        row='"NIFTY 50","{t:%d %b %Y}","{o}","{h}","{l}","{c}"',
        between="\r\n",
        has_volume=False,
        said=(_TURNED, "of NIFTY 50"),
    ),
    Case(
        key="nse-closes",
        timeframe="1d",
        head="Index Name,Index Date,Open Index Value,High Index Value,Low Index Value,"
        "Closing Index Value,Points Change,Change(%),Volume,Turnover (Rs. Cr.),P/E,P/B,Div Yield\n",
        row="Nifty 50,{t:%d-%m-%Y}," + _OHLC + ",-.14,-.1,{v},1,1,1,1\n"
        "Nifty Bank,{t:%d-%m-%Y},-,-,-,9,-,-,-,-,-,-,-",
        said=("of Nifty 50",),
    ),
    Case(
        key="tradingview",
        head="time,open,high,low,close,Volume,MA,MA\n",
        row="{t:%Y-%m-%dT%H:%M:%S}+05:30," + _OHLCV + ",NaN,NaN",
        name="NSE_NIFTY, 15 (2).csv",
    ),
    Case(
        key="tradingview",
        market="btc",
        timeframe="1h",
        head="time,open,high,low,close,Volume of the moon\n",
        row="{s}," + _OHLC + ",1",
        name="BINANCE_BTCUSDT.P, 60.csv",
        has_volume=False,
    ),
    Case(
        key="plain",
        head="date,open,high,low,close,volume\n",
        row="{t:%Y-%m-%d %H:%M:%S}," + _OHLCV,
        said=("times without a zone read as Asia/Kolkata",),
    ),
    Case(  # the same as Excel saves it in Europe
        key="plain",
        head="ts,open,high,low,close,volume\n",
        row="{t:%d-%m-%Y %H:%M},{o},{h},{l},{c},{v}",
        pack=_decimal_commas,
        asked={"dates": "dmy"},
        said=("decimal commas", "dates with the day first"),
    ),
    Case(
        key="plain",
        head="ts,open,high,low,close,volume\n",
        row="{u:%Y-%m-%dT%H:%M:%S}Z," + _OHLCV,
        pack=_parquet,
        name="bars.parquet",
    ),
    Case(
        key="plain",
        head="ts,open,high,low,close,volume\n",
        row="{u:%Y-%m-%dT%H:%M:%S}Z," + _OHLCV,
        pack=_index_parquet,
        name="bars.parquet",
    ),
    Case(
        key="plain",
        head="ts,open,high,low,close,volume\n",
        row="{t:%Y-%m-%d %H:%M:%S}," + _OHLCV,
        pack=_workbook,
        name="bars.xlsx",
    ),
)
