"""Set up or remove a person's phone from the server's console."""

import sys
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingsite.access import attempts, codes
from tradingsite.management.commands.firstuser import person_named


class Command(BaseCommand):
    """Show a key for an authenticator, and take the phone that holds it."""

    help = (
        "Show a key for a phone's authenticator as a QR code and ask for the phone's code. "
        "The pages ask for one at each sign-in from then on."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose phone it is."""
        parser.add_argument(
            "--user", metavar="NAME", default="", help="another person than the first one"
        )
        parser.add_argument("--remove", action="store_true", help="forget a phone that is lost")

    def handle(self, *args: Any, **options: Any) -> None:
        """Set up or remove."""
        user = person_named(options["user"])
        if options["remove"]:
            self._remove(user)
            return
        key = codes.new_key()
        self.stdout.write(_drawn(codes.squares(codes.key_address(user, key))))
        self.stdout.write(f"Scan it, or type this key: {codes.typed_key(key)}")
        if codes.has_phone(user):
            self.stdout.write("The phone of before serves until this one is taken.")
        sys.stdout.flush()
        try:
            code = input("The phone's code: ")
        except EOFError:
            raise CommandError("nobody typed the phone's code; nothing was changed") from None
        if codes.set_phone(user, key, code) is None:
            raise CommandError(
                "the code does not fit the key; look at the phone's clock. Nothing was changed"
            )
        attempts.forget(user)
        self.stdout.write(f"The phone of {user.get_username()} is their second factor from now on.")

    def _remove(self, user: User) -> None:
        if not codes.remove_phone(user):
            raise CommandError(f"{user.get_username()} has no phone; nothing was changed")
        self.stdout.write(f"The phone of {user.get_username()} is forgotten.")
        if codes.is_required():
            self.stdout.write("This desk asks for one: `manage.py firstuser --code` lets you in.")


def _drawn(squares: list[list[bool]]) -> str:
    """Return the squares as half blocks, light on dark as most terminals are."""
    if len(squares) % 2:
        squares = [*squares, [False] * len(squares[0])]
    blocks = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    return "\n".join(
        "".join(blocks[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(squares[::2], squares[1::2], strict=True)
    )
