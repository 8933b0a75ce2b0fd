"""Change one thing at a time in a module and see whether its tests notice: `make mutate P=limits`.

    python -m tests.mutate limits risk      several, one after the other
    python -m tests.mutate --list limits    the mutants, without running them
    python -m tests.mutate netting --only sliced        of one function

The mutants run in copies of the tree, so that nobody who works in it meets one. A mutant that its
tests let pass is printed with its place and the change; one of a module that holds a limit makes
the run fail. One that changes nothing (an equivalent) is excused below, with the reason.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("tradingsite", "markets", "bots", "training", "backups", "monitoring", "tests")
WORKERS = 2
LEAST_SECONDS, TIMES_AS_LONG = 20.0, 5.0
"""A mutant has this long, or so often what the tests take of themselves: it may loop for ever."""
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
PASSED, BROKEN = 0, (1, 2)
"""Exit statuses of pytest: all passed; a test failed, or a module could not even be imported."""
PURE = (
    *("-c", "pure.ini", "--rootdir", ".", "--noconftest"),
    *("-p", "no:django", "-p", "no:xdist", "-W", "error::RuntimeWarning"),
)
"""Options for tests that need no server: without Django a run takes one second instead of five."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Name a module, the tests that answer for it, and whether it holds a limit."""

    source: str
    tests: tuple[str, ...]
    is_limit: bool = False
    is_pure: bool = True
    environment: dict[str, str] = field(default_factory=dict)


SUBJECTS: dict[str, Subject] = {
    "limits": Subject(
        "bots/execution/pretrade_checks.py",
        ("tests/bots/execution/test_pretrade_checks.py",),
        is_limit=True,
    ),
    "risk": Subject("bots/decision/risk.py", ("tests/bots/decision/test_risk.py",), is_limit=True),
    "cover": Subject(
        "bots/execution/cover.py", ("tests/bots/execution/test_cover.py",), is_limit=True
    ),
    "netting": Subject(
        "bots/execution/netting.py",
        ("tests/bots/execution/test_netting.py", "tests/bots/execution/test_cover.py"),
    ),
    "accounting": Subject(
        "bots/decision/accounting.py", ("tests/bots/decision/test_accounting.py",)
    ),
    "charges": Subject("markets/domain/charges.py", ("tests/markets/domain/test_charges.py",)),
    "protocol": Subject(
        "bots/execution/protocol.py",
        (
            *("tests/bots/execution/test_protocol.py", "tests/bots/execution/test_orders.py"),
            *("tests/bots/execution/test_reconcile.py", "tests/bots/execution/test_kite_orders.py"),
        ),
        is_pure=False,
        environment={"NIGHTDESK_SCHEDULES": "400"},
    ),
}

_SIDE = "a side is one or minus one"
_NOT_ZERO = "what is parted is of one lot at least, and more than the venue takes"
_NOTHING = "a slot that trades nothing takes and gives nothing"
_DAY = "the day is kept only so that a date is not made at each instant: slower, and no other"
EXCUSED: dict[tuple[str, str, str], str] = {
    (
        *("risk", "RiskGate.observe"),
        "(at + IST_OFFSET_SECONDS) // DAY_SECONDS -> (at + IST_OFFSET_SECONDS) * DAY_SECONDS",
    ): _DAY,
    ("risk", "RiskGate.observe", "if day != self._day -> if True or day != self._day"): _DAY,
    ("risk", "RiskGate.observe", "self._day = day -> pass"): _DAY,
    (
        "cover",
        "lacking",
        "bots > 0 -> bots >= 0",
    ): "of nothing held nothing is missing, on any side",
    (
        "cover",
        "fit",
        "quantity > 0 -> quantity >= 0",
    ): "an exit of nothing is of nothing, on any side",
    (
        "cover",
        "closings",
        "break -> continue",
    ): "a part of nothing ends it: the others are nothing too",
    ("cover", "_left", "left * side -> left / side"): "a side is one or minus one",
    ("limits", "_too_large", "Decimal(0) -> Decimal(-1)"): "no move, or less: both are within",
    (
        *("limits", "_too_large"),
        "standing.owners * (held + order.quantity) -> standing.owners / (held + order.quantity)",
    ): "only its sign counts, and a sum of zero has returned before",
    (
        *("limits", "_reduces"),
        "held * change < 0 -> held * change <= 0",
    ): "a change of nothing never asks, and a position of nothing is smaller than the change",
    ("netting", "cut", "sum(parts.values()) > 0 -> sum(parts.values()) >= 0"): _NOTHING,
    ("netting", "cut", "over > 0 -> over >= 0"): _NOTHING,
    ("netting", "cut", "left[slot] * side > 0 -> left[slot] * side >= 0"): _NOTHING,
    ("netting", "cut", "left[slot] * side -> left[slot] / side"): _SIDE,
    ("netting", "sliced", "left > 0 -> left >= 0"): _NOT_ZERO,
    ("netting", "sliced", "left > 0 -> left > 1"): _NOT_ZERO,
    ("netting", "sliced", "left > 0 -> left > -1"): _NOT_ZERO,
    ("netting", "sliced", "lots * side -> lots / side"): _SIDE,
    (
        "netting",
        "_front_legs",
        "abs(after) > abs(before) -> abs(after) >= abs(before)",
    ): "equal ones of one side have crossed before, and of two sides are a flip",
    ("netting", "_parted", "closing_lots > 0 -> closing_lots >= 0"): _NOT_ZERO,
    ("netting", "_parted", "closing_lots > 0 -> closing_lots > -1"): _NOT_ZERO,
    ("netting", "_parted", "lots * side < 0 -> lots * side <= 0"): _NOTHING,
    ("netting", "_parted", "lots * side -> lots / side"): _SIDE,
    ("netting", "_parted", "lots * side < 0 -> lots * side < 1"): _NOTHING,
    ("netting", "_with_side", "lots * side > 0 -> lots * side >= 0"): _NOTHING,
    ("netting", "_with_side", "lots * side -> lots / side"): _SIDE,
    ("netting", "_with_side", "lots * side > 0 -> lots * side > -1"): _NOTHING,
}
"""By subject, function and change, why a mutant is no other program than ours."""


