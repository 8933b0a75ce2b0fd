"""The second factor: codes of a phone's authenticator, and one from the server's console.

It is asked of everybody where real money moves or the pages are reached from elsewhere, and always
of who has set one up.
"""

from __future__ import annotations

import base64
from typing import Any

import qrcode
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django_otp import verify_token
from django_otp.models import Device
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp.util import random_hex

from tradingsite.access.models import OneTimeCode

PHONE_DIGITS, CONSOLE_DIGITS = 6, 8
CONSOLE_CODE_SECONDS = 600
QR_BORDER = 2


def is_required() -> bool:
    """Return whether this desk asks everybody for a second factor."""
    return settings.MODE == "live" or bool(settings.PUBLIC_HOSTS)


def has_phone(user: Any) -> bool:
    """Return whether a person has set up a phone."""
    return bool(TOTPDevice.objects.filter(user_id=user.pk, confirmed=True).exists())


def is_missing(user: Any) -> bool:
    """Return whether a signed-in person has still to give a second factor."""
    return not user.is_verified() and (is_required() or has_phone(user))


def read(text: str) -> str:
    """Return the digits of what looks like a code, else ""."""
    digits = text.replace(" ", "").replace("-", "")
    is_code = digits.isascii() and digits.isdigit()
    return digits if is_code and len(digits) in {PHONE_DIGITS, CONSOLE_DIGITS} else ""


def match(user: User, text: str) -> Device | None:
    """Return the device that a code is of, and use the code up; None where it is of none.

    The code's length says which devices to ask, so that nobody has to name one, and a code of the
    console is no failure of the phone's, which would have to wait after it.
    """
    code = read(text)
    if not code:
        return None
    kind = TOTPDevice if len(code) == PHONE_DIGITS else OneTimeCode
    for device in kind.objects.filter(user=user, confirmed=True):
        verified = verify_token(user, device.persistent_id, code)
        if verified is not None:
            return verified
    return None


def print_code(user: User) -> str:
    """Return a fresh code of the console; the one before it ends."""
    device, _ = OneTimeCode.objects.get_or_create(user=user, defaults={"name": "console"})
    device.generate_token(CONSOLE_DIGITS, CONSOLE_CODE_SECONDS)
    return str(device.token)


def new_key() -> str:
    """Return a key for a phone, as hexadecimal digits."""
    return str(random_hex(20))


def typed_key(key: str) -> str:
    """Return a key as a person types it into a phone that takes no picture."""
    letters = base64.b32encode(bytes.fromhex(key)).decode()
    return " ".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def key_address(user: User, key: str) -> str:
    """Return the address that a QR code shows to an authenticator."""
    return str(TOTPDevice(user=user, key=key).config_url)


def set_phone(user: User, key: str, code: str) -> TOTPDevice | None:
    """Take a phone that shows the right code for a key, in place of any before; else None."""
    with transaction.atomic():
        phone = TOTPDevice(user=user, key=key, name="phone", confirmed=True)
        if len(read(code)) != PHONE_DIGITS or not phone.verify_token(read(code)):
            transaction.set_rollback(True)
            return None
        TOTPDevice.objects.filter(user=user).exclude(pk=phone.pk).delete()
    return phone


def remove_phone(user: User) -> bool:
    """Forget a person's phone; return whether there was one."""
    return bool(TOTPDevice.objects.filter(user=user).delete()[0])


def squares(text: str) -> list[list[bool]]:
    """Return the dark squares of a text's QR code, row by row, with its quiet border."""
    code = qrcode.QRCode(border=QR_BORDER)
    code.add_data(text)
    code.make(fit=True)
    return [[bool(dark) for dark in row] for row in code.get_matrix()]
