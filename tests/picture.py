"""`make picture`: draw docs/architecture.svg from the folders and their real imports.

A package is a band, in the order in which they may import each other; a folder is a box, its height
by the lines in it. Arrows run between folders; one that follows from two others is left out, so
that what remains can be read. The page's own colours follow the reader's light or dark.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs/architecture.svg"
PACKAGES = ("monitoring", "backups", "training", "bots", "markets", "tradingsite")
SAYS = {
    "monitoring": "watch, show, tell",
    "backups": "keep",
    "training": "learn",
    "bots": "decide, execute",
    "markets": "data, venues",
    "tradingsite": "plumbing",
}
SKIPPED = {"migrations", "management", "templatetags"}
WIDTH, MARGIN, LABEL, GAP, BOX, BAND = 900, 16, 118, 8, 44, 94
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #16303c }
  .band { fill: #f0f6f9 } .box { fill: #fff; stroke: #9dbfcd }
  .pure { fill: #e1f3e8; stroke: #6fae8b }
  .arrow { fill: none; stroke: #7fa6b5; stroke-width: 1.2; marker-end: url(#head) }
  #head path { fill: #7fa6b5 }
  .name { font-weight: 600 } .quiet { fill: #5b7682; font-size: 11px }
  @media (prefers-color-scheme: dark) {
    text { fill: #dbe9ef } .band { fill: #12242d } .box { fill: #1b323d; stroke: #41606e }
    .arrow { stroke: #557887 } #head path { fill: #557887 }
    .pure { fill: #17382a; stroke: #3f7d5e } .quiet { fill: #93adb8 }
  }
"""
PURE = {"markets.domain", "bots.decision", "training.evaluation"}


def rooms() -> dict[str, dict[str, int]]:
    """Return the folders of each package with the lines in them; "" is the package's own files."""
    found: dict[str, dict[str, int]] = {}
    for package in PACKAGES:
        lines: defaultdict[str, int] = defaultdict(int)
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT / package).parts[:-1]
            if not SKIPPED & set(parts):
                lines[parts[0] if parts else ""] += len(path.read_text().splitlines())
        found[package] = dict(lines)
    return found


def imports() -> dict[str, set[str]]:
    """Return which rooms each room imports, as "package.folder"; its own package's too."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT / package).parts[:-1]
            if SKIPPED & set(parts):
                continue
            here = f"{package}.{parts[0] if parts else ''}"
            for node in ast.walk(ast.parse(path.read_text())):
                names = _imported(node)
                found[here] |= {room for name in names if (room := _room(name)) and room != here}
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _room(name: str) -> str | None:
    package, _, rest = name.partition(".")
    if package not in PACKAGES:
        return None
    folder = rest.partition(".")[0]
    is_folder = (ROOT / package / folder).is_dir() and folder not in SKIPPED
    return f"{package}.{folder if is_folder else ''}"


def draw() -> str:
    """Return the picture as SVG."""
    found, uses = rooms(), imports()
    height = 2 * MARGIN + BAND * len(PACKAGES) + GAP * (len(PACKAGES) - 1) + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The folders of Nightdesk; each imports only from bands below its own</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for row, package in enumerate(PACKAGES):
        parts += _band(package, found[package], uses, MARGIN + row * (BAND + GAP))
    says = (
        "Each band imports only from those below it; an arrow leads to a neighbour that is "
        "imported. Green: pure. Under a name: its lines."
    )
    parts.append(f'<text class="quiet" x="{MARGIN}" y="{height - 12}">{says}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _band(package: str, found: dict[str, int], uses: dict[str, set[str]], top: int) -> list[str]:
    lines = sum(found.values())
    size = f'width="{WIDTH - 2 * MARGIN}" height="{BAND}"'
    parts = [
        f'<rect class="band" x="{MARGIN}" y="{top}" {size} rx="8"/>',
        f'<text class="name" x="{MARGIN + 12}" y="{top + 28}">{package}</text>',
        f'<text class="quiet" x="{MARGIN + 12}" y="{top + 44}">{SAYS[package]}</text>',
        f'<text class="quiet" x="{MARGIN + 12}" y="{top + 59}">{lines:,} lines</text>',
    ]
    folders = _lowest_first(package, [name for name in found if found[name] and name], uses)
    if not folders:
        return parts
    width = (WIDTH - 2 * MARGIN - LABEL - GAP) / len(folders)
    lefts = {name: MARGIN + LABEL + place * width for place, name in enumerate(folders)}
    for name, left in lefts.items():
        room = f"{package}.{name}"
        kind = "pure" if room in PURE else "box"
        imported = ", ".join(sorted(each.rstrip(".") for each in uses[room])) or "nothing"
        parts += [
            f'<rect class="{kind}" x="{left:.0f}" y="{top + 10}" width="{width - GAP:.0f}" '
            f'height="{BOX}" rx="6"><title>{room} imports {imported}</title></rect>',
            f'<text x="{left + 7:.0f}" y="{top + 28}">{name}</text>',
            f'<text class="quiet" x="{left + 7:.0f}" y="{top + 44}">{found[name]:,}</text>',
        ]
    centre = (width - GAP) / 2
    for one, other in _arrows(package, folders, uses):
        begins, ends = lefts[one] + centre, lefts[other] + centre
        step = 9 if ends > begins else -9
        depth = min(10 + 5 * abs(folders.index(one) - folders.index(other)), 34)
        y = top + 10 + BOX
        parts.append(
            f'<path class="arrow" d="M{begins + step:.0f} {y}C{begins + step:.0f} {y + depth} '
            f'{ends - step:.0f} {y + depth} {ends - step:.0f} {y + 2}"/>'
        )
    return parts


def _lowest_first(package: str, folders: list[str], uses: dict[str, set[str]]) -> list[str]:
    """Return the folders so that those which import nothing of their band come first."""
    near = {name: _near(package, name, folders, uses) for name in folders}

    def depth(name: str, above: frozenset[str] = frozenset()) -> int:
        if name in above:  # two that import each other stand side by side
            return 0
        return 1 + max((depth(each, above | {name}) for each in near[name]), default=-1)

    return sorted(folders, key=lambda name: (depth(name), name))


def _arrows(package: str, folders: list[str], uses: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return who imports whom in a band, without what follows from two other arrows."""
    near = {name: _near(package, name, folders, uses) for name in folders}
    return [
        (name, other)
        for name in folders
        for other in sorted(near[name])
        if not any(
            other in near[between] and between not in near[other]
            for between in near[name] - {other}
        )
    ]


def _near(package: str, name: str, folders: list[str], uses: dict[str, set[str]]) -> set[str]:
    """Return the folders of its own band that a folder imports."""
    return {each for each in folders if f"{package}.{each}" in uses[f"{package}.{name}"]} - {name}


def main() -> int:
    """Write the picture."""
    TARGET.write_text(draw())
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
