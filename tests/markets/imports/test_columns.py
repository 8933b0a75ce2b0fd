"""Columns that grow in place hold what joined pieces would."""

from typing import Any

import numpy as np
import pytest

from markets.imports import columns


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64, bool])
def test_pieces_of_any_length_are_joined_in_order(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "_FIRST_ROWS", 16)
    random = np.random.default_rng(3)
    sizes = (0, 5, 11, 1, 400, 0, 7, 90)
    pieces: list[Any] = [random.integers(0, 100, size).astype(kind) for size in sizes]
    column = columns.Column(kind)
    for piece in pieces:
        given = piece.copy()
        column.append(given)
        given[:] = 0  # a reader uses its memory again
    assert len(column) == sum(map(len, pieces))
    taken = column.take()
    assert taken.dtype == np.dtype(kind)
    assert taken.tolist() == np.concatenate(pieces).tolist()
    assert len(column) == 0
    assert column.take().tolist() == []


def test_a_short_column_is_cut_to_its_length() -> None:
    column = columns.Column(np.int64)
    column.append(np.array([3, 4]))
    taken = column.take()
    assert taken.tolist() == [3, 4]
    assert taken.nbytes == 16
