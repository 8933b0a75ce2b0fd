"""Work in a thread of a command, while the command shows how it goes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connections


def run_while_shown(
    name: str, work: Callable[[], object], show: Callable[[Callable[[], bool]], None]
) -> Exception | None:
    """Do work in a thread while `show` follows it; return the error that ended it, if one did.

    show is called with a function that says whether the work still goes on, and may raise, as it
    does on Ctrl-C: the thread then ends with the process.
    """
    errors: list[Exception] = []

    def body() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the caller, who knows what to do
            errors.append(error)
        finally:
            # Django closes a request's connections, and this thread has none.
            connections.close_all()

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    show(thread.is_alive)
    thread.join()
    return errors[0] if errors else None
