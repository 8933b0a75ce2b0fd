"""What is followed: the underlyings, and which of their straddles and strangles."""

from dataclasses import dataclass

STRADDLE, STRANGLE = "straddle", "strangle"


@dataclass(frozen=True, slots=True)
class Underlying:
    """Say how one underlying is followed."""

    name: str
    widths: tuple[int, ...] = (0, 2, 4)
    """Strikes from the money to each leg; 0 is the straddle."""
    hysteresis_ratio: float = 0.2
    """How far past the middle to the next strike spot must go before the money is there."""


UNDERLYINGS: tuple[Underlying, ...] = (
    Underlying("NIFTY"),
    Underlying("BANKNIFTY"),
    Underlying("SENSEX"),
)


def kind_of(width: int) -> str:
    """Return what a pair of options that many strikes from the money is called."""
    return STRANGLE if width else STRADDLE
