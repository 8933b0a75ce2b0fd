"""The one way in which a test waits for something that another thread or process does."""

import time
from collections.abc import Callable

PAUSE_SECONDS = 0.02


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Return whether a condition came true in time, as soon as it did."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(PAUSE_SECONDS)
    return bool(condition())  # on a busy machine the last pause may have been a long one
