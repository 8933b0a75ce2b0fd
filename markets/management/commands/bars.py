"""Look after a market's bars: what is missing, ask for it again, fetch history."""

import argparse
import datetime as dt
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture.bars import backfill
from markets.capture.bars import gaps as bar_gaps
from markets.capture.bars import policy as collection_policy
from markets.capture.bars.gaps import Report
from markets.domain import timeframes
from markets.domain.bar_rule import Span
from markets.domain.exogenous import SERIES_OF
from markets.imports import batches as import_batches
from markets.management import removing
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry
from tradingsite.postgresql import timeouts
from tradingsite.registry import MARKETS
from tradingsite.supervision.heartbeat import is_alive

SPANS_SHOWN = 8


class Command(BaseCommand):
    """Report, repair or fetch the bars of a market."""

    help = (
        "bars gaps MARKET [TIMEFRAME]: what the calendar expects and is not stored. "
        "bars repair: ask the venue for it again. bars backfill: fetch history from the venue. "
        "bars remove: delete bars, and what was made of them. bars undo: take an import back."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take what to do, the market, and perhaps one of its timeframes."""
        actions = parser.add_subparsers(dest="action", required=True)
        told = {
            "gaps": "list the bars that are missing, and what is known of why",
            "repair": "ask the venue once more for the bars that are missing",
            "backfill": "fetch history from the venue; again, it changes only what differs",
        }
        for action, words in told.items():
            each = actions.add_parser(action, help=words, description=words)
            each.add_argument("market", choices=sorted(MARKETS))
            each.add_argument("timeframe", nargs="?", help="like 15m; all of them if left out")
            if action == "repair":
                each.add_argument(
                    "--dry-run", action="store_true", help="say what would be asked for"
                )
            if action == "backfill":
                date = dt.date.fromisoformat
                each.add_argument("--from", dest="start", type=date, help="first day, YYYY-MM-DD")
                each.add_argument("--to", dest="end", type=date, help="last day; today if left out")
                each.add_argument(
                    "--replace",
                    action="store_true",
                    help="remove bars of another source first, with the features, models and "
                    "ledger made of them",
                )

        removing.add_arguments(actions)

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and exit with 1 and what to do where the venue does not answer."""
        market, chosen = options["market"], options.get("timeframe")
        names = MARKETS[market].timeframes
        if chosen and chosen not in names:
            raise CommandError(f"{market} has no {chosen} bars; its timeframes are {names}")
        picked = (chosen,) if chosen else names
        if options["action"] in removing.ACTIONS:
            removing.ACTIONS[options["action"]](self.stdout, market, options)
            return
        try:
            getattr(self, f"_{options['action']}")(market, picked, options)
        except store.WrongSource as error:
            raise CommandError(
                f"{error} Nothing was fetched; --replace of `bars backfill` removes them first, "
                "with the features, models and ledger made of them."
            ) from error
        except (Retry, Degraded) as error:
            raise CommandError(
                f"{error}. What came before it is stored; run the same again to go on."
            ) from error

    # --- The actions -----------------------------------------------------------------------------

    def _gaps(self, market: str, picked: Sequence[str], options: dict[str, Any]) -> None:
        found = [bar_gaps.report(market, timeframe) for timeframe in picked]
        self._show(market, found)

    def _repair(self, market: str, picked: Sequence[str], options: dict[str, Any]) -> None:
        by = collection_policy.current_policy()
        for timeframe in picked:
            found = bar_gaps.report(market, timeframe)
            if not found.spans:
                self.stdout.write(f"{market} {timeframe}: nothing is missing.")
                continue
            if options["dry_run"]:
                windows = backfill.plan(market, timeframe, found.spans)
                for first, stop in windows:
                    span = f"{_ist(Epoch(first))} to {_ist(Epoch(stop - 1))}"
                    self.stdout.write(f"{market} {timeframe}: would ask for {span}")
                continue
            with _progress(f"{market} {timeframe}") as report:
                kept = backfill.repair(market, timeframe, found.spans, by, report)
            left = bar_gaps.report(market, timeframe).missing
            self.stdout.write(
                f"{market} {timeframe}: {kept.new} of {found.missing} missing bars came, "
                f"{left} are still missing."
            )
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was asked for, nothing was changed.")

    def _backfill(self, market: str, picked: Sequence[str], options: dict[str, Any]) -> None:
        by, now = collection_policy.current_policy(), clock.market_epoch()
        end = now if options["end"] is None else min(_midnight(options["end"], 1), now)
        self._make_room(market, by.source, options["replace"])
        # Longest first: shorter timeframes join the features of longer ones.
        for timeframe in sorted(picked, key=timeframes.seconds, reverse=True):
            start = _start(options["start"], timeframe, Epoch(end))
            with _progress(f"{market} {timeframe}") as report:
                kept = backfill.backfill(market, timeframe, Epoch(start), Epoch(end), by, report)
            self.stdout.write(
                f"{market} {timeframe}: {kept.new:,} bars new, {kept.corrected:,} corrected."
            )
        for series in exogenous_capture.of_market(market):
            # What features are made of is wanted beside bars of any length.
            is_wanted = series.timeframe in picked or series.name in SERIES_OF[market]
            if not is_wanted:
                continue
            start = _start(options["start"], series.timeframe or "1h", Epoch(end))
            changed = backfill.backfill_readings(series, Epoch(start), Epoch(end), by)
            self.stdout.write(f"{series.name}: {changed:,} readings new or changed.")
        self._show(market, [bar_gaps.report(market, timeframe) for timeframe in picked])

    def _make_room(self, market: str, source: str, replace: bool) -> None:
        if replace and store.sources(market) - {source} and is_alive(f"{market}-bot"):
            raise CommandError(
                f"the {market} bot is running on the bars that --replace removes: stop the desk "
                "first. Nothing was changed."
            )
        with transaction.atomic(using=market), transaction.atomic():
            import_batches.make_room(market, source, replace=replace)

    # --- What people read ------------------------------------------------------------------------

    def _show(self, market: str, found: Sequence[Report]) -> None:
        table = Table("timeframe", "since", "stored", "missing", show_edge=False, pad_edge=False)
        for each in found:
            since = _ist(each.first) if each.first is not None else "no bars yet"
            mark = f"[yellow]{each.missing:,}[/]" if each.missing else "0"
            table.add_row(each.timeframe, since, f"{each.stored:,}", mark)
        console = Console(file=self.stdout)  # type: ignore[arg-type]  # it has write and flush
        console.print(table)
        for each in found:
            for span in sorted(each.spans, key=lambda span: -span.bars)[:SPANS_SHOWN]:
                reason = each.reasons.get(span.first, "")
                self.stdout.write(f"  {each.timeframe} {_span(span)}  {reason}".rstrip())
            if len(each.spans) > SPANS_SHOWN:
                self.stdout.write(f"  {each.timeframe} and {len(each.spans) - SPANS_SHOWN} more")
        if not any(each.first is not None for each in found):
            self.stdout.write(f"Fetch history with `manage.py bars backfill {market}`.")
        elif any(each.missing for each in found):
            self.stdout.write(f"Ask for them again with `manage.py bars repair {market}`.")


def _ist(at: Epoch) -> str:
    return f"{clock.from_seconds(at).astimezone(clock.IST):%d %b %Y %H:%M}"


def _span(span: Span) -> str:
    if span.bars == 1:
        return f"{_ist(span.first)}, 1 bar"
    return f"{_ist(span.first)} to {_ist(span.last)}, {span.bars} bars"


def _midnight(day: dt.date, days_later: int = 0) -> int:
    later = day + dt.timedelta(days=days_later)
    return int(dt.datetime.combine(later, dt.time(), clock.IST).timestamp())


def _start(day: dt.date | None, timeframe: str, end: Epoch) -> int:
    return backfill.first_instant(timeframe, end) if day is None else _midnight(day)


@contextmanager
def _progress(what: str) -> Any:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
