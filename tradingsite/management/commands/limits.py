"""Show the limits in force, or what a file of them would change."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingsite import owner_limits
from tradingsite.owner_limits import BOT_KEYS, MARKET_KEYS, BadLimits
from tradingsite.registry import BOTS, MARKETS, Bot, Market


class Command(BaseCommand):
    """Print what each bot and each account may hold and lose, and who says so."""

    help = (
        "Show what each bot and account may hold and lose, and where each limit comes from. "
        "Exits with 1 where the owner's file is broken."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a file to try."""
        parser.add_argument("--check", type=Path, metavar="FILE", help="try a file, use nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a line for each limit; with a file, the limit it would set beside."""
        if options["check"]:
            self._check(options["check"])
            return
        limits = owner_limits.in_force
        for kind, name, key, entry in _places():
            value, source = getattr(entry, key), limits.source(kind, name, key)
            self.stdout.write(f"{_named(kind, name, key)} {value:>14,}  {source}")
        if limits.error:
            raise CommandError(f"every bot only reduces: {limits.error}")

    def _check(self, path: Path) -> None:
        try:
            bots, markets, _ = owner_limits.read(path)
        except (BadLimits, OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error
        changes = 0
        for kind, name, key, entry in _places():
            given = (bots if kind == "bots" else markets).get(name, {})
            # What the file leaves out would be the repository's again.
            value = given.get(key, owner_limits.of_repository(kind, name, key))
            now = getattr(entry, key)
            if value != now:
                changes += 1
                self.stdout.write(f"{_named(kind, name, key)} {now:>14,} -> {value:,}")
                if key == "limit_lots":
                    self.stdout.write(f"  its models must be trained for {value} lots to trade")
        self.stdout.write(f"{path} is good: it would change {changes} of the limits in force")


def _places() -> Iterator[tuple[str, str, str, Bot | Market]]:
    for name, bot in BOTS.items():
        yield from (("bots", name, key, bot) for key in BOT_KEYS)
    for name, market in MARKETS.items():
        yield from (("markets", name, key, market) for key in MARKET_KEYS)


def _named(kind: str, name: str, key: str) -> str:
    return f"{f'{kind}.{name}.{key}':<32}"
