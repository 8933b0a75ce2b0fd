"""Ports: what a package needs of one to its right, without naming it.

The package on the left declares a Protocol and a Port of it; the one on the right provides the
object in its `AppConfig.ready()`. A port that nobody filled is an error, and never an answer.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class NotProvided(RuntimeError):
    """A port is empty: the app that fills it is not installed, or did not get ready."""


class Port(Generic[T]):
    """Hold the one object that stands behind a port."""

    def __init__(self, what: str) -> None:
        """Take what the port is for, in words for the error."""
        self._what = what
        self._provided: T | None = None

    def provide(self, provided: T) -> T | None:
        """Put the object behind the port; return the one before, so that a test can restore it."""
        before, self._provided = self._provided, provided
        return before

    def get(self) -> T:
        """Return the object; raise NotProvided where there is none."""
        if self._provided is None:
            raise NotProvided(f"nobody provides {self._what}: is its app in INSTALLED_APPS?")
        return self._provided
