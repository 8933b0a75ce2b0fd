"""The owner's own limits: narrower by a file, wider only by his word, and never half used."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.test_architecture import ROOT
from tradingsite import owner_limits
from tradingsite.owner_limits import BadLimits
from tradingsite.registry import BOTS, MARKETS, Bot, Market


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    kept = owner_limits.in_force.path
    yield
    owner_limits.apply(kept)


def written(folder: Path, text: str) -> Path:
    path = folder / "limits.toml"
    path.write_text(text)
    return path


def test_entries_are_by_keyword_so_that_two_limits_cannot_be_mixed_up() -> None:
    made: Any
    for made in (Market, Bot):
        with pytest.raises(TypeError, match="positional"):
            made("nifty", "NIFTY")


def test_without_a_file_the_repositorys_limits_hold(tmp_path: Path) -> None:
    before = dict(BOTS)
    found = owner_limits.apply(tmp_path / "none.toml")
    assert (found.error, found.changed_at, before) == ("", None, BOTS)
    assert found.source("bots", "nifty", "limit_lots") == "the repository"


def test_a_file_narrows_and_says_so(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [bots.nifty]
        limit_lots = 2
        daily_loss_limit = 150_000
        [bots.btc]
        notional_limit = 12_500.50
        [markets.nifty]
        daily_loss_limit = 200000
        """,
    )
    kept = BOTS["nifty"].notional_limit
    found = owner_limits.apply(path)
    assert found.error == ""
    assert BOTS["nifty"].limit_lots == 2
    assert BOTS["nifty"].daily_loss_limit == Decimal(150_000)
    assert BOTS["nifty"].notional_limit == kept
    assert BOTS["btc"].notional_limit == Decimal("12500.50")
    assert MARKETS["nifty"].daily_loss_limit == Decimal(200_000)
    assert found.source("bots", "nifty", "limit_lots").startswith("limits.toml of ")
    assert found.changed_at is not None and found.changed_at.tzinfo is dt.UTC
    # Gone again, so are they.
    owner_limits.apply(tmp_path / "none.toml")
    assert BOTS["nifty"].limit_lots == 4


def test_what_is_wider_must_be_meant(tmp_path: Path) -> None:
    text = "[bots.btc]\nnotional_limit = 200_000\n"
    with pytest.raises(BadLimits, match=r"line 2: notional_limit = 200,000 is more than .*20,000"):
        owner_limits.read(written(tmp_path, text))
    bots, _, _ = owner_limits.read(written(tmp_path, text + "loosen = true\n"))
    assert bots["btc"] == {"notional_limit": Decimal(200_000)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[bots.nifty\n", r"is no TOML: .*line 1"),
        ("[bots.nifti]\nlimit_lots = 1\n", "line 1: there is no 'nifti' in bots; there are nifty"),
        ("[markets.gold]\ndaily_loss_limit = 1\n", "line 1: there is no 'gold' in markets"),
        ("[limits]\nlots = 1\n", "line 1: there is no table 'limits'"),
        ("bots = 3\n", r"line 1: \[bots.NAME\] is a table"),
        ("[bots]\nnifty = 3\n", r"line 2: \[bots.nifty\] is a table"),
        ("[bots.nifty]\n\nlots = 1\n", "line 3: bots have no limit 'lots'; they have limit_lots"),
        ("[bots.nifty]\nlimit_lots = 0\n", "line 2: limit_lots is a whole number of at least 1"),
        ("[bots.nifty]\nlimit_lots = 1.5\n", "limit_lots is a whole number"),
        ("[bots.nifty]\nlimit_lots = true\n", "limit_lots is a number, not True"),
        ("[bots.nifty]\nlimit_lots = '2'\n", "limit_lots is a number, not '2'"),
        ("[bots.nifty]\ndaily_loss_limit = 0\n", "daily_loss_limit is an amount above zero"),
        ("[bots.nifty]\ndaily_loss_limit = -1\n", "daily_loss_limit is an amount above zero"),
        ("[bots.nifty]\ndaily_loss_limit = nan\n", "daily_loss_limit is an amount above zero"),
        ("[bots.nifty]\ndaily_loss_limit = inf\n", "daily_loss_limit is an amount above zero"),
        ("[bots.nifty]\nloosen = 1\n", "line 2: loosen is true or false"),
        (
            "[bots.nifty]\nlimit_lots = 1\n[bots.btc]\nlimit_lots = 0\n",
            "line 4: limit_lots is a whole number",
        ),
    ],
)
def test_a_broken_file_says_where_and_changes_nothing(tmp_path: Path, text: str, says: str) -> None:
    path, before = written(tmp_path, text), (dict(BOTS), dict(MARKETS))
    with pytest.raises(BadLimits, match=says):
        owner_limits.read(path)
    found = owner_limits.apply(path)
    assert "limits.toml" in found.error
    assert before == (BOTS, MARKETS)


