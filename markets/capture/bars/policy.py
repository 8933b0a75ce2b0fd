"""Who writes a market's bars: one rule, by the mode of the desk.

simulated    the simulator, which makes the bars as its clock reaches them. The collector reads the
             same bars by the real way and compares; a command may fill what is missing, with the
             simulator's own source.
paper, live  the collector, from the venue.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from markets.models import Source


@dataclass(frozen=True, slots=True)
class CollectionPolicy:
    """Say what the collector may do with what it reads, and whose it calls it."""

    source: str
    collects: bool
    """Whether it stores bars at their close and corrects stored ones; else it compares."""


SIMULATED = CollectionPolicy(Source.GENERATED, collects=False)
REAL = CollectionPolicy(Source.VENUE, collects=True)


def current_policy() -> CollectionPolicy:
    """Return the rule of the mode the desk runs in."""
    return SIMULATED if settings.MODE == "simulated" else REAL
