"""Load India VIX or funding from a CSV file."""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture.exogenous import Series
from markets.domain import exogenous_plausibility
from markets.domain.exogenous import SERIES_OF, Readings
from markets.imports.bars import BadFile
from markets.imports.exogenous import KINDS, Rows, as_readings, missing, read_readings
from markets.management.commands.importbars import progress_of, zone_of
from markets.models import Bar, Source
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.postgresql import timeouts

SHOWN = 5


class Command(BaseCommand):
    """Read, check, store, and recompute the features that depend on what changed."""

    help = (
        "Load India VIX (date, close) or funding (ts, funding_rate) from a CSV or CSV.gz file: all "
        "of it or nothing. Importing a file again changes nothing, and what a venue itself has "
        "said stays. Import the market's bars first, over generated ones with --replace."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name what the file holds, and the file."""
        parser.add_argument("kind", choices=sorted(KINDS), help="vix of nifty, funding of btc")
        parser.add_argument("file", type=Path)
        parser.add_argument("--tz", help="zone of naive timestamps, like Asia/Kolkata or UTC")
        parser.add_argument(
            "--anyway",
            metavar="REASON",
            default="",
            help="take readings that can hardly be true, and keep the reason",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="check the file and report, change nothing"
        )

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Import the file, or say what is wrong with it."""
        kind, market = options["kind"], KINDS[options["kind"]].market
        console = Console(stderr=True)
        try:
            rows = self._read(console, kind, options["file"], zone_of(options["tz"]))
        except BadFile as error:
            raise CommandError(f"{error}. Nothing was imported.") from error
        (series,) = (
            each for each in exogenous_capture.of_market(market) if each.name in SERIES_OF[market]
        )
        self._judge(kind, series, rows, options)
        self._report(kind, rows)
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")
            return
        try:
            with console.status("storing readings and computing features"):
                changed = exogenous_capture.upsert(series, rows, Source.IMPORTED)
        except store.WrongSource as error:
            raise CommandError(
                f"{error} Nothing was imported; import the market's own bars first: "
                f"manage.py importbars {market} TIMEFRAME FILE --replace"
            ) from error
        self.stdout.write(
            f"{changed:,} readings new or changed, {len(rows) - changed:,} as they were."
        )

    def _read(self, console: Console, kind: str, path: Path, zone: ZoneInfo | None) -> Rows:
        total = path.stat().st_size if path.is_file() else 0
        calendar = store.load_calendar(KINDS[kind].market)
        with progress_of(console) as progress:
            task = progress.add_task(f"reading {path.name}", total=total)
            told = lambda done: progress.update(task, completed=done)  # noqa: E731
            return read_readings(path, kind, calendar, zone, told)

    def _judge(self, kind: str, series: Series, rows: Rows, options: dict[str, Any]) -> None:
        """Refuse readings that can hardly be true, or keep the reason why they are taken."""
        file, reason = options["file"], options["anyway"]
        stored = store.load_readings(series.market, series.name)
        if Source.GENERATED in store.sources(series.market):
            stored = Readings.empty()  # they are of another world, and go with their bars
        doubt = exogenous_plausibility.doubt(kind, as_readings(rows), stored)
        if not doubt:
            return
        if not reason:
            raise CommandError(
                f"{file}: these readings can hardly be true: {doubt}. Nothing was imported. Mend "
                f"the file, or take them with --anyway 'REASON'."
            )
        self.stdout.write(f"Taken although {doubt}.")
        if not options["dry_run"]:
            text = f"{len(rows):,} readings of {KINDS[kind].title} were imported from {file.name} "
            text += f"although {doubt}. The reason given: {reason}"
            notices.notify("infrastructure", "info", f"readings:{kind}:{file.name}", text)

    def _report(self, kind: str, rows: Rows) -> None:
        title, market = KINDS[kind].title, KINDS[kind].market
        first, last = (_ist(Epoch(rows[place][0])) for place in (0, -1))
        self.stdout.write(f"{len(rows):,} readings of {title}, {first} to {last} IST.")
        absent = missing(rows, kind, store.load_calendar(market)).tolist()
        if absent:
            shown = ", ".join(_ist(at) for at in absent[:SHOWN])
            more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
            what = "closes are missing" if kind == "vix" else "pauses are longer than eight hours"
            self.stdout.write(f"{len(absent)} {what}: {shown}{more}.")
        bars = Bar.on(market).objects.order_by("opens_at")
        oldest = bars.values_list("opens_at", flat=True).first()
        if oldest is not None and oldest.timestamp() < rows[0][0]:
            self.stdout.write(
                f"Bars of {market} begin on {clock.trading_date(oldest)}: before {first} nothing "
                f"is known of {title} by this file, and their rows hold 0 for it."
            )


def _ist(at: Epoch) -> str:
    return f"{clock.from_seconds(at).astimezone(clock.IST):%d %b %Y %H:%M}"
