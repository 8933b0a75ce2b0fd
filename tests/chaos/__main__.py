"""Break a desk of its own in every known way and print what came of it: `make chaos`.

Starts a whole desk in a folder and on ports of its own, does one fault after another to it, and
after each holds its ledger against the simulated venues' books. Ends with 1 where a promise was
broken. Takes at most 15 minutes; the full disk needs root, for a disk of its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.chaos import books
from tests.chaos.desk import Desk, TooLate
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.outcome import SERVICES, Result, now

MOST_SECONDS = 900.0
KEEP_SECONDS = 25.0
"""What stopping and tidying up may take at the end."""
STOP_SECONDS = 10.0
SETTLE_SECONDS = 30.0


def main(arguments: list[str]) -> int:
    """Run the faults; return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose name has one of these words")
    parser.add_argument("--list", action="store_true", help="print the faults")
    parser.add_argument("--minutes", type=float, default=MOST_SECONDS / 60, help="at most")
    options = parser.parse_args(arguments)
    chosen = [
        fault
        for fault in FAULTS
        if not options.words or any(word.lower() in fault.name.lower() for word in options.words)
    ]
    if options.list or not chosen:
        Console().print("\n".join(fault.name for fault in FAULTS), highlight=False)
        return 0 if options.list else 2
    console, ends_at = Console(), time.monotonic() + options.minutes * 60 - KEEP_SECONDS
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    desk = Desk()
    try:
        return _run(desk, chosen, console, ends_at)
    finally:
        desk.remove()


def _run(desk: Desk, chosen: list[Fault], console: Console, ends_at: float) -> int:
    console.print(f"a desk in {desk.data} (load {os.getloadavg()[0]:.1f}) ...")
    console.print(f"its page answers after {desk.start():.0f} s: {desk.address}")
    desk.connect()
    logging.disable(logging.CRITICAL)
    since = now()
    try:
        desk.until(lambda: all(desk.beats(name, since) for name in SERVICES), 120)
    except TooLate:
        console.print("[red]not every service reports after two minutes[/red]")
    table = Table("fault", "said after", "back after", "lost, doubled, stuck", "")
    known: set[str] = set()
    broken = skipped = 0
    for number, fault in enumerate(chosen, 1):
        why = _why_not(fault, desk, ends_at)
        if why:
            skipped += 1
            table.add_row(fault.name, "", "", why, "[yellow]left out[/yellow]")
            continue
        console.print(f"{number}/{len(chosen)} {fault.name} ...", end=" ", highlight=False)
        result = _do(fault, desk)
        fresh = [line for line in _books(desk) if line not in known]
        known.update(fresh)
        result.broken += fresh
        broken += bool(result.broken)
        console.print("[red]" + "; ".join(result.broken) + "[/red]" if result.broken else "ok")
        said = "; ".join([*filter(None, result.notes), *result.broken]) or "none"
        mark = "[red]broken[/red]" if result.broken else "[green]kept[/green]"
        table.add_row(fault.name, _seconds(result.said), _seconds(result.back), said, mark)
    counted = books.count()
    took = desk.stop()
    late = took > STOP_SECONDS or "did not stop in time" in desk.log.read_text()
    mark = "[red]broken[/red]" if late else "[green]kept[/green]"
    table.add_row("Ctrl-C", "", _seconds(took), "", mark)
    console.print(table)
    console.print(
        f"{counted['nifty'] + counted['btc']} orders, {counted['decisions']} decisions; "
        f"{broken + late} of {len(chosen) + 1 - skipped} broke a promise; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    return 1 if broken or late else 0


def _why_not(fault: Fault, desk: Desk, ends_at: float) -> str:
    if time.monotonic() > ends_at:
        return "no time was left"
    if fault.needs_disk and not desk.has_own_disk:
        return "needs root, for a disk of its own"
    return ""


def _do(fault: Fault, desk: Desk) -> Result:
    try:
        return fault.do(desk)
    except TooLate as error:
        return Result(broken=[str(error)])
    except Exception as error:  # noqa: BLE001 - one that cannot be done must not end the others
        return Result(broken=[f"not done: {type(error).__name__}: {error}"])


def _books(desk: Desk) -> list[str]:
    """Return what is wrong in the books once what was on its way has settled."""
    began = time.monotonic()
    while True:
        try:
            wrong = books.problems()
        except Exception as error:  # noqa: BLE001 - whatever it is, the books were not read
            wrong = [f"the books cannot be read: {type(error).__name__}: {error}"]
        if not wrong or time.monotonic() - began > SETTLE_SECONDS:
            return wrong
        time.sleep(1.0)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
