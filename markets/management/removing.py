"""`bars remove` and `bars undo`: what they ask for, and what they say."""

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError

from markets.domain import bar_rule
from markets.imports import batches as import_batches
from markets.imports.batches import CannotUndo, Removed
from markets.models import BarImport, Source
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS
from tradingsite.supervision.heartbeat import is_alive


def add_arguments(actions: Any) -> None:
    """Add the two actions to the parser of `bars`."""
    date = dt.date.fromisoformat
    words = "delete stored bars; features and models that knew of them go with them"
    each = actions.add_parser("remove", help=words, description=words)
    each.add_argument("market", choices=sorted(MARKETS))
    each.add_argument("timeframe", help="like 15m")
    each.add_argument("--from", dest="start", type=date, help="first day (IST), YYYY-MM-DD")
    each.add_argument("--to", dest="end", type=date, help="last day")
    each.add_argument("--source", choices=Source.values, help="only those that came so")
    each.add_argument(
        "--off-calendar", action="store_true", help="only those that the calendar does not give"
    )
    _add_care(each)
    words = "take the newest import of a market back: what it brought goes, what it changed returns"
    each = actions.add_parser("undo", help=words, description=words)
    each.add_argument("market", choices=sorted(MARKETS))
    each.add_argument("number", nargs="?", type=int, help="the import, if it is the newest")
    _add_care(each)


def _add_care(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would go, change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _remove(stdout: Any, market: str, options: dict[str, Any]) -> None:
    timeframe = options["timeframe"]
    how: dict[str, Any] = {
        "source": options["source"] or "",
        "off_calendar": options["off_calendar"],
        "first": _midnight(options["start"]) if options["start"] else None,
        "last": _midnight(options["end"]) + 86_399 if options["end"] else None,
    }
    _after_asking(
        stdout,
        market,
        f"{market} {timeframe}",
        lambda dry_run: import_batches.remove_bars(market, timeframe, dry_run=dry_run, **how),
        options,
    )


def _undo(stdout: Any, market: str, options: dict[str, Any]) -> None:
    newest = BarImport.on(market).objects.filter(undone_at=None).first()
    if newest is not None:
        stdout.write(
            f"Import {newest.pk} of {newest.file or 'a file'}, {newest.at:%d %b %Y %H:%M} UTC: "
            f"{newest.new:,} bars new, {newest.changed:,} changed."
        )
    number = options["number"]
    try:
        _after_asking(
            stdout,
            market,
            f"the import of {market}",
            lambda dry_run: import_batches.undo_import(market, number, dry_run=dry_run),
            options,
        )
    except CannotUndo as error:
        raise CommandError(f"{error}. Nothing was changed.") from error


def _after_asking(
    stdout: Any,
    market: str,
    what: str,
    change: Callable[[bool], Removed],
    options: dict[str, Any],
) -> None:
    plan = change(True)
    if not plan.bars and not plan.restored:
        stdout.write(f"{what}: there is no such bar. Nothing was changed.")
        return
    for line in _describe(plan):
        stdout.write(line)
    if options["dry_run"]:
        stdout.write("Dry run: nothing was changed.")
        return
    if is_alive(f"{market}-bot"):
        raise CommandError(
            f"the {market} bot is running on these bars: stop the desk first. Nothing was changed."
        )
    if not options["yes"]:
        if not sys.stdin.isatty():
            raise CommandError("say --yes to do it without being asked. Nothing was changed.")
        if input(f"Type {market} to go on: ").strip() != market:
            raise CommandError("Nothing was changed.")
    done = change(False)
    stdout.write(f"Done: {done.bars:,} bars removed, {done.restored:,} as they were before.")


def _describe(plan: Removed) -> list[str]:
    first, last = (bar_rule.format_ist(at or Epoch(0)) for at in (plan.first, plan.last))
    span = f"{first} to {last}"
    lines = [f"Would remove {plan.bars:,} bars, {span}."]
    if plan.restored:
        lines.append(f"{plan.restored:,} bars would be again what they were before it.")
    for timeframe, rows in plan.rows.items():
        lines.append(f"{rows:,} feature rows of {timeframe} would be left.")
    return [*lines, *(f"{words}." for words in plan.withdrawn)]


def _midnight(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), clock.IST).timestamp())


ACTIONS = {"remove": _remove, "undo": _undo}
