"""How the exchange writes: numbers as text without padding, times in milliseconds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

_NO_NUMBER = "0.0"


def text(number: Decimal) -> str:
    """Return a number as the exchange writes it: "0.00001", "60960.0", never an exponent."""
    if not number:
        return _NO_NUMBER
    plain = f"{number.normalize():f}"
    return plain if "." in plain else f"{plain}.0"


def milliseconds(at: float) -> int:
    """Return an instant of epoch seconds in whole milliseconds."""
    return round(at * 1_000)


def number(value: Any) -> Decimal:
    """Return a number that came as text; raise ValueError for anything but a plain finite one."""
    digits = value.replace(".", "", 1) if isinstance(value, str) else ""
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{value!r} is no number")
    return Decimal(value)
