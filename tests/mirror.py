"""Where the tests of a module stand: `markets/store.py` has `tests/markets/test_store.py`.

    python -m tests.mirror bots/execution          the tests of a folder
    python -m tests.mirror bots/execution/fills.py those of a file

A module whose tests have another name, because one subject has several modules, is in ELSEWHERE.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tradingsite", "markets", "bots", "training", "backups", "monitoring")


def mirrored(name: str) -> list[Path]:
    """Return what tests a module or folder; raise LookupError where nothing of its name does."""
    place = Path(name.replace(".", "/") if not name.endswith(".py") else name)
    relative = place.with_suffix("")
    folder = ROOT / "tests" / relative
    file = folder.with_name(f"test_{relative.name}.py")
    found = [each for each in (folder, file) if each.exists()]
    if not found and folder.parent.is_dir():
        found = sorted(folder.parent.glob(f"test_{relative.name}_*.py"))
    if not found:
        near = folder.parent if folder.parent.is_dir() else ROOT / "tests" / relative.parts[0]
        raise LookupError(f"no tests of {name}; its folder's are in {near.relative_to(ROOT)}")
    return found


def modules() -> list[Path]:
    """Return every module of the source that has code of its own, relative to the root."""
    return [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts and path.name != "__init__.py"
    ]


def main(arguments: list[str]) -> int:
    """Print the paths of the tests; return 2 for a name without any."""
    try:
        found = [path for name in arguments for path in mirrored(name)]
    except LookupError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(" ".join(str(path.relative_to(ROOT)) for path in found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
