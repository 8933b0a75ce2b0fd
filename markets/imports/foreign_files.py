"""Files that hold no bars of ours, by the names that tell them, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass

from markets.imports.format import NUMBER, set_of


@dataclass(frozen=True, slots=True)
class Other:
    """Describe a file that holds no bars of ours, and what to do with it."""

    title: str
    has: frozenset[str]
    instead: str


_BARS = "it holds no bars"
OTHERS: tuple[Other, ...] = (
    Other("Zerodha's trade book", set_of("trade_type,trade_id"), "import it with importtrades"),
    Other("Zerodha's trade book", set_of("trade type,trade id"), "import it with importtrades"),
    Other("a profit and loss statement", set_of("symbol,realized p&l"), _BARS),
    Other("a tax statement", set_of("entry date,exit date,profit"), _BARS),
    Other("a contract note", set_of("net total (before levies)"), _BARS),
    Other("NSE's option chain", set_of("calls,puts"), "option quotes are not bars of a market"),
    Other("NSE's contract history", set_of("symbol,date,expiry,open"), "it holds single contracts"),
    Other("Global Datafeeds' ticks", set_of("ticker,ltp,ltq"), "only bars are read"),
    Other("ticks", set_of("<bid>,<ask>"), "only bars are read"),
    Other("trades", set_of("side,size,price"), "only bars are read"),
    Other("a total returns index", set_of("total returns index"), "it is not a price"),
    Other("funding", set_of("funding_rate"), "import it with importreadings funding"),
    Other("funding", set_of("last_funding_rate"), "import it with importreadings funding"),
    Other("funding", set_of("fundingrate"), "import it with importreadings funding"),
    Other(
        "India VIX's history",
        set_of("open,high,low,close,prev. close,% change"),
        "import it with importreadings vix",
    ),
    Other("NSE's bhavcopy of shares", set_of("symbol,series,prevclose,tottrdqty"), "it has shares"),
    Other("NSE's bhavcopy of shares", set_of("symbol,series,date1,close_price"), "it has shares"),
    Other("BSE's bhavcopy of shares", set_of("sc_code,sc_name,tdcloindi"), "it has shares"),
    Other(
        "BSE's Sensex",
        set_of("date,points change,p/e,p/b"),
        "the Sensex is no market of the desk's",
    ),
    Other("Kite's positions", set_of("product,instrument,avg.,ltp"), _BARS),
    Other("Kite's orders", set_of("type,instrument,avg. price,status"), _BARS),
    Other("a broker's trades", set_of("buy/sell,trade price"), _BARS),
    Other("a broker's trades", set_of("trade num,trade time,side"), _BARS),
    Other("a broker's trades", set_of("scrip/contract,buy/sell"), _BARS),
)
OTHER_CELLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("TrueData's ticks", (r"\d{8}", r"\d\d:\d\d:\d\d", *(NUMBER,) * 3)),
    ("TrueData's ticks", (r"\d{8}", r"\d\d:\d\d:\d\d", *(NUMBER,) * 7)),
)
