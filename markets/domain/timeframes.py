"""Lengths of the bar timeframes the desk knows."""

SECONDS: dict[str, int] = {"15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}
PARTS: dict[str, int] = {
    "1m": 60,
    "2m": 120,
    "3m": 180,
    "5m": 300,
    "10m": 600,
    "15m": 900,
    "30m": 1_800,
    "1h": 3_600,
}
"""Lengths of bars that files have and the desk keeps none of: its own are made of them."""


def seconds(timeframe: str) -> int:
    """Return the nominal length of bars in seconds; raise ValueError naming the desk's own."""
    length = SECONDS.get(timeframe) or PARTS.get(timeframe)
    if length is None:
        raise ValueError(
            f"unknown timeframe {timeframe!r}; the known ones are {', '.join(SECONDS)}"
        )
    return length
