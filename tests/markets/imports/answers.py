"""The answers of brokers and exchanges, as people save them: JSON, and Kite's as CSV."""

from __future__ import annotations

import json

from tests.markets.imports.rows import Case

_OHLCV = "{o},{h},{l},{c},{v}"
_TURNED = "newest first, turned round"


def _arrays(text: str) -> bytes:
    """Turn rows of JSON into arrays, one a name."""
    told = json.loads(text)
    names = list(told["rows"][0])
    arrays = {name: [row[name] for row in told["rows"]] for name in names}
    return json.dumps({"result": arrays} if "ticks" in arrays else {"data": arrays}).encode()


ANSWERS: tuple[Case, ...] = (
    Case(
        key="kite",
        head=",date,open,high,low,close,volume\n",
        row="0,{t:%Y-%m-%d %H:%M:%S}+05:30," + _OHLCV,
    ),
    Case(
        key="kite",
        head='{"status":"success","data":{"candles":[',
        row='["{t:%Y-%m-%dT%H:%M:%S}+0530",' + _OHLCV + "]",
        between=",",
        tail="]}}",
    ),
    Case(
        key="upstox",
        newest_first=True,
        head='{"data":{"candles":[',
        row='["{t:%Y-%m-%dT%H:%M:%S}+05:30",' + _OHLCV + ",0]",
        between=",",
        tail="]}}",
        said=(_TURNED,),
    ),
    Case(
        key="groww",
        head='{"payload":{"candles":[',
        row="[{s}," + _OHLCV + "]",
        between=",",
        tail="]}}",
    ),
    *(
        Case(
            key="dhan",
            head='{"rows":[',
            row='{{"open":{o},"high":{h},"low":{l},"close":{c},"volume":{v},'
            f'"{name}":{{{at}}}' + "}}",
            between=",",
            tail="]}",
            pack=_arrays,
            asked=asked,
        )
        for name, at, asked in (
            ("timestamp", "s", {}),
            ("start_Time", "since1980", {"since_1980": True}),
        )
    ),
    Case(
        key="bybit",
        market="btc",
        timeframe="1h",
        newest_first=True,
        head='{"retCode":0,"result":{"symbol":"BTCUSDT","list":[',
        row='["{s}000","{o}","{h}","{l}","{c}","{v}","1"]',
        between=",",
        tail="]}}",
        said=(_TURNED,),
    ),
    Case(
        key="deribit",
        market="btc",
        timeframe="1h",
        head='{"rows":[',
        row='{{"ticks":{s}000,"open":{o},"high":{h},"low":{l},"close":{c},"volume":{v},"cost":1}}',
        between=",",
        tail="]}",
        pack=_arrays,
    ),
    *(
        Case(
            key="okx-api",
            market="btc",
            timeframe="1h",
            newest_first=True,
            head='{"code":"0","data":[["1717632000000","1","1","1","1","1","1","1","0"],',
            row='["{s}000","{o}","{h}","{l}","{c}","152033","{v}","1","1"]',
            between=",",
            tail="]}",
            asked={"volume": volume},
            has_volume=volume != "none",
            said=(_TURNED,),
        )
        for volume in ("volCcy", "none")
    ),
    Case(
        key="ccxt",
        market="btc",
        timeframe="1h",
        head="[",
        row="[{s}000," + _OHLCV + "]",
        between=",",
        tail="]",
    ),
    Case(
        key="binance-header",
        market="btc",
        timeframe="1h",
        head="[",
        row='[{s}000,"{o}","{h}","{l}","{c}","{v}",{end}000,"1",1,"1","1","0"]',
        between=",",
        tail="]",
    ),
)
