"""Notices of what lasts: told when it begins and ended when it is over, whoever began them.

A monitor that starts finds the alarms of the one before: it takes them up, so that what is over by
then is ended, and what still lasts is not told again as if it were new.
"""

from collections.abc import Callable, Iterable

from tradingsite import notices


class Alarms:
    """The open alarms of one kind, each by the name that stands behind the kind in its key."""

    def __init__(self, kind: str) -> None:
        self._prefix = f"{kind}:"
        self._open = {key.removeprefix(self._prefix) for key in notices.open_keys(self._prefix)}

    def __contains__(self, name: str) -> bool:
        """Return whether an alarm of this name is open."""
        return name in self._open

    def update(self, lasting: Iterable[str], tell: Callable[[str, str], None]) -> None:
        """Tell of what has begun, by name and key, and end what is no longer among what lasts."""
        now = set(lasting)
        for name in sorted(now - self._open):
            tell(name, f"{self._prefix}{name}")
            self._open.add(name)
        for name in sorted(self._open - now):
            notices.resolve(f"{self._prefix}{name}")
            self._open.discard(name)
