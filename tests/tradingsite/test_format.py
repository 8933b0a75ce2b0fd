"""How figures and times look."""

import datetime as dt
from decimal import Decimal

import pytest

from tradingsite import format as fmt

IST = fmt.IST


@pytest.mark.parametrize(
    ("amount", "currency", "signed", "text"),
    [
        (118240, "INR", True, "+₹1,18,240"),
        (Decimal("-14555.50"), "INR", True, "\N{MINUS SIGN}₹14,556"),
        (123456789, "INR", False, "₹12,34,56,789"),
        (999, "INR", False, "₹999"),
        (1000, "INR", False, "₹1,000"),
        (Decimal("-43.618"), "USDC", True, "\N{MINUS SIGN}$43.62"),
        (1234567.5, "USDC", False, "$1,234,567.50"),
        (0, "INR", True, "₹0"),
        (Decimal("-0.4"), "INR", True, "₹0"),
        (Decimal("-0.004"), "USDC", True, "$0.00"),
        (None, "INR", True, "—"),
    ],
)
def test_money_is_grouped_and_signed_as_its_reader_expects(
    amount: Decimal | float | None, currency: str, signed: bool, text: str
) -> None:
    assert fmt.money(amount, currency, signed) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (940, "₹940"),
        (1000, "₹1.00k"),
        (-81234, "\N{MINUS SIGN}₹81.2k"),
        (99999, "₹1.00 L"),
        (271000, "₹2.71 L"),
        (10399999, "₹1.04 Cr"),
    ],
)
def test_short_rupees_keep_three_figures_and_change_units_in_time(
    amount: Decimal | float | None, text: str
) -> None:
    assert fmt.short_rupees(amount).replace(fmt.GLUE, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 m"),
        (3600, "1 h"),
        (17280, "4 h 48 m"),
        (86400, "1 d"),
        (371000, "4 d 7 h"),
        (11 * 86400 + 7200, "11 d"),
        (-5, "0 s"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert fmt.duration(seconds).replace(fmt.GLUE, " ") == text


def test_quantities_drop_useless_zeros_but_not_useful_ones() -> None:
    assert [fmt.quantity(Decimal(text)) for text in ("150.00000000", "0.03000000", "-1300")] == [
        "150",
        "0.03",
        "1300",
    ]


def test_moments_are_indian_and_as_short_as_they_stay_clear() -> None:
    late = dt.datetime(2026, 5, 31, 20, 0, tzinfo=dt.UTC)  # 01:30 on Monday in India
    now = dt.datetime(2026, 6, 1, 12, 0, tzinfo=IST)
    assert fmt.ist_moment(late) == "Mon 1 Jun, 01:30"
    assert fmt.ist_near(late, now) == "01:30"
    assert fmt.ist_near(now + dt.timedelta(days=3), now) == "Thu 12:00"
    assert fmt.ist_near(now - dt.timedelta(days=30), now) == "2 May 12:00"