class Tree:
    """One copy of what the tests import, whose mutated module is written anew for each mutant."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        self.folder = folder
        self._subject = subject
        for name in COPIED:
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "pure.ini").write_text("[pytest]\n")

    def run(self, source: str, most_seconds: float | None) -> tuple[str, str]:
        """Return what became of a source of the module, and what pytest printed."""
        (self.folder / self._subject.source).write_text(source)
        # Examples that another mutant left here would make the result depend on the order.
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "--hypothesis-seed=0"),
                *("-p", "no:cacheprovider", *(PURE if self._subject.is_pure else ("-n", "0"))),
                *self._subject.tests,
            ],
            cwd=self.folder,
            # No bytecode: a mutant written in the same second would be taken for the one before.
            env={
                **os.environ,
                **self._subject.environment,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONHASHSEED": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said = process.communicate(timeout=most_seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return TIMED_OUT, ""
        if process.returncode == PASSED:
            return SURVIVED, said
        if process.returncode in BROKEN:
            return KILLED, said
        raise RuntimeError(f"pytest ended with {process.returncode}:\n{said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants of the named modules; return 1 where one of a limit survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("subject", nargs="+", choices=sorted(SUBJECTS))
    parser.add_argument("--list", action="store_true", help="print the mutants, run none")
    parser.add_argument("--only", default="", metavar="FUNCTION", help="of this function or class")
    parser.add_argument("--workers", type=int, default=WORKERS)
    options = parser.parse_args(arguments)
    failed = False
    for name in options.subject:
        source = (ROOT / SUBJECTS[name].source).read_text()
        found = [each for each in mutants(source) if options.only in each.function]
        if options.list:
            _say(*(_line(name, each) for each in found), f"{name}: {len(found)} mutants")
        else:
            failed |= not _judge(name, source, found, options.workers, not options.only)
    return int(failed)


def _judge(name: str, source: str, found: list[Mutant], workers: int, is_whole: bool) -> bool:
    """Run the mutants of one module and print what became of them; return whether it passes."""
    excuses = {key[1:]: why for key, why in EXCUSED.items() if key[0] == name}
    excused = [each for each in found if (each.function, each.change) in excuses]
    tried = [each for each in found if (each.function, each.change) not in excuses]
    started = time.monotonic()
    fates = list(_fates(SUBJECTS[name], source, tried, workers))
    survivors = [each for each, fate in zip(tried, fates, strict=True) if fate == SURVIVED]
    _say(*(f"survives: {_line(name, each)}" for each in survivors))
    if is_whole:
        needed = {(each.function, each.change) for each in excused}
        _say(*(f"excused, and there is none: {key}" for key in excuses.keys() - needed))
    _say(
        f"{name}: {len(tried) - len(survivors)}/{len(tried)} mutants killed "
        f"({fates.count(TIMED_OUT)} by time), {len(excused)} equivalent ones excused, "
        f"in {time.monotonic() - started:.0f} s"
    )
    return not (survivors and SUBJECTS[name].is_limit)


def _fates(subject: Subject, source: str, tried: Sequence[Mutant], workers: int) -> Iterator[str]:
    """Give what becomes of each mutant, in order, of tests that pass without one."""
    if not subject.is_pure:
        _use_this_machines_servers()
    with tempfile.TemporaryDirectory(prefix="nightdesk-mutants-") as folder:
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for number in range(workers):
            trees.put(Tree(Path(folder) / str(number), subject))
        tree = trees.get()
        started = time.monotonic()
        fate, said = tree.run(source, None)
        if fate != SURVIVED:
            raise SystemExit(f"{subject.source}: its tests fail without any mutant:\n{said}")
        most_seconds = max(LEAST_SECONDS, TIMES_AS_LONG * (time.monotonic() - started))
        trees.put(tree)

        def run(mutant: Mutant) -> str:
            free = trees.get()
            try:
                return free.run(mutant.source, most_seconds)[0]
            finally:
                trees.put(free)

        with ThreadPoolExecutor(workers) as pool:
            for number, fate in enumerate(pool.map(run, tried), 1):
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{number}/{len(tried)} ")
                yield fate


def _use_this_machines_servers() -> None:
    """Name the servers of this checkout, for a copy would start its own."""
    from tradingsite.embedded import launcher

    if not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        found = launcher.ensure(ROOT / "var")
        os.environ.setdefault("DATABASE_URL", found.postgres)
        os.environ.setdefault("REDIS_URL", found.redis)


def _line(name: str, mutant: Mutant) -> str:
    return f"{SUBJECTS[name].source}:{mutant.line} in {mutant.function}: {mutant.change}"


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
