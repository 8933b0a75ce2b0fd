"""Whether a request ever left this machine: the one question an order's error must answer first."""

from __future__ import annotations

import requests

_NO_CONNECTION = frozenset({"NewConnectionError", "NameResolutionError"})


def never_left(error: BaseException | None) -> bool:
    """Return whether no connection was made, so that no byte of a request can have arrived.

    The error may be a client's own, with that of the connection as its cause.
    """
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    if isinstance(error, requests.ConnectionError):
        cause = error.args[0] if error.args else None
        return type(getattr(cause, "reason", None)).__name__ in _NO_CONNECTION
    return error is not None and error.__cause__ is not None and never_left(error.__cause__)
