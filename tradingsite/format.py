"""How figures and times look to a person: Indian grouping, a real minus sign, IST, short ages.

Pure functions that take numbers and aware datetimes and return text; they know nothing of Django.
"""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

IST = ZoneInfo("Asia/Kolkata")
MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EM DASH}"
GLUE = "\N{NO-BREAK SPACE}"  # a figure and its unit stay on one line
SYMBOLS = {"INR": "\N{INDIAN RUPEE SIGN}", "USDC": "$"}
MONEY_DECIMALS = {"INR": 0, "USDC": 2}

Number = Decimal | float | int


def grouped(number: Number, decimals: int = 0, indian: bool = True) -> str:
    """Return a number's size without its sign, as 1,18,240 (lakh grouping) or 118,240."""
    text = f"{abs(_rounded(number, decimals)):f}"
    whole, _, fraction = text.partition(".")
    head, tail = whole[:-3], whole[-3:]
    step = 2 if indian else 3
    groups = [head[max(end - step, 0) : end] for end in range(len(head), 0, -step)]
    whole = ",".join([*reversed(groups), tail])
    return f"{whole}.{fraction}" if fraction else whole


def number(value: Number | None, decimals: int = 0, signed: bool = False) -> str:
    """Return a number in Indian grouping; `signed` also shows a plus."""
    if value is None:
        return NOTHING
    return _sign(value, decimals, signed) + grouped(value, decimals)


def money(
    amount: Number | None, currency: str, signed: bool = False, decimals: int | None = None
) -> str:
    """Return an amount with its sign before its symbol, rupees in lakh grouping.

    Rupees are shown whole and USDC with cents unless `decimals` says otherwise.
    """
    if amount is None:
        return NOTHING
    places = MONEY_DECIMALS[currency] if decimals is None else decimals
    size = grouped(amount, places, indian=currency == "INR")
    return f"{_sign(amount, places, signed)}{SYMBOLS[currency]}{size}"


def short_rupees(amount: Number | None, signed: bool = False) -> str:
    """Return rupees to three figures: ₹940, ₹81.2k, ₹2.71 L, ₹1.04 Cr."""
    if amount is None:
        return NOTHING
    size = abs(Decimal(str(amount)))
    for unit, suffix in ((10_000_000, f"{GLUE}Cr"), (100_000, f"{GLUE}L"), (1_000, "k")):
        # A value that would round up to the next unit is written in that unit.
        if size >= Decimal(unit) * Decimal("0.99995"):
            scaled = size / unit
            decimals = 2 if scaled < 10 else 1
            return f"{_sign(amount, 0, signed)}₹{grouped(scaled, decimals)}{suffix}"
    return money(amount, "INR", signed)


def price(value: Number | None, currency: str) -> str:
    """Return a price with two decimals in its market's grouping, without a symbol."""
    return NOTHING if value is None else grouped(value, 2, indian=currency == "INR")


def quantity(value: Number | None) -> str:
    """Return a quantity without its sign and without useless zeros: 150, 0.03."""
    if value is None:
        return NOTHING
    text = f"{abs(Decimal(str(value))):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(ratio: float | None, decimals: int = 1, signed: bool = False) -> str:
    """Return a ratio (0.034) as per cent (3.4%)."""
    if ratio is None:
        return NOTHING
    return f"{number(Decimal(str(ratio)) * 100, decimals, signed)}%"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 trade, 4 trades."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def duration(seconds: float) -> str:
    """Return a span in at most two units: 48 s, 12 m, 4 h 48 m, 4 d 7 h."""
    left = max(int(seconds), 0)
    days, rest = divmod(left, 86_400)
    hours, rest = divmod(rest, 3_600)
    if days:
        sizes = [(days, "d"), (hours if days < 10 else 0, "h")]
    elif hours:
        sizes = [(hours, "h"), (rest // 60, "m")]
    else:
        sizes = [(left // 60, "m")] if left >= 60 else [(left, "s")]
    first, *rest_sizes = sizes
    parts = [first, *(each for each in rest_sizes if each[0])]
    return GLUE.join(f"{size}{GLUE}{unit}" for size, unit in parts)


def ago(seconds: float) -> str:
    """Return how long ago something was: just now, 12 m ago."""
    return "just now" if seconds < 2 else f"{duration(seconds)} ago"


def ist_time(at: dt.datetime) -> str:
    """Return the time of day in India: 09:15."""
    return f"{at.astimezone(IST):%H:%M}"


def ist_weekday(at: dt.datetime) -> str:
    """Return the day of the week in India: Monday."""
    return f"{at.astimezone(IST):%A}"


def ist_month(at: dt.datetime) -> str:
    """Return the month in India: Jun 2026."""
    return f"{at.astimezone(IST):%b %Y}"


def ist_moment(at: dt.datetime) -> str:
    """Return the day and time in India: Mon 1 Jun, 09:15."""
    local = at.astimezone(IST)
    return f"{local:%a} {local.day} {local:%b}, {local:%H:%M}"


def ist_near(at: dt.datetime, now: dt.datetime) -> str:
    """Return a moment as briefly as it stays clear: 09:15, Mon 09:15, 1 Jun 09:15."""
    local, today = at.astimezone(IST), now.astimezone(IST).date()
    days = abs((local.date() - today).days)
    if days == 0:
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if days < 7 else f"{local.day} {local:%b %H:%M}"


def _rounded(value: Number, decimals: int) -> Decimal:
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    return exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)


def _sign(value: Number, decimals: int, signed: bool) -> str:
    # What rounds to nothing has no sign: a balance of a third of a paisa is not a loss.
    rounded = _rounded(value, decimals)
    if rounded < 0:
        return MINUS
    return "+" if signed and rounded > 0 else ""
