import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from markets.domain.bars import BadBars, Bars


def make_bars(length: int = 5) -> Bars:
    opens_at = np.arange(length, dtype=np.int64) * 900
    price = 100.0 + np.arange(length, dtype=np.float64)
    return Bars(
        opens_at=opens_at,
        closes_at=opens_at + 900,
        open=price,
        high=price + 2.0,
        low=price - 2.0,
        close=price + 1.0,
        volume=np.zeros(length),
    )


def changed(column: str, row: int, value: float) -> Bars:
    values = getattr(make_bars(), column).copy()
    values[row] = value
    return dataclasses.replace(make_bars(), **{column: values})


def test_good_bars_and_no_bars_pass() -> None:
    make_bars().validate()
    Bars.empty().validate()
    assert len(Bars.empty()) == 0


@pytest.mark.parametrize(
    ("column", "row", "value", "reason"),
    [
        ("opens_at", 2, 900, "row 2: .*does not come after"),
        ("opens_at", 3, 100, "row 3: .*does not come after"),
        ("closes_at", 1, 900, "row 1: .*not after open"),
        ("closes_at", 1, 2_000, "row 2: .*before the one before it has closed"),
        ("open", 4, float("nan"), "row 4: .*open is not a positive"),
        ("close", 0, float("inf"), "row 0: .*close is not a positive"),
        ("low", 2, 0.0, "row 2: .*low is not a positive"),
        ("high", 3, 103.5, "row 3: .*high is below"),
        ("low", 3, 103.5, "row 3: .*low is above"),
        ("volume", 1, -1.0, "row 1: .*volume"),
        ("volume", 1, float("nan"), "row 1: .*volume"),
    ],
)
def test_a_bad_row_is_named_with_its_reason(
    column: str, row: int, value: float, reason: str
) -> None:
    with pytest.raises(BadBars, match=reason):
        changed(column, row, value).validate()


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("volume", lambda values: values[:-1]),
        ("close", lambda values: values.astype(np.float32)),
        ("opens_at", lambda values: values.astype(np.int32)),
    ],
)
def test_a_column_of_the_wrong_shape_or_type_is_named(
    column: str, change: Callable[[Any], Any]
) -> None:
    bars = dataclasses.replace(make_bars(), **{column: change(getattr(make_bars(), column))})
    with pytest.raises(BadBars, match=f"column {column}"):
        bars.validate()


def test_before_uses_a_bar_only_from_its_close() -> None:
    bars = make_bars()
    assert len(bars.before(899)) == 0
    assert len(bars.before(900)) == 1
    assert len(bars.before(901)) == 1
    assert len(bars.before(10_000)) == 5


def test_slice_gives_views_of_every_column() -> None:
    bars = make_bars()
    part = bars.slice(1, 3)
    assert len(part) == 2
    for field in dataclasses.fields(Bars):
        assert np.shares_memory(getattr(part, field.name), getattr(bars, field.name))
        assert np.array_equal(getattr(part, field.name), getattr(bars, field.name)[1:3])
    assert len(bars.slice(-2)) == 2
