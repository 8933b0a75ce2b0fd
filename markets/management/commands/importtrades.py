"""Load the owner's executions from the broker's trade book."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from markets.capture import owner_trades
from markets.imports.bars import BadFile
from markets.imports.tradebook import TradeBook, read_tradebook
from tradingsite.postgresql import timeouts

SKIPPED_SHOWN = 20
SYMBOLS_SHOWN = 5


class Command(BaseCommand):
    """Read, check and store a trade book."""

    help = (
        "Load the owner's executions from a trade book of Zerodha's (Console, Reports, Tradebook), "
        "of shares or derivatives, CSV, CSV.gz or XLSX: all of it or nothing. What was fetched or "
        "imported before stays as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name the file."""
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--dry-run", action="store_true", help="check the file and report, change nothing"
        )

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Import the file, or say what is wrong with it."""
        path: Path = options["file"]
        console = Console(stderr=True)
        try:
            book = _read(console, path)
            with console.status("storing executions"):
                done = owner_trades.import_tradebook(str(path), book, dry_run=options["dry_run"])
        except BadFile as error:
            raise CommandError(f"{error}. Nothing was imported.") from error
        self._report(book, done)
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")

    def _report(self, book: TradeBook, done: owner_trades.Imported) -> None:
        if book.trades:
            first, last = (f(trade.at for trade in book.trades) for f in (min, max))
            self.stdout.write(
                f"{len(book.trades):,} executions, {first:%d %b %Y %H:%M} to "
                f"{last:%d %b %Y %H:%M} IST."
            )
        self.stdout.write(
            f"{done.trades.inserted:,} new, {done.trades.unchanged:,} known as they are, "
            f"{done.trades.updated:,} known and now with their instrument or expiry, "
            f"{len(book.skipped) + done.of_bots:,} skipped."
        )
        if done.of_bots:
            self.stdout.write(f"  {done.of_bots:,} executions are the bots' own")
        nameless = [each for each in book.trades if each.lacks_expiry]
        if nameless:
            symbols = sorted({each.symbol for each in nameless})
            more = f" and {len(symbols) - SYMBOLS_SHOWN} more" if symbols[SYMBOLS_SHOWN:] else ""
            self.stdout.write(
                f"  {len(nameless):,} executions of derivatives have no expiry_date, so the desk "
                f"cannot tell their contracts and no bot learns of them: "
                f"{', '.join(symbols[:SYMBOLS_SHOWN])}{more}. The F&O trade book of Console has it."
            )
        for row in book.skipped[:SKIPPED_SHOWN]:
            self.stdout.write(f"  line {row.line}: {row.reason}")
        if len(book.skipped) > SKIPPED_SHOWN:
            self.stdout.write(f"  and {len(book.skipped) - SKIPPED_SHOWN:,} more lines")


def _read(console: Console, path: Path) -> TradeBook:
    total = path.stat().st_size if path.is_file() else 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(f"reading {path.name}", total=total)
        book = read_tradebook(path, lambda done: progress.update(task, completed=done))
        progress.update(task, completed=total)
    return book
