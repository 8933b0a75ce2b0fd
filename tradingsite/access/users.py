"""The desk's first person: made once, never changed behind their back."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from axes.utils import reset as reset_sign_ins
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User

from tradingsite import keys
from tradingsite.access import attempts
from tradingsite.access.acts import OWNER_GROUP
from tradingsite.supervision.services import WEB_ADDRESS

FIRST_NAME = "owner"
# Typed on a phone at night: no letter that looks like another, and more than 90 bits.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
PASSWORD_GROUPS, GROUP_LETTERS = 5, 4


@dataclass(frozen=True, slots=True)
class Login:
    """How the first person signs in."""

    name: str
    password: str
    """As it was made; "" once they have one of their own."""


def first() -> User | None:
    """Return the first person who may do everything, None where there is none."""
    return User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()


def ensure_first() -> User | None:
    """Make the first person where the desk has nobody at all; return who is first.

    Whoever was renamed, made by hand or has a password of their own is left alone.
    """
    if not User.objects.exists():
        make(FIRST_NAME, keys.secret(password_file(), new_password))
    return first()


def make(name: str, password: str) -> User:
    """Make a person who may do everything."""
    user = User.objects.create_superuser(name, password=password)
    user.groups.set([owner_group()])
    return user


def owner_group() -> Group:
    """Return the group that has every act's right; where somebody deleted it, make it again."""
    group, is_new = Group.objects.get_or_create(name=OWNER_GROUP)
    if is_new:
        group.permissions.set(
            Permission.objects.filter(content_type__app_label="access", content_type__model="act")
        )
    return group


def reset(user: User) -> str:
    """Give a person a new password and return it; their sessions end, and no lock stays.

    It is kept nowhere, and the file of the first one goes: it would only mislead.
    """
    password = new_password()
    user.set_password(password)
    user.is_active = True
    user.save()
    password_file().unlink(missing_ok=True)
    unlock(user)
    return password


def unlock(user: User) -> None:
    """Let a person try again at once."""
    reset_sign_ins(username=user.get_username())
    attempts.forget(user)


def login() -> Login | None:
    """Return how the first person signs in, None where there is nobody yet."""
    user = first()
    if user is None:
        return None
    path = password_file()
    password = path.read_text().strip() if path.exists() else ""
    return Login(user.get_username(), password if user.check_password(password) else "")


def page_address() -> str:
    """Return where the pages are: the public address, else where they answer on this machine."""
    if settings.PUBLIC_URL:
        return f"{settings.PUBLIC_URL}/"
    try:
        # A desk that runs says where, since its port may have been in use.
        found = json.loads((settings.DATA_DIR / "up.lock").read_text()).get("address")
    except (OSError, ValueError):
        found = None
    return found or f"http://{WEB_ADDRESS}:{settings.WEB_PORT}/"


def password_file() -> Path:
    """Return where the password stands that was made for the first person."""
    return Path(settings.DATA_DIR) / "owner_password"


def new_password() -> str:
    """Return a password that nobody guesses and that can be typed."""
    groups = (
        "".join(secrets.choice(LETTERS) for _ in range(GROUP_LETTERS))
        for _ in range(PASSWORD_GROUPS)
    )
    return "-".join(groups)
