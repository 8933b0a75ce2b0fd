"""The broker's products of derivatives, and when it ends the intraday ones of a day.

NRML is kept over nights, MIS is squared off by the broker before the close; from that minute on it
takes no MIS order, an exit neither. Each is a leg of its own: one does not close the other.
"""

import datetime as dt
from dataclasses import dataclass

from tradingsite.clock import IST

OVERNIGHT, INTRADAY = "NRML", "MIS"


@dataclass(frozen=True, slots=True)
class SquareOff:
    """State from which day on the broker squares off at which Indian time."""

    effective: dt.date
    at: dt.time
    source: str


# Derivatives; the dates of before are not known to the minute, so the oldest row is used for them.
SQUARE_OFFS = (
    SquareOff(
        dt.date(2024, 1, 1),
        dt.time(15, 25),
        "support.zerodha.com, MIS auto square-off, as it stood until the session's end moved",
    ),
    SquareOff(
        dt.date(2026, 8, 3),
        dt.time(15, 26),
        "support.zerodha.com, MIS auto square-off: 15:26 for derivatives since 3 August 2026",
    ),
)


def squares_off_at(product: str, date: dt.date) -> dt.datetime | None:
    """Return when the broker closes positions of a product on a date, None where it does not."""
    if product != INTRADAY:
        return None
    row = SQUARE_OFFS[0]
    for each in SQUARE_OFFS:
        row = each if each.effective <= date else row
    return dt.datetime.combine(date, row.at, IST)
