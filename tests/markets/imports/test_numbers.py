"""Numbers as spreadsheets and sites write them."""

from __future__ import annotations

import math

import pytest

from markets.imports.numbers import number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("281.46M", 281.46e6),
        ("1.5K", 1_500.0),
        ("2B", 2e9),
        ("21,541.70", 21_541.7),
        ("17,72,550", 1_772_550.0),
        ("-.14", -0.14),
        ("0.15%", 0.15),
        (" 7 ", 7.0),
        ("1e3", 1_000.0),
    ],
)
def test_a_number_is_read_as_it_is_meant(text: str, value: float) -> None:
    assert number(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "-", "null", "NaN", "#N/A"])
def test_a_missing_number_is_none_of_them(text: str) -> None:
    value = number(text)
    assert value is not None and math.isnan(value)


@pytest.mark.parametrize("text", ["1O5", "1,5", "21,54", "1 2", "0x10", "1_000", "--1"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(("text", "value"), [("21.547,2", 21_547.2), ("0,5", 0.5), ("7", 7.0)])
def test_a_decimal_comma_is_read_where_the_file_has_them(text: str, value: float) -> None:
    assert number(text, decimal_comma=True) == value
