"""Errors named by the reaction they ask for: whoever catches one knows what to do next."""

import re

# What a traceback ends with: the error's class at the line's start, and what it says.
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?:: (.*))?$")
_TRACEBACK = "Traceback (most recent call last):"


class Retry(Exception):
    """Ask the caller to try again later: nothing was lost and nothing was half done."""


class Degraded(Exception):
    """Ask the caller to go on with less (hold the position, keep the old model) and to say so."""


class StopTrading(Exception):
    """Ask the caller to take no new risk until a person has looked."""


def cause(error: BaseException) -> str:
    """Return what went wrong in one line.

    The first one: PostgreSQL puts DETAIL, HINT and CONTEXT, with whole rows in them, below it.
    """
    said = str(error).strip().partition("\n")[0].strip()
    return said or type(error).__name__


def cause_in(detail: str) -> str:
    """Return what went wrong in one line, from a sentence or from a traceback."""
    head, mark, last = detail.strip().rpartition(_TRACEBACK)
    if not mark:
        return detail.strip().partition("\n")[0]
    for line in last.strip("\n").split("\n"):
        if found := _RAISED.match(line):
            return ": ".join(part for part in found.groups() if part)
    return head.strip().partition("\n")[0]


class BadSetting(ValueError):
    """A variable that does not fit; the message is one line: its name, what it is, what it may."""
