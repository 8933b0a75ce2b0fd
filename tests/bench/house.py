"""The shape of the code, beside a commit before: sizes of files and functions, comments, rooms.

Figures of the present tree bear no prefix, those of the commit `before_`. Migrations and empty
files do not count. A line of code is one that is neither blank nor comment nor docstring; a
directive to a tool (`noqa`, `type: ignore`) is no comment.
"""

from __future__ import annotations

import ast
import io
import os
import re
import statistics
import subprocess
import tarfile
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEFORE = os.environ.get("NIGHTDESK_BENCH_BEFORE", "1d9ecf4")
PACKAGES = ("tradingsite", "markets", "bots", "training", "backups", "monitoring")
LONGEST_FILE, LONGEST_FUNCTION = 400, 40
DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|pragma)")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)


@dataclass
class Shape:
    """Hold what was counted in some files."""

    files: list[int] = field(default_factory=list)
    """Lines of each file."""
    functions: list[int] = field(default_factory=list)
    """Lines of each function."""
    code: int = 0
    comments: int = 0
    docstrings: int = 0

    def add(self, text: str) -> None:
        """Count one file."""
        tree, lines = ast.parse(text), text.splitlines()
        described = set(_docstring_lines(tree))
        comments = {
            token.start[0]
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT and not DIRECTIVE.match(token.string)
        }
        self.files.append(len(lines))
        self.functions += [
            (node.end_lineno or 0) - node.lineno + 1
            for node in ast.walk(tree)
            if isinstance(node, FUNCTIONS)
        ]
        self.docstrings += len(described)
        self.comments += len(comments)
        self.code += sum(
            1
            for number, line in enumerate(lines, 1)
            if line.strip() and number not in described and not line.lstrip().startswith("#")
        )

    def figures(self, prefix: str) -> dict[str, float]:
        """Return the counts as figures."""
        return {
            f"{prefix}files": len(self.files),
            f"{prefix}lines": sum(self.files),
            f"{prefix}median_file_lines": statistics.median(self.files),
            f"{prefix}files_over_{LONGEST_FILE}": sum(n > LONGEST_FILE for n in self.files),
            f"{prefix}functions": len(self.functions),
            f"{prefix}functions_over_{LONGEST_FUNCTION}": sum(
                n > LONGEST_FUNCTION for n in self.functions
            ),
            f"{prefix}comments_per_100": 100 * self.comments / self.code,
            f"{prefix}docstrings_per_100": 100 * self.docstrings / self.code,
        }


def run() -> dict[str, float]:
    """Return the figures of this tree, then those of the commit before."""
    figures = _figures(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        figures |= {f"before_{name}": value for name, value in _figures(Path(folder)).items()}
    return figures


def _figures(root: Path) -> dict[str, float]:
    source, tests, rooms = Shape(), Shape(), dict[str, int]()
    for path in _files(root, *PACKAGES):
        text = path.read_text()
        source.add(text)
        relative = path.relative_to(root)
        # The simulator is the outside world, and lives in markets/ only for want of another place.
        room = "simulator" if "simulator" in relative.parts else relative.parts[0]
        rooms[room] = rooms.get(room, 0) + len(text.splitlines())
    for path in _files(root, "tests"):
        tests.add(path.read_text())
    largest = max(rooms, key=lambda room: rooms[room])
    return {
        **source.figures(""),
        **tests.figures("tests_"),
        "tests_to_code": tests.code / source.code,
        f"largest_room_{largest}_share": rooms[largest] / sum(rooms.values()),
    }


def _files(root: Path, *folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            if "migrations" not in path.relative_to(root).parts and path.read_text().strip():
                yield path


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, DOCUMENTED) or not node.body:
            continue
        first = node.body[0]
        # ast.get_docstring gives the words, and not where they stand.
        if ast.get_docstring(node) is not None:
            yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)
