"""Secrets that a machine makes for itself."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tradingsite import keys


def test_makes_a_secret_once_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    first = keys.secret(path)
    assert len(first) >= 40
    assert keys.secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_two_machines_make_different_secrets(tmp_path: Path) -> None:
    assert keys.secret(tmp_path / "a") != keys.secret(tmp_path / "b")


def test_a_secret_given_by_hand_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("given\n")
    assert keys.secret(tmp_path / "key") == "given"


def test_those_who_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        path = tmp_path / "key"
        values = set(pool.map(lambda _: keys.secret(path), range(8)))
    assert len(values) == 1
