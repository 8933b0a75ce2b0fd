"""A simulated desk speaks to its own simulator only: nobody else's may fill or refuse its orders.

Whose it is is asked before the first use, and seen in every answer after it: a simulator that has
died may leave its port to another desk's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import requests

from tradingsite.errors import Degraded, Retry
from tradingsite.simulator_ports import HEADER

PATH = "/_sim/desk"
TIMEOUT_SECONDS = 5.0
MISDIRECTED = 421

log = logging.getLogger(__name__)


def _log(key: str, text: str) -> None:
    log.critical("%s: %s", key, text)


on_foreign: Callable[[str, str], None] = _log
"""Tell people, by a notice's key and text; the app sets what writes one."""


class ForeignSimulator(Degraded):
    """What answers is not this desk's simulator; nothing was asked of it."""


def headers(desk: str) -> dict[str, str]:
    """Return the headers by which a simulator knows its desk, none for a real venue."""
    return {HEADER: desk} if desk else {}


def ensure(root: str, desk: str) -> None:
    """Ask whose simulator it is; raise ForeignSimulator, or Retry where none answers."""
    if not desk:
        return
    try:
        answer = requests.get(
            urljoin(root, PATH),
            headers=headers(desk),
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise Retry(f"the simulator at {root} does not answer: {type(error).__name__}") from error
    check(answer, root, desk)


def check(answer: requests.Response, root: str, desk: str) -> None:
    """Raise ForeignSimulator for an answer that does not come from the desk's own simulator."""
    if not desk or answer.headers.get(HEADER) == desk:
        return
    says = (
        f"what listens at {root} is not this desk's simulator, but another desk's or another "
        f"program. Nothing is asked of it: stop it, or set SIM_PORT and start this desk again"
    )
    on_foreign(f"foreign-simulator:{root}", says[0].upper() + says[1:] + ".")
    raise ForeignSimulator(says)


def guard(session: requests.Session, root: str, desk: str) -> None:
    """Have a session name the desk in each request, and check each answer."""
    if not desk:
        return
    session.headers.update(headers(desk))

    def look(answer: requests.Response, **_: Any) -> None:
        check(answer, root, desk)

    session.hooks["response"].append(look)
