"""Bars kept in memory: always what reading them would say, and mostly without reading them."""

import dataclasses

import numpy as np
import pytest
from django.db import transaction

from markets import store
from markets.domain.bars import Bars
from markets.models import Bar, Source
from markets.recent import RecentBars
from tests import histories
from tradingsite import clock
from tradingsite.clock import Epoch

pytestmark = pytest.mark.django_db(databases=["btc"])
BARS = histories.four_hours(60)
START = int(BARS.closes_at[9])


class Counted:
    """Read bars and remember how many each reading gave."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.recent = RecentBars(self._load)

    def _load(self, alias: str, timeframe: str, start: int) -> Bars:
        bars = store.load_bars(alias, timeframe, Epoch(start))
        self.rows.append(len(bars))
        return bars

    def check(self, *rows: int) -> None:
        """Demand that what is kept is what is stored, after readings of these sizes."""
        self.rows.clear()
        kept, read = (
            self.recent.after("btc", "4h", Epoch(START)),
            store.load_bars("btc", "4h", Epoch(START)),
        )
        for each in dataclasses.fields(Bars):
            assert np.array_equal(getattr(kept, each.name), getattr(read, each.name)), each.name
        assert self.rows == list(rows)


@pytest.fixture
def counted() -> Counted:
    """Have forty bars stored, thirty of them after the start and in memory."""
    store.save_bars("btc", "4h", BARS.slice(0, 40), Source.IMPORTED)
    made = Counted()
    made.check(30)
    return made


def test_what_has_not_changed_is_not_read_again(counted: Counted) -> None:
    counted.check()
    store.save_bars("btc", "4h", BARS.slice(0, 40), Source.IMPORTED)
    counted.check()
    Bar.on("btc").objects.filter(closes_at__lte=clock.from_seconds(START)).delete()
    counted.check()


def test_new_bars_alone_are_read(counted: Counted) -> None:
    store.save_bars("btc", "4h", BARS.slice(40, 41), Source.IMPORTED)
    counted.check(1)
    store.save_bars("btc", "4h", BARS.slice(41, 44), Source.IMPORTED)
    counted.check(3)
    counted.check()


def test_a_correction_and_a_hole_that_is_filled_or_made_are_seen(counted: Counted) -> None:
    corrected = dataclasses.replace(BARS, close=BARS.low, open=BARS.low)
    store.save_bars("btc", "4h", corrected.slice(15, 16), Source.IMPORTED)
    counted.check(30)
    Bar.on("btc").objects.filter(opens_at=clock.from_seconds(int(BARS.opens_at[20]))).delete()
    counted.check(29)
    store.save_bars("btc", "4h", BARS.slice(20, 21), Source.IMPORTED)
    counted.check(30)
    # Corrected as a new one comes: nothing of it may be taken from memory.
    store.save_bars("btc", "4h", corrected.slice(39, 41), Source.IMPORTED)
    counted.check(31)


def test_what_was_rolled_back_is_not_kept(counted: Counted) -> None:
    corrected = dataclasses.replace(BARS, close=BARS.low, open=BARS.low)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="btc"):
        store.save_bars("btc", "4h", corrected.slice(15, 45), Source.IMPORTED)
        counted.check(35)
        raise ZeroDivisionError
    counted.check(30)
    Bar.on("btc").objects.all().delete()
    counted.check(0)
    store.save_bars("btc", "4h", BARS, Source.IMPORTED)
    counted.check(50)


def test_another_start_is_another_memory(counted: Counted) -> None:
    counted.rows.clear()
    assert len(counted.recent.after("btc", "4h", Epoch(START + 14_400))) == 29
    assert counted.rows == [29]
    assert len(counted.recent.after("btc", "1h", Epoch(START))) == 0
