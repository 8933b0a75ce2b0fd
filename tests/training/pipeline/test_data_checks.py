"""What no model may be made of: rows that are no numbers, and histories full of holes."""

import datetime as dt

import numpy as np
import pytest

from markets.domain.calendar import CryptoCalendar, NseCalendar, nse_sessions
from markets.domain.features import Features, schema_for
from tradingsite.errors import Degraded
from training.pipeline.data_checks import MOST_MISSING_RATIO, UnsoundData, missing_rows

CRYPTO, NSE = CryptoCalendar(), NseCalendar(nse_sessions())
FIRST = int(dt.datetime(2025, 4, 1, tzinfo=dt.UTC).timestamp())


def hours(count: int) -> Features:
    """Return so many hourly rows of BTC, one after the other."""
    opens_at = FIRST + 3_600 * np.arange(count, dtype=np.int64)
    schema = schema_for("btc", "1h")
    values = np.random.default_rng(0).normal(size=(count, len(schema.names)))
    return Features(opens_at, opens_at + 3_600, values.astype(np.float32), schema)


def without(rows: Features, gone: slice) -> Features:
    """Return rows less some of them."""
    opens_at, closes_at = np.delete(rows.opens_at, gone), np.delete(rows.closes_at, gone)
    return Features(opens_at, closes_at, np.delete(rows.values, gone, axis=0), rows.schema)


def test_holes_are_counted_and_too_many_of_them_are_refused() -> None:
    rows = hours(1_000)
    assert missing_rows(rows, CRYPTO) == 0
    assert missing_rows(without(rows, slice(100, 110)), CRYPTO) == 10
    most = int(MOST_MISSING_RATIO * len(rows))
    assert missing_rows(without(rows, slice(100, 100 + most)), CRYPTO) == most
    with pytest.raises(UnsoundData) as refused:
        missing_rows(without(rows, slice(100, 101 + most)), CRYPTO)
    assert str(refused.value) == (
        "btc 1h lacks 21 of 1,000 rows that the calendar expects, more than 2%; the longest hole "
        "is of 21 from 05 Apr 2025 09:30 to 06 Apr 2025 05:30 IST. See `manage.py bars gaps btc`, "
        "fill them or import a history without"
    )
    # The run is refused with that sentence, and the champion goes on.
    assert isinstance(refused.value, Degraded)


def test_nights_and_holidays_are_no_holes() -> None:
    opens = np.array(
        [
            opens
            for session in NSE.sessions(dt.date(2026, 1, 1), dt.date(2026, 3, 31))
            for opens in NSE.bar_opens("15m", session.date)
        ],
        dtype=np.int64,
    )
    schema = schema_for("nifty", "15m")
    values = np.zeros((len(opens), len(schema.names)), dtype=np.float32)
    assert missing_rows(Features(opens, opens + 900, values, schema), NSE) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_feature_that_is_not_a_number_is_named_with_its_bar(bad: float) -> None:
    rows = hours(60)
    rows.values[40, rows.schema.names.index("rsi")] = bad
    with pytest.raises(
        UnsoundData, match="btc 1h: rsi is not a number in the row of 02 Apr 2025 21"
    ):
        missing_rows(rows, CRYPTO)


def test_no_row_at_all_is_for_others_to_refuse() -> None:
    assert missing_rows(without(hours(3), slice(0, 3)), CRYPTO) == 0
