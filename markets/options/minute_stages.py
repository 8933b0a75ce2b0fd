"""What became of a minute of the collector's, and where its time went."""

from __future__ import annotations

from dataclasses import dataclass

from tradingsite import clock
from tradingsite.clock import Epoch

SAID = 1.0
"""A shorter stage is not worth a word."""


class Stages:
    """Add up what each stage of one minute took, the wait before it began among them."""

    def __init__(self, minute: Epoch) -> None:
        self._minute = minute
        self._at = clock.market_seconds()
        self._took = {"before it began": self._at - minute}

    def end(self, stage: str) -> None:
        """Count the time since the stage before for a stage, which may come again."""
        now = clock.market_seconds()
        self._took[stage] = self._took.get(stage, 0.0) + now - self._at
        self._at = now

    @property
    def seconds(self) -> float:
        """Return how long after the minute the last stage ended."""
        return self._at - self._minute

    def __str__(self) -> str:
        longest = sorted(self._took.items(), key=lambda each: -each[1])
        said = [f"{stage} {seconds:.0f} s" for stage, seconds in longest if seconds >= SAID]
        return ", ".join(said) or "nothing took a second"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say what became of one minute."""

    stored: int
    missing: int
    quarantined: int
    replayed: int
    """Minutes of the spool that were stored with it."""
    gaps: int
    """Earlier minutes that turned out to be missing."""
    waits: bool = False
    """It waits in the spool for PostgreSQL."""
    reason: str = ""
    """Why there is no quote at all."""
    is_early: bool = False
    """The session is not open, so that things were only made ready."""
    slow: str = ""
    """Where the time went, if it took long."""

    def __str__(self) -> str:
        if self.is_early:
            return "the list and the partitions are ready for the session"
        if self.reason:
            return f"the minute is missing: {self.reason}"
        if self.waits:
            return "PostgreSQL is away: the minute waits in the spool"
        parts = [f"{self.stored} quotes stored"]
        parts += [f"{self.missing} missing"] if self.missing else []
        parts += [f"{self.quarantined} of them not believed"] if self.quarantined else []
        parts += [f"{self.replayed} minutes from the spool"] if self.replayed else []
        parts += [f"{self.gaps} earlier minutes missing"] if self.gaps else []
        parts += [f"slow: {self.slow}"] if self.slow else []
        return ", ".join(parts)
