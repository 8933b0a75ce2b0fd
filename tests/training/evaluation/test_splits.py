"""The split of a refit: nothing the model is judged on may have been seen in training."""

import numpy as np
import pytest

from tradingsite.clock import Epoch
from training.evaluation.splits import TooFewBars, default_holdout_bars, split_refit, walk_forward

HOUR = 3600


def closes(bars: int) -> np.ndarray:
    return np.arange(1, bars + 1, dtype=np.int64) * HOUR


def test_holds_out_five_percent_of_a_long_history() -> None:
    split = split_refit(closes(20_000), Epoch(20_000 * HOUR), window=32)
    assert split.holdout == range(19_000, 20_000)
    assert split.train == range(18_968)
    assert split.embargo_bars == 32


def test_holds_out_at_least_a_year_of_daily_bars() -> None:
    assert default_holdout_bars(4_700) == 250
    assert default_holdout_bars(5_001) == 251


def test_leaves_out_bars_that_close_after_the_given_moment() -> None:
    at_the_close = split_refit(closes(5_000), Epoch(3_000 * HOUR), window=32)
    just_before = split_refit(closes(5_000), Epoch(3_000 * HOUR - 1), window=32)
    assert at_the_close.holdout.stop == 3_000
    assert just_before.holdout.stop == 2_999


@pytest.mark.parametrize("bars", [900, 1_234, 7_777])
@pytest.mark.parametrize("window", [1, 32, 64])
@pytest.mark.parametrize("extra_embargo", [0, 5])
def test_no_window_of_the_holdout_reaches_into_training(
    bars: int, window: int, extra_embargo: int
) -> None:
    split = split_refit(
        closes(bars),
        Epoch(bars * HOUR),
        window=window,
        embargo_bars=window + extra_embargo,
        holdout_bars=260,
    )
    first_window = range(split.holdout.start - window + 1, split.holdout.start + 1)
    assert first_window.start > split.train[-1]
    assert len(split.holdout) == 260
    assert split.holdout.stop == bars


def test_refuses_an_embargo_shorter_than_the_window() -> None:
    with pytest.raises(ValueError, match="embargo of 31 bars is shorter than the window of 32"):
        split_refit(closes(5_000), Epoch(5_000 * HOUR), window=32, embargo_bars=31)


def test_refuses_to_hold_nothing_out() -> None:
    with pytest.raises(ValueError, match="0 bars held out"):
        split_refit(closes(5_000), Epoch(5_000 * HOUR), window=32, holdout_bars=0)


def test_says_how_many_bars_are_missing() -> None:
    with pytest.raises(TooFewBars, match=r"700 bars .* leave 418 to train on, at least 500"):
        split_refit(closes(700), Epoch(700 * HOUR), window=32)
    with pytest.raises(TooFewBars, match="0 bars close by then"):
        split_refit(closes(700), Epoch(0), window=32)


def test_a_walk_forward_tests_the_second_half_on_models_of_what_came_before() -> None:
    folds = walk_forward(4_000, 5, window=32)
    assert [fold.holdout.start for fold in folds] == [2_000, 2_400, 2_800, 3_200, 3_600]
    assert folds[-1].holdout.stop == 4_000
    for fold in folds:
        assert fold.train.start == 0  # anchored
        assert fold.embargo_bars == 32
        assert len(fold.holdout) == 400


@pytest.mark.parametrize(
    ("bars", "folds", "said"),
    [(900, 4, "at least 500"), (1_200, 11, "at least 60"), (4_000, 1, "at least 2")],
)
def test_a_walk_forward_of_too_little_is_refused(bars: int, folds: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        walk_forward(bars, folds, window=32)
