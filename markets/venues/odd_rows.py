"""One odd row of a venue's answer costs that row: it is named, counted, told once, and left out.

Pure. Brokers and exchanges send a row without a time, or with a number that is none, once in a
while. The rest of the answer is as good as ever, and whoever asked goes on with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from tradingsite.errors import Degraded

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a parser raises for a row of a shape that it did not expect."""
TEXT_CHARACTERS = 160

log = logging.getLogger(__name__)
Row = TypeVar("Row")
Asked = ParamSpec("Asked")
Made = TypeVar("Made")


class OddRows:
    """Remember the rows of one venue that could not be read; each kind and reason is told once."""

    def __init__(self, venue: str) -> None:
        """Take the venue's name."""
        self._venue = venue
        self.tell_people: Callable[[str, str], None] = lambda key, text: None
        """Takes a key and a text; set where there are people to tell (`telling.tell`)."""
        self._told: set[str] = set()
        self.count = 0
        """Of all odd rows since the process began."""

    def read(
        self,
        what: str,
        rows: Iterable[Row],
        make: Callable[[Row], Made],
        name_of: Callable[[Row], object] = str,
    ) -> list[Made]:
        """Return what the readable rows are, in their order; the others are left out and told."""
        made = []
        for row in rows:
            try:
                made.append(make(row))
            except UNREADABLE as error:
                self.tell(what, _name(name_of, row), error)
        return made

    def tell(self, what: str, name: str, error: Exception) -> None:
        """Count a row that is left out, and tell of it where it is the first of its kind."""
        self.count += 1
        words = f"{what} {name[:TEXT_CHARACTERS]}: {type(error).__name__} {error}"
        log.warning("%s: a row is left out: %s", self._venue, words)
        reason = f"{what} {type(error).__name__} {error}"
        if reason in self._told:
            return
        self._told.add(reason)
        text = f"{self._venue} sent a row that makes no sense, and it was left out: {words}. "
        text += "The other rows were used; more of the same are only counted, in the log."
        self.tell_people(f"odd-row:{self._venue}:{what}", text)


def legible(ask: Callable[Asked, Made]) -> Callable[Asked, Made]:
    """Let a question to a venue raise Degraded where the shape of the whole answer makes no sense.

    Nothing can be left out of it, so whoever asked must know that nothing is known.
    """

    @wraps(ask)
    def asked(*args: Asked.args, **kwargs: Asked.kwargs) -> Made:
        try:
            return ask(*args, **kwargs)
        except UNREADABLE as error:
            words = f"{type(error).__name__} {error}"
            raise Degraded(f"the answer to {ask.__name__} cannot be read: {words}") from error

    return asked


def _name(name_of: Callable[[Row], object], row: Row) -> str:
    try:
        return str(name_of(row))
    except UNREADABLE:
        return str(row)
