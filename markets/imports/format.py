"""What describes a format of bars, and which symbols are a market's own at whatever vendor."""

from __future__ import annotations

import re
from dataclasses import dataclass

INDIA, UTC = "Asia/Kolkata", "UTC"
PRICES = ("open", "high", "low", "close")
TIME_NAMES = (
    *("ts", "date", "datetime", "timestamp", "open_time", "opentime", "time", "open time"),
    *("date/time", "date time"),
)
_OPTION = re.compile(r"\d(CE|PE|CA|PA)(\.\w+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Describe a format of bars."""

    key: str
    title: str
    """As it is told: "this looks like TITLE"."""
    signs: str
    """By what it is known, in words for the table of formats."""
    has: frozenset[str] = frozenset()
    """Names that its header has, in lower case; or, without a header, see `cells`."""
    first: tuple[str, ...] = ()
    """What the first name may be, where that tells it from another."""
    cells: tuple[str, ...] = ()
    """Patterns of the cells of a row, where there is no header."""
    names: tuple[str, ...] = ()
    """The names to give the columns, where there is no header."""
    time: tuple[str, ...] = TIME_NAMES
    clock: str = ""
    """The column with the time of day, where it stands apart."""
    prices: tuple[str, ...] = PRICES
    volume: tuple[str, ...] = ("volume", "vol")
    symbol: str = ""
    stem: str = ""
    """A pattern of the file's name whose first group is the symbol."""
    zone: str = ""
    """The zone of its clock where that is known."""
    label: str = ""
    """start, end or last: what a time means where the calendar does not say."""
    dates: str = ""
    """dmy or mdy, where the order of a date's numbers is known."""
    has_idle_rows: bool = False
    """Whether rows without prices stand for times without a trade, and are passed over."""
    has_plots: bool = False
    """Whether columns of any name may follow, so that none of them is taken for a volume."""
    keep: tuple[str, str] = ("", "")
    """A column and the pattern of the rows that are bars of it."""
    expiry: str = ""
    """The column of expiries: of each day only the nearest is taken."""
    is_daily: bool = False
    note: str = ""
    """What else is told when it is read."""
    refused: str = ""
    """What is refused, in words for the table of formats."""

    def fits(self, names: list[str]) -> bool:
        """Return whether a header, stripped and in lower case, is this format's."""
        if self.cells or not self.has or not self.has <= set(names):
            return False
        return not self.first or next((name for name in names if name), "") in self.first

    def fits_cells(self, cells: list[str]) -> bool:
        """Return whether a row is one of this format's, which has no header."""
        if not self.cells or len(cells) != len(self.cells):
            return False
        pairs = zip(self.cells, cells, strict=True)
        return all(re.fullmatch(pattern, cell.strip()) for pattern, cell in pairs)


def is_option(symbol: str) -> bool:
    """Return whether a symbol is an option's."""
    return _OPTION.search(symbol) is not None


def set_of(names: str) -> frozenset[str]:
    """Return the names that commas part."""
    return frozenset(names.split(","))


NUMBER = r"-?\d+(\.\d*)?([eE][-+]?\d+)?"

_NIFTY = set_of("NIFTY,NIFTY50,NSEI,NIFTYI,NIFTYF1,SPCNXNIFTY,CNXNIFTY,NIFTYFUT,NIFTY1,NSENIFTY")
_BTC = re.compile(r"(BTC|XBT)(USD[TC]?)?(M|P|PERP|SWAP|PERPETUAL)?")


def is_of(symbol: str, market: str) -> bool:
    """Return whether a symbol is one of a market's own names, at whatever vendor."""
    bare = re.sub(r"\.(NFO|NSE|NSE_IDX|P)$", "", symbol.strip().upper())
    bare = re.sub(r"[^A-Z0-9]", "", bare)
    if market == "nifty":
        return bare in _NIFTY
    return market == "btc" and _BTC.fullmatch(bare) is not None
