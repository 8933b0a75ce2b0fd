"""How a venue tells people that its other side sends things which make no sense."""

import logging

from django.db import DatabaseError

from tradingsite import notices

log = logging.getLogger(__name__)


def tell(key: str, text: str, severity: str = "warning") -> None:
    """Write a notice; where the database does not answer, the log is all there is."""
    try:
        notices.notify("infrastructure", severity, key, text)
    except DatabaseError as failure:
        log.warning("%s: not told (%s): %s", key, failure, text)
