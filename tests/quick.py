"""`make quick`: lint of what changed, contracts, types and the pure tests, without a server.

The pure tests are those that mirror the pure folders of the import contracts. They get addresses
at which nothing listens, so that one that reaches for a server fails and is not pure any more;
property tests try fewer examples than in `make test`. Each step says what it took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PURE_FOLDERS = ("markets/domain", "bots/decision", "training/evaluation")
PURE_FILES = (
    *("bots/execution/test_netting.py", "bots/execution/test_pretrade_checks.py"),
    *("markets/options/test_implied.py", "markets/options/test_quality.py"),
    *("markets/straddle/test_strikes.py", "markets/straddle/test_premium.py"),
    *("monitoring/delivery/test_causes.py", "monitoring/delivery/test_markup.py"),
    *("tradingsite/scheduling/test_windows.py", "tradingsite/test_format.py"),
)
NO_SERVERS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "NIGHTDESK_QUICK": "1",
}


def changed() -> list[str]:
    """Return the Python files that differ from the last commit, new ones among them."""
    asked = (
        ("git", "diff", "--name-only", "--diff-filter=d", "HEAD"),
        ("git", "ls-files", "--others", "--exclude-standard"),
    )
    names: set[str] = set()
    for command in asked:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names |= set(done.stdout.split())
    return sorted(name for name in names if name.endswith(".py"))


def steps() -> list[tuple[str, list[str]]]:
    """Return what is run, in order, the quickest first."""
    files = changed()
    lint = [("format", ["ruff", "format", "--check"]), ("lint", ["ruff", "check"])]
    pure = [f"tests/{name}" for name in (*PURE_FOLDERS, *PURE_FILES)]
    return [
        *((name, [*command, *files]) for name, command in lint if files),
        ("contracts", ["lint-imports"]),
        ("types", ["mypy", "."]),
        ("pure tests", ["pytest", "-m", "not django_db", "--tb=short", *pure]),
    ]


def main() -> int:
    """Run the steps; stop at the first that fails, with what it says."""
    began = time.monotonic()
    for name, (program, *arguments) in steps():
        at = time.monotonic()
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=ROOT,
            env={**os.environ, **NO_SERVERS},
            capture_output=True,
            text=True,
            check=False,
        )
        took = f"{time.monotonic() - at:5.1f} s"
        if done.returncode:
            sys.stdout.write(f"{name:<12}{took}  failed\n{done.stdout}{done.stderr}")
            return done.returncode
        said = done.stdout.strip().splitlines()
        sys.stdout.write(f"{name:<12}{took}  {said[-1].strip() if said else ''}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{'all':<12}{time.monotonic() - began:5.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
