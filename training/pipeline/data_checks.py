"""Whether rows are fit to be learned from: numbers all of them, and no holes that matter."""

from __future__ import annotations

import numpy as np

from markets.domain import bar_rule
from markets.domain.calendar import Calendar
from markets.domain.features import Features
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded

MOST_MISSING_RATIO = 0.02
"""Of the bars that the calendar expects. A window runs over a hole as if the market had jumped."""


class UnsoundData(Degraded):
    """Rows that no model may be made of; the message names the feature or the hole."""


def missing_rows(features: Features, calendar: Calendar) -> int:
    """Return how many rows are missing between the first and the last; raise UnsoundData.

    A row is missing where its bar is, and where a bar of a longer timeframe is that it needs.
    """
    _require_numbers(features)
    if not len(features):
        return 0
    gaps = bar_rule.missing(features.opens_at, features.schema.timeframe, calendar)
    missing = sum(gap.bars for gap in gaps)
    if missing > MOST_MISSING_RATIO * (missing + len(features)):
        market, timeframe = features.schema.market, features.schema.timeframe
        longest = max(gaps, key=lambda gap: gap.bars)
        first, last = (_format_time(at) for at in (longest.first, longest.last))
        raise UnsoundData(
            f"{market} {timeframe} lacks {missing:,} of {missing + len(features):,} rows that the "
            f"calendar expects, more than {MOST_MISSING_RATIO:.0%}; the longest hole is of "
            f"{longest.bars:,} from {first} to {last} IST. See `manage.py bars gaps {market}`, "
            f"fill them or import a history without"
        )
    return missing


def _require_numbers(features: Features) -> None:
    bad = ~np.isfinite(features.values)
    if bad.any():
        row, column = (int(place[0]) for place in np.nonzero(bad))
        schema = features.schema
        at = _format_time(Epoch(features.opens_at[row]))
        raise UnsoundData(
            f"{schema.market} {schema.timeframe}: {schema.names[column]} is not a number in the "
            f"row of {at} IST; compute the features again: "
            f"they are rebuilt where a bar or a reading of that day is imported"
        )


def _format_time(at: Epoch) -> str:
    return f"{clock.from_seconds(at).astimezone(clock.IST):%d %b %Y %H:%M}"
