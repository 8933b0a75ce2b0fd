"""Load bars from files."""

import argparse
import datetime as dt
import math
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from markets import store
from markets.domain import bar_rule
from markets.domain.bars import Bars
from markets.domain.calendar import ist_instant
from markets.domain.exogenous import SERIES_OF
from markets.domain.features import WARMUP_BARS
from markets.domain.plausibility import adjusted
from markets.imports import bars as bar_files
from markets.imports import batches as import_batches
from markets.imports.bars import BadFile
from markets.imports.exogenous import KINDS
from tradingsite import clock
from tradingsite.postgresql import timeouts
from tradingsite.registry import CONTEXTS, MARKETS
from tradingsite.supervision.heartbeat import is_alive

DOUBTS_SHOWN = 5
GAPS_SHOWN = 5


class Command(BaseCommand):
    """Read, check, store, and recompute the features that depend on what changed."""

    help = (
        "Load bars from files into a market: all of them or nothing. A file is known by what it "
        "holds: CSV of most vendors and brokers, Excel's XLSX, JSON, Parquet, zip or gzip "
        "(docs/data.md lists them). Several files are one series. Shorter bars, like 1m, are made "
        "into the market's own. Importing a file again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name the market, the timeframe and the file."""
        parser.add_argument("market", choices=sorted(MARKETS))
        parser.add_argument(
            "timeframe",
            help="of the files' bars: 15m, 1h or 1d for nifty, 1h or 4h for btc; or 1m, 5m, ...",
        )
        parser.add_argument("files", metavar="file", nargs="+", type=Path)
        parser.add_argument("--tz", help="zone of naive timestamps, like Asia/Kolkata or UTC")
        parser.add_argument(
            "--dates", choices=("dmy", "mdy"), default="", help="whether a date's day comes first"
        )
        parser.add_argument("--symbol", default="", help="which of the symbols in the files it is")
        parser.add_argument(
            "--label",
            choices=("start", "end", "last"),
            default="",
            help="whether a time is its bar's start, its end or its last second",
        )
        parser.add_argument(
            "--volume", metavar="COLUMN", default="", help="the column of the volume, or none"
        )
        parser.add_argument(
            "--since-1980",
            action="store_true",
            help="the file counts seconds from 1980, as Dhan's first interface did",
        )
        self._add_wishes(parser)

    def _add_wishes(self, parser: CommandParser) -> None:
        """Take what is to be done with what is stored, and with what is doubtful."""
        parser.add_argument(
            "--replace",
            action="store_true",
            help="remove the market's generated bars first, with its features, models and ledger",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="check the file and report, change nothing"
        )
        parser.add_argument(
            "--anyway",
            metavar="REASON",
            default="",
            help="take bars that can hardly be true, and keep the reason",
        )
        parser.add_argument(
            "--adjust",
            metavar="DATE=RATIO",
            action="append",
            default=[],
            type=split_of,
            help="a split or bonus: prices before that day are divided by the ratio, like "
            "2024-04-15=100; may be given again",
        )
        parser.add_argument(
            "--leave-out",
            action="store_true",
            help="leave out the rows that no session of the calendar has, and import the rest",
        )

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Import the file, or say what is wrong with it."""
        market, timeframe = options["market"], options["timeframe"]
        makes = bar_files.parts_that_make(market)
        if timeframe not in MARKETS[market].timeframes and not makes.get(timeframe):
            known = ", ".join(MARKETS[market].timeframes)
            shorter = ", ".join(name for name, made in makes.items() if made)
            raise CommandError(
                f"{market} has no {timeframe} bars; its timeframes are {known}, and they can be "
                f"made of {shorter}"
            )
        if options["replace"] and not options["dry_run"] and is_alive(f"{market}-bot"):
            raise CommandError(
                f"the {market} bot is running on the bars that --replace removes: stop `make run` "
                "with Ctrl-C first. Nothing was imported."
            )
        console = Console(stderr=True)
        try:
            read = self._read(console, market, timeframe, options)
        except BadFile as error:
            raise CommandError(f"{error}. Nothing was imported.") from error
        for note in read.notes:
            self.stdout.write(note)
        splits = dict(options["adjust"])
        found = {name: adjusted(bars, name, splits) for name, bars in read.bars.items()}
        for name, bars in found.items():
            self._report(market, name, bars)
        if options["dry_run"]:
            for doubt in import_batches.find_doubts(market, found)[:DOUBTS_SHOWN]:
                self.stdout.write(f"Doubtful: {doubt}")
            self.stdout.write("Dry run: nothing was changed.")
            return
        done = self._store(console, market, found, options)
        self._print_imported(market, sum(map(len, found.values())), done)

    def _print_imported(self, market: str, bars: int, done: import_batches.Imported) -> None:
        changed = done.new + done.changed
        self.stdout.write(f"{changed:,} bars new or changed, {bars - changed:,} as they were.")
        if done.number is not None:
            self.stdout.write(f"This is import {done.number}: `bars undo {market}` takes it back.")
        self._print_missing(market)
        if not changed and not any(done.rows.values()):
            self.stdout.write("No feature row changed.")
            return
        for name, count in done.rows.items():
            needs = " and ".join((name, *CONTEXTS[market, name]))
            waits = "" if count else f": they need {WARMUP_BARS} bars and more of {needs}"
            self.stdout.write(f"{count:,} feature rows of {market} {name}{waits}.")

    def _print_missing(self, market: str) -> None:
        """Say where rows will hold 0 for want of what stands beside the bars."""
        for kind, wanted in KINDS.items():
            lacks = wanted.market == market and not any(
                len(store.load_readings(market, series)) for series in SERIES_OF[market]
            )
            if lacks:
                self.stdout.write(
                    f"{market} has no {wanted.title} yet, so its rows hold 0 for it: "
                    f"manage.py importreadings {kind} FILE"
                )

    def _read(self, console: Console, market: str, timeframe: str, options: Any) -> bar_files.Read:
        asked = bar_files.ReadOptions(
            market,
            zone_of(options["tz"]),
            dates=options["dates"],
            symbol=options["symbol"],
            label=options["label"],
            volume=options["volume"],
            since_1980=options["since_1980"],
        )
        paths: list[Path] = options["files"]
        total = sum(path.stat().st_size for path in paths if path.is_file())
        with progress_of(console) as progress:
            task = progress.add_task(f"reading {_named(paths)}", total=total)
            return bar_files.read_files(
                paths,
                timeframe,
                store.load_calendar(market),
                asked,
                lambda done: progress.update(task, completed=done),
                leaves_out=options["leave_out"],
            )

    def _store(
        self, console: Console, market: str, found: dict[str, Bars], options: Any
    ) -> import_batches.Imported:
        name, replace, reason = _named(options["files"]), options["replace"], options["anyway"]
        try:
            with console.status("storing bars and computing features"):
                return import_batches.import_bars(
                    market, found, file=name, replace=replace, reason=reason
                )
        except store.WrongSource as error:
            raise CommandError(
                f"{error} Nothing was imported; --replace removes them first, with the features, "
                "models and ledger made of them."
            ) from error
        except store.OffCalendarTable as error:
            raise CommandError(f"{error}. Nothing was imported.") from error
        except import_batches.Doubtful as error:
            lines = [f"\n  {doubt}" for doubt in error.doubts[:DOUBTS_SHOWN]]
            if len(error.doubts) > DOUBTS_SHOWN:
                lines.append(f"\n  and {len(error.doubts) - DOUBTS_SHOWN:,} more")
            raise CommandError(
                f"these bars can hardly be true:{''.join(lines)}\nNothing was imported. Mend the "
                "file, state a split with --adjust DATE=RATIO, or take them with --anyway 'REASON'."
            ) from error

    def _report(self, market: str, timeframe: str, bars: Bars) -> None:
        first, last = (clock.from_seconds(int(bars.opens_at[row])) for row in (0, -1))
        self.stdout.write(
            f"{len(bars):,} {market} {timeframe} bars, {first.astimezone(clock.IST):%d %b %Y %H:%M}"
            f" to {last.astimezone(clock.IST):%d %b %Y %H:%M} IST."
        )
        gaps = bar_rule.missing(bars.opens_at, timeframe, store.load_calendar(market))
        if not gaps:
            self.stdout.write("No gaps against the calendar.")
            return
        missing = sum(gap.bars for gap in gaps)
        self.stdout.write(f"{len(gaps)} gaps against the calendar, {missing} bars missing:")
        for gap in sorted(gaps, key=lambda gap: -gap.bars)[:GAPS_SHOWN]:
            self.stdout.write(f"  {_span(gap)}")
        if len(gaps) > GAPS_SHOWN:
            self.stdout.write(f"  and {len(gaps) - GAPS_SHOWN} smaller ones")


def _named(paths: list[Path]) -> str:
    """Return the name of the first file, and how many others there are."""
    return paths[0].name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _span(gap: bar_rule.Span) -> str:
    first, last = (clock.from_seconds(at).astimezone(clock.IST) for at in (gap.first, gap.last))
    count = f"{gap.bars} bar{'s' if gap.bars > 1 else ''}"
    if first == last:
        return f"{first:%d %b %Y %H:%M}, {count}"
    return f"{first:%d %b %Y %H:%M} to {last:%d %b %Y %H:%M}, {count}"


def split_of(text: str) -> tuple[int, float]:
    """Return the midnight (IST) and the ratio of a corporate action like 2024-04-15=100."""
    day, _, ratio = text.partition("=")
    try:
        at = ist_instant(dt.date.fromisoformat(day), dt.time())
        value = float(ratio)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 2024-04-15=100") from error
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{ratio} is not a ratio")
    return at, value


def zone_of(name: str | None) -> ZoneInfo | None:
    """Return the time zone of a name; raise CommandError for one that is none."""
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CommandError(f"--tz {name} is not a time zone; try Asia/Kolkata or UTC") from error


def progress_of(console: Console) -> Progress:
    """Return the bar that shows how far a file has been read."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
