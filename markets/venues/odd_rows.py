"""One odd row of a venue's answer costs that row: it is named, counted, told once, and left out.

Pure. Brokers and exchanges send a row without a time, or with a number that is none, once in a
while. The rest of the answer is as good as ever, and whoever asked goes on with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a parser raises for a row of a shape that it did not expect."""
TEXT_CHARACTERS = 160

log = logging.getLogger(__name__)
Row = TypeVar("Row")
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


def _name(name_of: Callable[[Row], object], row: Row) -> str:
    try:
        return str(name_of(row))
    except UNREADABLE:
        return str(row)
