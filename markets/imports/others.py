"""Files that hold no bars of ours, known by name, and whose an instrument's symbol is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markets.imports.format import NUMBER
from markets.imports.format import names_of as _set

_OPTION = re.compile(r"\d(CE|PE|CA|PA)(\.\w+)?$")


@dataclass(frozen=True, slots=True)
class Other:
    """Describe a file that holds no bars of ours, and what to do with it."""

    title: str
    has: frozenset[str]
    instead: str


def is_option(symbol: str) -> bool:
    """Return whether a symbol is an option's."""
    return _OPTION.search(symbol) is not None


_BARS = "it holds no bars"
OTHERS: tuple[Other, ...] = (
    Other("Zerodha's trade book", _set("trade_type,trade_id"), "import it with importtrades"),
    Other("Zerodha's trade book", _set("trade type,trade id"), "import it with importtrades"),
    Other("a profit and loss statement", _set("symbol,realized p&l"), _BARS),
    Other("a tax statement", _set("entry date,exit date,profit"), _BARS),
    Other("a contract note", _set("net total (before levies)"), _BARS),
    Other("NSE's option chain", _set("calls,puts"), "option quotes are not bars of a market"),
    Other("NSE's contract history", _set("symbol,date,expiry,open"), "it holds single contracts"),
    Other("Global Datafeeds' ticks", _set("ticker,ltp,ltq"), "only bars are read"),
    Other("ticks", _set("<bid>,<ask>"), "only bars are read"),
    Other("trades", _set("side,size,price"), "only bars are read"),
    Other("a total returns index", _set("total returns index"), "it is not a price"),
    Other("funding", _set("funding_rate"), "import it with importreadings funding"),
    Other("funding", _set("last_funding_rate"), "import it with importreadings funding"),
    Other("funding", _set("fundingrate"), "import it with importreadings funding"),
    Other(
        "India VIX's history",
        _set("open,high,low,close,prev. close,% change"),
        "import it with importreadings vix",
    ),
    Other("NSE's bhavcopy of shares", _set("symbol,series,prevclose,tottrdqty"), "it has shares"),
    Other("NSE's bhavcopy of shares", _set("symbol,series,date1,close_price"), "it has shares"),
    Other("BSE's bhavcopy of shares", _set("sc_code,sc_name,tdcloindi"), "it has shares"),
    Other("BSE's Sensex", _set("points change,p/e,p/b"), "the Sensex is no market of the desk's"),
    Other("Kite's positions", _set("product,instrument,avg.,ltp"), _BARS),
    Other("Kite's orders", _set("type,instrument,avg. price,status"), _BARS),
    Other("a broker's trades", _set("buy/sell,trade price"), _BARS),
    Other("a broker's trades", _set("trade num,trade time,side"), _BARS),
    Other("a broker's trades", _set("scrip/contract,buy/sell"), _BARS),
)
OTHER_CELLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("TrueData's ticks", (r"\d{8}", r"\d\d:\d\d:\d\d", *(NUMBER,) * 3)),
    ("TrueData's ticks", (r"\d{8}", r"\d\d:\d\d:\d\d", *(NUMBER,) * 7)),
)

_NIFTY = _set("NIFTY,NIFTY50,NSEI,NIFTYI,NIFTYF1,SPCNXNIFTY,CNXNIFTY,NIFTYFUT,NIFTY1,NSENIFTY")
_BTC = re.compile(r"(BTC|XBT)(USD[TC]?)?(M|P|PERP|SWAP|PERPETUAL)?")


def is_of(symbol: str, market: str) -> bool:
    """Return whether a symbol is one of a market's own names, at whatever vendor."""
    bare = re.sub(r"\.(NFO|NSE|NSE_IDX|P)$", "", symbol.strip().upper())
    bare = re.sub(r"[^A-Z0-9]", "", bare)
    if market == "nifty":
        return bare in _NIFTY
    return market == "btc" and _BTC.fullmatch(bare) is not None
