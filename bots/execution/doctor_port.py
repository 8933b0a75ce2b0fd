"""The doctor as a live bot asks it; `monitoring`, which stands to the right, answers."""

from typing import Protocol

from tradingsite.ports import Port


class Doctor(Protocol):
    """Whoever examines whether this machine is fit to trade."""

    def refusals(self, bot: str) -> list[str]:
        """Return in words what keeps a live bot from new risk; nothing where it may take it."""


_PORT: Port[Doctor] = Port("the doctor that a live bot must pass")
provide, get = _PORT.provide, _PORT.get
