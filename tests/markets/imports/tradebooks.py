"""Trade books as the broker's back office writes them, for the tests that read them."""

from pathlib import Path

SHARES = (
    "symbol,isin,trade_date,exchange,segment,series,trade_type,auction,quantity,price,trade_id,"
    "order_id,order_execution_time"
)
DERIVATIVES = f"{SHARES},expiry_date"
USUAL = {
    "symbol": "NIFTY26JUNFUT",
    "trade_date": "2026-06-01",
    "exchange": "NSE",
    "segment": "FO",
    "trade_type": "buy",
    "auction": "false",
    "quantity": "65.000000",
    "price": "25101.350000",
    "trade_id": "10000001",
    "order_id": "1300000000078746",
    "order_execution_time": "2026-06-01T10:15:00",
    "expiry_date": "2026-06-30",
}
SHARE = {
    "symbol": "RELIANCE",
    "isin": "INE002A01018",
    "segment": "EQ",
    "series": "EQ",
    "quantity": "10.000000",
    "price": "1401.500000",
    "expiry_date": "",
}


def line(header: str = DERIVATIVES, **changes: str) -> str:
    """Return one row, a bought lot of the near future unless told otherwise."""
    cells = USUAL | changes
    return ",".join(cells.get(name, "") for name in header.split(","))


def write(path: Path, *lines: str, header: str = DERIVATIVES) -> Path:
    """Write a trade book, and return its path."""
    path.write_text("\n".join([header, *lines]) + "\n")
    return path
