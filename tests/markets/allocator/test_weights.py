"""Target weights: long only, whole, and none for what is not known."""

import datetime as dt
import json
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.allocator import weights
from markets.allocator.metrics import day_number
from markets.allocator.weights import CannotWeigh, Targets, choose, target_weights, weigh
from tests.markets.allocator.pasts import AS_OF, series, walk


def returns(deviations: list[float], weeks: int = 104, seed: int = 1) -> np.ndarray:
    scale = np.array(deviations)
    return np.random.default_rng(seed).normal(0.0, scale, (weeks, len(scale)))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.001, 0.2), min_size=2, max_size=5),
    st.integers(48, 156),
    st.integers(0, 10_000),
)
def test_weights_are_long_and_add_up_to_one(deviations: list[float], weeks: int, seed: int) -> None:
    names = [f"a{number}" for number in range(len(deviations))]
    found = target_weights(names, returns(deviations, weeks, seed)).weights
    assert list(found) == names
    assert all(0.0 <= weight <= 1.0 for weight in found.values())
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-9)


def test_the_calmer_asset_gets_more() -> None:
    found = target_weights(["calm", "wild"], returns([0.01, 0.04])).weights
    # Of two there is one branch, so that variances alone decide: 1/1 to 1/16.
    assert found["calm"] == pytest.approx(16 / 17, abs=0.03)


def test_two_names_of_one_thing_share_its_weight() -> None:
    table = returns([0.02, 0.02])
    found = target_weights(["one", "same", "other"], np.c_[table[:, 0], table[:, 0], table[:, 1]])
    assert found.weights["one"] == pytest.approx(found.weights["same"])
    assert found.weights["other"] > found.weights["one"]
    assert found.method.startswith("hierarchical risk parity of weekly returns, skfolio ")


def test_what_is_not_known_gets_no_weight_and_the_reason_is_said() -> None:
    choice = choose(
        [
            series(walk(), "good"),
            series(walk(seed=2), "better"),
            series(walk(200), "short"),
            series(walk(), "ended", last=dt.date(2026, 3, 31)),
            series(np.full(800, 7.0), "still"),
            series(np.array([]), "none"),
        ],
        AS_OF,
    )
    assert choice.weekly.names == ("good", "better") and not choice.note
    assert choice.reasons == {
        "short": "it has fewer than 12 months of closes, from 13 Nov 2025",
        "ended": "its last close is of 31 Mar 2026",
        "still": "its price does not move",
        "none": "it has no closes",
    }


def test_an_asset_with_a_year_full_of_holes_is_not_known() -> None:
    whole = series(walk(400))
    keep = (whole.days - day_number(dt.date(2025, 5, 31))) % 28 < 8
    keep |= whole.days > whole.days[-1] - 9
    holes = weights.Series("one", "equity", "INR", whole.days[keep], whole.closes[keep])
    assert weights.why_not(holes, AS_OF).startswith("it has only ")


def test_one_asset_is_no_allocation() -> None:
    choice = choose([series(walk(), "alone"), series(walk(30), "young")], AS_OF)
    assert weigh(choice).note == "one asset only: no weights"
    assert weigh(choose([], AS_OF)).note == "no asset that is known: no weights"
    assert weigh(choice).weights == {}


def test_a_process_answers_what_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = returns([0.01, 0.02])
    asked = json.dumps({"names": ["one", "two"], "returns": table.tolist()})
    monkeypatch.setattr(weights.sys, "stdin", StringIO(asked))
    weights.main()
    said = Targets(**json.loads(capsys.readouterr().out))
    assert said == target_weights(["one", "two"], table)


def test_a_process_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = choose([series(walk(), "one"), series(walk(seed=2), "two")], AS_OF)
    monkeypatch.setattr(weights.sys, "executable", "/bin/false")
    with pytest.raises(CannotWeigh, match="could not be worked out: it said nothing"):
        weigh(choice)


def test_what_hardly_moves_is_left_out_alone() -> None:
    """A fund of overnight money: skfolio takes it for a constant and refuses all of them."""
    weeks = np.arange(801) // 7
    night = np.round(1_000.0 * 1.0012**weeks, 4)
    choice = choose(
        [series(walk(), "good"), series(walk(seed=2), "better"), series(night, "night")], AS_OF
    )
    assert choice.reasons == {"night": "its price does not move"}
    assert sum(target_weights(choice.weekly.names, choice.weekly.returns).weights.values())
