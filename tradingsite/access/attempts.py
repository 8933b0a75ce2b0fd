"""Wrong passwords and codes: counted in the database, told to the owner, and no oracle.

Sign-ins are django-axes': it counts by user and address together. What a signed-in person is asked
once more is counted here by person, whatever the session and the address: each try is counted
before it is looked at, so that a burst is no more than the tries it may have, and once they are
used up a right answer gets the same words as a wrong one.
"""

from __future__ import annotations

import datetime as dt
import enum
import logging
from collections.abc import Callable
from typing import Any

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import transaction
from django.dispatch import receiver

from tradingsite import clock, notices
from tradingsite.access.models import WrongAttempts

ALLOWED = 5
COOL_OFF = dt.timedelta(minutes=15)
SHOWN_CHARACTERS = 40

log = logging.getLogger(__name__)


class Answer(enum.Enum):
    """What came of a try."""

    RIGHT = "right"
    WRONG = "wrong"
    LOCKED = "locked"
    """Not looked at: too many before it were wrong."""


def prove(user: User, is_right: Callable[[], bool], what: str = "password") -> Answer:
    """Count a try, look whether it is right, and tell the owner of the last wrong one."""
    count = _counted(user)
    if not count:
        return Answer.LOCKED
    if is_right():
        forget(user)
        return Answer.RIGHT
    if count >= ALLOWED:
        notices.notify(
            "infrastructure",
            "critical",
            f"access:once-more:{user.pk}",
            f"{ALLOWED} wrong answers in a row where {user.get_username()}, signed in already, "
            f"was asked for a {what} once more. That session was signed out, and nothing can be "
            f"confirmed for {minutes(COOL_OFF)}. If it was not you, somebody has your session: "
            f"`manage.py firstuser --reset` ends them all.",
        )
    return Answer.WRONG


def is_locked(user: User) -> bool:
    """Return whether a person's tries are used up."""
    row = WrongAttempts.objects.filter(pk=user.pk).first()
    return row is not None and row.count >= ALLOWED and _is_recent(row)


def forget(user: User) -> None:
    """Start the count anew."""
    WrongAttempts.objects.filter(pk=user.pk).update(count=0)


def minutes(span: dt.timedelta) -> str:
    """Return a span in words."""
    return f"{span.total_seconds() / 60:.0f} minutes"


def _counted(user: User) -> int:
    """Return which try this is, 0 where there is none left."""
    with transaction.atomic():
        row, _ = WrongAttempts.objects.select_for_update().get_or_create(
            pk=user.pk, defaults={"last_at": clock.real()}
        )
        if not _is_recent(row):
            row.count = 0
        if row.count >= ALLOWED:
            return 0
        row.count += 1
        row.last_at = clock.real()
        row.save()
        return row.count


def _is_recent(row: WrongAttempts) -> bool:
    # On both sides: a clock that was ahead for a moment must not lock for as long as it was.
    return abs(clock.real() - row.last_at) < COOL_OFF


@receiver(user_locked_out)
def _tell_of_lock(username: str | None, ip_address: str | None, **kwargs: Any) -> None:
    """Tell the owner that an address has used up its tries for a name."""
    name = (username or "")[:SHOWN_CHARACTERS]
    user = get_user_model()._default_manager.filter(username=username or "").first()
    # One row for all names that are nobody's: a guesser of names must not fill the page.
    notices.notify(
        "infrastructure",
        "warning" if user is None else "critical",
        f"access:sign-in:{user.pk if user else 'nobody'}",
        f"{settings.AXES_FAILURE_LIMIT} wrong passwords in a row for {name!r} from "
        f"{ip_address or 'no address'}: it may not try again for "
        f"{minutes(settings.AXES_COOLOFF_TIME)}. "
        + (
            "There is no such person."
            if user is None
            else "If it was you: `manage.py firstuser --unlock` lets you in at once."
        ),
    )
