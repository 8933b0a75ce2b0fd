"""The owner's own limits, in a file outside the repository that no upgrade overwrites.

The file is `var/limits.toml`, or what LIMITS_FILE names; without one the repository's limits hold:

    [bots.nifty]
    limit_lots = 2                    # of each slot; another number wants models trained for it
    daily_loss_limit = 150000         # in the market's currency
    notional_limit = 20000000

    [markets.nifty]
    daily_loss_limit = 200000         # of all its bots together

    [bots.btc]
    loosen = true                     # without it, no value may be above the repository's
    notional_limit = 25000

It is read as a process starts: see with `manage.py limits --check FILE` what a change would do,
then restart the bots. A file that is broken is never half used and never overlooked: the
repository's limits stay, every bot may only reduce, and doctor and the bot say which line is wrong.
So it is with one that LIMITS_FILE names and that is not there.

A lower limit closes nothing by itself, it bounds what comes next. A model trades only at the
`limit_lots` that it was trained for: at another number its slot holds until it is trained again, on
a machine whose file says the same number. Standard library only.
"""

import dataclasses
import datetime as dt
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tradingsite.registry import BOTS, MARKETS, Bot, Market

BOT_KEYS = ("limit_lots", "daily_loss_limit", "notional_limit")
MARKET_KEYS = ("daily_loss_limit",)
LOOSEN = "loosen"
REPOSITORY = "the repository"


class BadLimits(ValueError):
    """A limits file that cannot be used; the message says which line, why and what to do."""


@dataclass(frozen=True, slots=True)
class InForce:
    """Say where the limits in force come from."""

    path: Path
    changed_at: dt.datetime | None = None
    """Of the file; None where there is none."""
    set_by_owner: frozenset[tuple[str, str, str]] = frozenset()
    """Table, name and key of each value that the file sets."""
    error: str = ""
    """Why the file is not used; every bot only reduces until it is mended or removed."""

    def source(self, table: str, name: str, key: str) -> str:
        """Return where a value comes from, in words."""
        if (table, name, key) in self.set_by_owner and self.changed_at is not None:
            return f"{self.path.name} of {self.changed_at:%d %b %Y %H:%M}Z"
        return REPOSITORY


in_force = InForce(Path("limits.toml"))
_OWN_BOTS, _OWN_MARKETS = dict(BOTS), dict(MARKETS)


def apply(path: Path, must_exist: bool = False) -> InForce:
    """Put a file's limits in force for this process, and return what came of it; never raises.

    Without a file the repository's hold, unless the owner has named one.
    """
    global in_force
    BOTS.update(_OWN_BOTS)
    MARKETS.update(_OWN_MARKETS)
    try:
        bots, markets, changed_at = read(path)
    except FileNotFoundError:
        gone = f"{path} is not there: put it back, or take LIMITS_FILE away" if must_exist else ""
        in_force = InForce(path, error=gone)
        return in_force
    except (BadLimits, OSError, UnicodeDecodeError) as error:
        in_force = InForce(path, error=str(error))
        return in_force
    owners = set()
    for name, values in bots.items():
        BOTS[name] = dataclasses.replace(BOTS[name], **values)
        owners |= {("bots", name, key) for key in values}
    for name, values in markets.items():
        MARKETS[name] = dataclasses.replace(MARKETS[name], **values)
        owners |= {("markets", name, key) for key in values}
    in_force = InForce(path, changed_at, frozenset(owners))
    return in_force


def of_repository(kind: str, name: str, key: str) -> int | Decimal:
    """Return what a limit is without any file."""
    value: int | Decimal = getattr((_OWN_BOTS if kind == "bots" else _OWN_MARKETS)[name], key)
    return value


def told() -> str:
    """Return the limits in force as one line, which services must agree on."""
    amounts = [
        f"{kind}.{name}.{key}={getattr(entry, key)}"
        for kind, entries, keys in (("bots", BOTS, BOT_KEYS), ("markets", MARKETS, MARKET_KEYS))
        for name, entry in entries.items()
        for key in keys
    ]
    return " ".join([*amounts, in_force.error])


def read(
    path: Path,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], dt.datetime]:
    """Return a file's values by bot and by market, and when it was changed.

    Raises BadLimits naming the line, and FileNotFoundError.
    """
    text = path.read_text(encoding="utf-8")
    changed_at = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise BadLimits(
            f"{path} is no TOML: {error}. Mend that line, or remove the file"
        ) from error
    bad = _Place(path, text)
    for name in tables.keys() - {"bots", "markets"}:
        raise bad.at(name, f"there is no table {name!r}; there are [bots.NAME] and [markets.NAME]")
    bots = _table(tables.get("bots", {}), _OWN_BOTS, BOT_KEYS, bad, "bots")
    markets = _table(tables.get("markets", {}), _OWN_MARKETS, MARKET_KEYS, bad, "markets")
    return bots, markets, changed_at


@dataclass(frozen=True, slots=True)
class _Place:
    """Name the line of a file at which something is wrong."""

    path: Path
    text: str

    def at(self, word: str, what: str, after: str = "") -> BadLimits:
        begins = max(self.text.find(after), 0) if after else 0
        found = self.text.find(word, begins)
        line = self.text.count("\n", 0, found) + 1 if found >= 0 else 0
        where = f"{self.path}, line {line}" if line else str(self.path)
        return BadLimits(f"{where}: {what}. Mend it, or remove the file")


def _table(
    given: Any,
    own: Mapping[str, Bot] | Mapping[str, Market],
    keys: tuple[str, ...],
    bad: _Place,
    kind: str,
) -> dict[str, dict[str, Any]]:
    if not isinstance(given, dict):
        raise bad.at(kind, f"[{kind}.NAME] is a table for each, not one value")
    found: dict[str, dict[str, Any]] = {}
    for name, values in given.items():
        header = f"[{kind}.{name}"
        if name not in own:
            raise bad.at(name, f"there is no {name!r} in {kind}; there are {', '.join(own)}")
        if not isinstance(values, dict):
            raise bad.at(name, f"[{kind}.{name}] is a table, not one value")
        may_loosen = values.get(LOOSEN, False)
        if not isinstance(may_loosen, bool):
            raise bad.at(LOOSEN, f"{LOOSEN} is true or false", header)
        found[name] = {}
        for key, value in values.items():
            if key == LOOSEN:
                continue
            if key not in keys:
                known = ", ".join((*keys, LOOSEN))
                raise bad.at(key, f"{kind} have no limit {key!r}; they have {known}", header)
            limit = _value(key, value, bad, header)
            before = getattr(own[name], key)
            if limit > before and not may_loosen:
                what = (
                    f"{key} = {limit:,} is more than {REPOSITORY}'s {before:,}, as a zero too many "
                )
                what += f"would be. Say {LOOSEN} = true in [{kind}.{name}] if it is meant"
                raise bad.at(key, what, header)
            found[name][key] = limit
    return found


def _value(key: str, value: Any, bad: _Place, header: str) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise bad.at(key, f"{key} is a number, not {value!r}", header)
    if key == "limit_lots":
        if not isinstance(value, int) or value < 1:
            raise bad.at(key, f"limit_lots is a whole number of at least 1, not {value}", header)
        return value
    amount = Decimal(value)
    if not amount.is_finite() or amount <= 0:
        raise bad.at(key, f"{key} is an amount above zero, not {value}", header)
    return amount