def test_a_file_that_is_no_text_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert owner_limits.apply(path).error


def test_a_file_that_was_named_and_is_not_there_is_no_free_hand(tmp_path: Path) -> None:
    found = owner_limits.apply(tmp_path / "none.toml", must_exist=True)
    assert found.error.endswith("is not there: put it back, or take LIMITS_FILE away")
    assert owner_limits.in_force is found


def test_services_with_other_limits_differ_in_what_they_are_told(tmp_path: Path) -> None:
    before = owner_limits.told()
    owner_limits.apply(written(tmp_path, "[markets.btc]\ndaily_loss_limit = 399\n"))
    narrowed = owner_limits.told()
    owner_limits.apply(written(tmp_path, "[markets.btc]\n"))
    assert owner_limits.told() == before != narrowed
    owner_limits.apply(written(tmp_path, "[markets.btc\n"))
    assert owner_limits.told() not in (before, narrowed)


def test_the_limits_in_force_are_a_command_away(tmp_path: Path) -> None:
    owner_limits.apply(written(tmp_path, "[bots.btc]\nnotional_limit = 12_500\n"))
    said = StringIO()
    call_command("limits", stdout=said)
    lines = dict(line.split(maxsplit=1) for line in said.getvalue().splitlines())
    assert lines["bots.btc.notional_limit"].startswith("12,500  limits.toml of ")
    assert lines["bots.nifty.limit_lots"] == "4  the repository"
    assert len(lines) == len(BOTS) * 3 + len(MARKETS)


def test_a_file_is_tried_without_being_used(tmp_path: Path) -> None:
    owner_limits.apply(written(tmp_path, "[bots.btc]\nnotional_limit = 12_500\n"))
    other = tmp_path / "other.toml"
    other.write_text("[bots.nifty]\nlimit_lots = 2\n")
    said = StringIO()
    call_command("limits", check=other, stdout=said)
    lines = said.getvalue().splitlines()
    assert lines[0].split() == ["bots.nifty.limit_lots", "4", "->", "2"]
    assert lines[1].strip() == "its models must be trained for 2 lots to trade"
    assert lines[2].split() == ["bots.btc.notional_limit", "12,500", "->", "20,000"]
    assert lines[3].endswith("is good: it would change 2 of the limits in force")
    assert (BOTS["nifty"].limit_lots, BOTS["btc"].notional_limit) == (4, Decimal(12_500))


def test_a_broken_file_ends_the_command(tmp_path: Path) -> None:
    path = written(tmp_path, "[bots.btc]\nnotional_limit = 0\n")
    with pytest.raises(CommandError, match="line 2: notional_limit is an amount above zero"):
        call_command("limits", check=path)
    owner_limits.apply(path)
    with pytest.raises(CommandError, match="every bot only reduces"):
        call_command("limits", stdout=StringIO())


@pytest.mark.parametrize(
    ("named", "error"), [("", ""), ("none.toml", "is not there"), ("limits.toml", "")]
)
def test_the_settings_read_the_file_that_the_environment_names(
    tmp_path: Path, named: str, error: str
) -> None:
    written(tmp_path, "[bots.btc]\nlimit_lots = 3\n")
    code = (
        "from tradingsite import settings, owner_limits, registry;"
        "print(owner_limits.in_force.error, registry.BOTS['btc'].limit_lots)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "DATA_DIR": str(tmp_path / "data"),
            "LIMITS_FILE": str(tmp_path / named) if named else "",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert error in done.stdout
    assert done.stdout.split()[-1] == ("3" if named == "limits.toml" else "4")
