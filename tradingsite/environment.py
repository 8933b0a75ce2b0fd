"""The environment as the settings read it: what does not fit is one line, with its name."""

import datetime as dt
import os
import sys
from collections.abc import Collection
from importlib import import_module

import environ

from tradingsite.errors import BadSetting
from tradingsite.registry import SLOTS

BAD_SETTING_EXIT = 78
"""sysexits' EX_CONFIG: the configuration is wrong, and starting again cannot help."""
POLICIES = ("gated", "newest")
TRUE_OR_FALSE = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Environment(environ.Env):
    """Read variables; one that is set to nothing counts as not set."""

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        return os.environ.get(name, "").strip() or default

    def choice(self, name: str, default: str, allowed: Collection[str]) -> str:
        """Return one of some words; raise BadSetting for another."""
        found = self.text(name, default)
        if found not in allowed:
            *others, last = allowed
            raise BadSetting(f"{name} is {found!r}: it may be {', '.join(others)} or {last}")
        return found

    def switch(self, name: str, default: bool) -> bool:
        """Return whether a switch is on; raise BadSetting for what is neither on nor off."""
        found = self.text(name, str(default)).lower()
        if found not in TRUE_OR_FALSE:
            raise BadSetting(f"{name} is {found!r}: it may be true or false")
        return TRUE_OR_FALSE[found]

    def whole(self, name: str, default: int, least: int, most: int | None = None) -> int:
        """Return a whole number within bounds; raise BadSetting for anything else."""
        found = self.text(name, str(default))
        wanted = f"from {least} to {most}" if most is not None else f"of at least {least}"
        try:
            number = int(found)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise BadSetting(f"{name} is {found!r}: it may be a whole number {wanted}")
        return number

    def positive(self, name: str, default: float, most: float) -> float:
        """Return a number above 0, up to the most; raise BadSetting for anything else."""
        found = self.text(name, str(default))
        try:
            number = float(found)
        except ValueError:
            number = 0.0
        if not 0.0 < number <= most:
            raise BadSetting(f"{name} is {found!r}: it may be a number above 0, up to {most:g}")
        return number

    def day(self, name: str, default: str) -> str:
        """Return a date as text; raise BadSetting for what is none."""
        found = self.text(name, default)
        try:
            dt.date.fromisoformat(found)
        except ValueError:
            raise BadSetting(f"{name} is {found!r}: it may be a date like {default}") from None
        return found

    def hours(self, name: str, default: str) -> tuple[dt.time, dt.time] | None:
        """Return when hours of each day begin and end, None for none; raise BadSetting."""
        found = self.text(name, default)
        if found == "none":
            return None
        begins, _, ends = found.partition("-")
        try:
            times = dt.time.fromisoformat(begins.strip()), dt.time.fromisoformat(ends.strip())
        except ValueError:
            times = dt.time(), dt.time()
        if times[0] == times[1]:
            raise BadSetting(f"{name} is {found!r}: it may be hours like 23:00-07:00, or none")
        return times

    def policy(self, name: str) -> str:
        """Return which models may trade, as it was written; raise BadSetting for what is none."""
        found = self.text(name)
        for part in filter(None, (each.strip() for each in found.split(","))):
            slot, _, policy = part.rpartition("=")
            if policy not in POLICIES or (slot and slot not in SLOTS):
                raise BadSetting(
                    f"{name} is {found!r}: it may be {' or '.join(POLICIES)}, and for single slots "
                    f"like gated,btc-1h=newest (slots: {', '.join(SLOTS)})"
                )
        return found

    def slots(self, name: str) -> str:
        """Return slots with commas between, as they were written; raise BadSetting for another."""
        found = self.text(name)
        unknown = {each.strip() for each in found.split(",")} - {"", *SLOTS}
        if unknown:
            raise BadSetting(f"{name} is {found!r}: it may name {', '.join(SLOTS)}")
        return found


def check() -> None:
    """Read the settings once and forget them; end with one line where they do not fit.

    For a command that starts servers before Django may read the settings, which ask for them.
    """
    before = set(sys.modules)
    try:
        import_module(os.environ["DJANGO_SETTINGS_MODULE"])
    except BadSetting as error:
        leave(error)
    for name in {"tradingsite.settings", os.environ["DJANGO_SETTINGS_MODULE"]} - before:
        sys.modules.pop(name, None)


def leave(error: BadSetting) -> None:
    """End the process with the error's line."""
    sys.stderr.write(f"{error}.\n")
    sys.exit(BAD_SETTING_EXIT)
