"""Look into the option quotes: export a day, import it again, see what is missing, archive."""

import datetime as dt
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from markets import store
from markets.domain.calendar import Calendar, ist_instant
from markets.options import archive, csvfile, days, gaps, parquet, partitions
from markets.options.collector import USUAL_CLOSE
from markets.options.models import ArchivedDay
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.postgresql import timeouts


class Command(BaseCommand):
    """Call what the words say."""

    help = (
        "Option quotes by the minute. export DATE writes a day as Parquet, or as CSV.gz with "
        "greeks; import FILE stores such a Parquet file, whatever of it is not stored yet; gaps "
        "shows what is missing of a day and why; archive writes closed days into their files and "
        "drops those past their time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what to do, each with its own options."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        export = actions.add_parser("export", help="write a day into a file")
        export.add_argument("--date", required=True, help="the day, like 2026-06-01")
        export.add_argument(
            "--to",
            type=Path,
            help="the file, .parquet or .csv.gz (default options-DATE.parquet here)",
        )
        importing = actions.add_parser("import", help="store a file of export's or the archive's")
        importing.add_argument("file", type=Path)
        importing.add_argument(
            "--dry-run", action="store_true", help="check the file and report, change nothing"
        )
        missing = actions.add_parser("gaps", help="show what is missing of a day")
        missing.add_argument("--date", help="the day, like 2026-06-01 (default today)")
        archiving = actions.add_parser("archive", help="archive closed days, drop old ones")
        archiving.add_argument(
            "--dry-run", action="store_true", help="say what would be done, change nothing"
        )

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, or say what is in the way."""
        if "options" not in settings.DATABASES:
            raise CommandError(f"MACHINE={settings.MACHINE} has no options database")
        action: Callable[[dict[str, Any]], None] = getattr(self, f"_{options['action']}")
        try:
            action(options)
        except (Degraded, OSError) as error:
            raise CommandError(str(error)) from error

    def _export(self, options: dict[str, Any]) -> None:
        date = _date(options["date"])
        path: Path = options["to"] or Path(f"options-{date.isoformat()}{parquet.SUFFIX}")
        day = _day(date)
        if path.name.endswith(csvfile.SUFFIX):
            calendar = store.load_calendar("nifty")
            with _progress(self.stderr.isatty()) as progress:
                task = progress.add_task(f"writing {path.name}", total=len(day))
                csvfile.write(
                    day,
                    path,
                    lambda expiry: _expires_at(calendar, expiry),
                    lambda done: progress.update(task, completed=done),
                )
        elif path.name.endswith(parquet.SUFFIX):
            parquet.write(day, path, plain=True)
        else:
            raise CommandError(f"{path}: export writes .parquet or .csv.gz")
        self.stdout.write(
            f"{len(day):,} quotes of {len(day.instruments)} instruments on {date}: {path}, "
            f"{path.stat().st_size:,} bytes."
        )

    def _import(self, options: dict[str, Any]) -> None:
        path: Path = options["file"]
        if not path.is_file():
            raise CommandError(f"{path}: there is no such file")
        day = parquet.read(path)
        self.stdout.write(
            f"{path}: {len(day):,} quotes of {len(day.instruments)} instruments on {day.date}."
        )
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")
            return
        with _progress(self.stderr.isatty()) as progress:
            task = progress.add_task("storing", total=len(day))
            new = days.save(day)
            progress.update(task, completed=len(day))
        self.stdout.write(f"{new:,} were new, {len(day) - new:,} were stored already.")

    def _gaps(self, options: dict[str, Any]) -> None:
        date = _date(options["date"]) if options["date"] else clock.trading_date(clock.market())
        found = gaps.of_day(date)
        if session := store.load_calendar("nifty").session_on(date):
            counted = gaps.count(session, clock.market_epoch())
            self.stdout.write(_counted(counted, len(gaps.gone(date))))
        if not found:
            self.stdout.write(f"Nothing is known to be missing on {date}.")
            return
        table = Table(title=f"Missing on {date}, Indian time", title_justify="left")
        for name in ("from", "to", "what", "why"):
            table.add_column(name)
        for name in ("minutes", "quotes", "filled later"):
            table.add_column(name, justify="right")
        for each in found:
            first, last = (at.astimezone(clock.IST) for at in (each.first, each.last))
            more = f" and {each.instruments - 1} more" if each.instruments > 1 else ""
            table.add_row(
                f"{first:%H:%M}",
                f"{last:%H:%M}",
                f"{each.example}{more}" if each.instruments else "everything",
                each.reason,
                str(each.minutes),
                f"{each.quotes:,}" if each.quotes else "all",
                str(each.filled),
            )
        drawn = StringIO()
        Console(file=drawn, width=120).print(table)
        self.stdout.write(drawn.getvalue())

    def _archive(self, options: dict[str, Any]) -> None:
        plan = archive.plan(store.load_calendar("nifty"), clock.market_epoch())
        self.stdout.write(str(plan))
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")
            return
        with _progress(self.stderr.isatty()) as progress:
            total = len(plan.archive) + len(plan.drop) + len(plan.empty)
            task = progress.add_task("archiving", total=total)

            def report(said: str) -> None:
                progress.update(task, advance=1)
                self.stdout.write(said)

            self.stdout.write(f"{archive.carry_out(plan, report)}.")


def _counted(day: gaps.Day, gone: int) -> str:
    """Return the state of a day's minutes in a sentence."""
    since = f", of which {gone} have lost quotes since" if gone else ""
    share = f" ({100 * (day.missing + gone) / day.due:.1f} % lost)" if day.due else ""
    return f"{day.due} minutes were due: {day.stored} stored{since}, {day.missing} missing{share}."


def _day(date: dt.date) -> days.Day:
    """Return a day from its partition, or from its file where that was dropped."""
    if date in partitions.existing():
        day = days.load(date)
        if len(day):
            return day
    archived = ArchivedDay.objects.filter(date=date).first()
    if archived is None:
        raise CommandError(f"no quotes of {date} are stored, and none were archived")
    return parquet.read(Path(archived.path))


def _expires_at(calendar: Calendar, expiry: object) -> int:
    if not isinstance(expiry, dt.date):
        raise TypeError(f"{expiry!r} is no date")
    session = calendar.session_on(expiry)
    return session.closes_at if session else ist_instant(expiry, USUAL_CLOSE)


def _date(text: str) -> dt.date:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise CommandError(f"--date takes a day like 2026-06-01, was {text!r}")
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--date {text}: {error}") from error


def _progress(is_terminal: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not is_terminal,
    )
