"""Lengths of the bar timeframes the desk knows."""

SECONDS: dict[str, int] = {"15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}


def seconds(timeframe: str) -> int:
    """Return the nominal length of a timeframe in seconds; raise ValueError naming the known."""
    length = SECONDS.get(timeframe)
    if length is None:
        raise ValueError(
            f"unknown timeframe {timeframe!r}; the known ones are {', '.join(SECONDS)}"
        )
    return length
