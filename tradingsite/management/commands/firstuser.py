"""Say how the first person signs in, or let them in again."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingsite.access import codes, users


class Command(BaseCommand):
    """Print where the pages are and how to sign in; make, reset or unlock the login."""

    help = (
        "Say where the pages are and how to sign in to them. Makes the first person where there "
        "is none."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose login it is about, and what is to be done."""
        parser.add_argument(
            "--user", metavar="NAME", default="", help="another person than the first one"
        )
        parser.add_argument(
            "--reset", action="store_true", help="give a new password, end all sessions, lift locks"
        )
        parser.add_argument(
            "--unlock", action="store_true", help="lift what too many wrong answers locked"
        )
        parser.add_argument(
            "--code",
            action="store_true",
            help=f"print a code that stands for the phone, or for the password once more; it "
            f"serves once, for {codes.CONSOLE_CODE_SECONDS // 60} minutes",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked, then print the login."""
        user = person_named(options["user"])
        password = users.reset(user) if options["reset"] else ""
        if options["unlock"]:
            users.unlock(user)
        if not password and user == users.first():
            login = users.login()
            password = login.password if login else ""
        lines = [
            ("Page", users.page_address()),
            ("User", user.get_username()),
            ("Password", password or "one of their own; --reset makes a new one"),
            ("Phone", _phone(user)),
        ]
        if options["code"]:
            code = codes.print_code(user)
            minutes = codes.CONSOLE_CODE_SECONDS // 60
            lines.append(("Code", f"{code[:4]} {code[4:]}, once, within {minutes} minutes"))
        if options["unlock"]:
            lines.append(("Locks", "lifted"))
        for name, value in lines:
            self.stdout.write(f"{name:<10}{value}")


def person_named(name: str) -> User:
    """Return a person by name, the first one for ""; raise CommandError where there is none."""
    if settings.MACHINE == "pc":
        raise CommandError("people sign in at PROD, and PC may not touch them: say this there")
    if name:
        user = User.objects.filter(username=name).first()
        if user is None:
            known = ", ".join(User.objects.order_by("pk").values_list("username", flat=True))
            raise CommandError(f"there is no {name!r}; there is {known or 'nobody yet'}")
        return user
    user = users.ensure_first()
    if user is None:
        raise CommandError(
            "nobody here may do everything: `manage.py createsuperuser` makes such a person"
        )
    return user


def _phone(user: User) -> str:
    if codes.has_phone(user):
        return "asked for at each sign-in; `manage.py secondfactor --remove` if it is lost"
    if codes.is_required():
        return "none yet, and this desk asks for one: sign in with --code, or `secondfactor`"
    return "none; set one up at you/phone/ or with `manage.py secondfactor`"
