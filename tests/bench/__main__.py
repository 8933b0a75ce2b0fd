"""Measure one part of the desk: python -m tests.bench NAME [--json], or --list.

A bench is a module of this package with `run() -> dict[str, float]`; every figure says its unit in
its name. Figures are of one thread and, unless they say otherwise, of CPU time, so that a busy
machine changes them little.
"""

from __future__ import annotations

import os

# Before numpy is imported: its threads would be charged to us and help nobody.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import importlib
import importlib.metadata
import json
import pkgutil
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = ("numpy", "gymnasium", "stable-baselines3", "torch", "onnxruntime")


def bench_names() -> list[str]:
    """Return the names of the benches in this package."""
    folder = str(Path(__file__).parent)
    return sorted(
        module.name
        for module in pkgutil.iter_modules([folder])
        if not module.name.startswith("_")
        and "def run(" in (Path(folder) / f"{module.name}.py").read_text(encoding="utf-8")
    )


def machine() -> dict[str, object]:
    """Return what the figures depend on: the processor, the system and the libraries."""
    versions: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main(arguments: list[str]) -> int:
    """Run the bench named on the command line; return 0, or 2 for a name that is not one."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", nargs="?", help="the bench to run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--list", action="store_true", help="print the names of the benches")
    options = parser.parse_args(arguments)
    names = bench_names()
    if options.list:
        print("\n".join(names))
        return 0
    if options.name not in names:
        said = f"there is no bench {options.name!r}" if options.name else "which bench?"
        print(f"{said}; the benches are: {', '.join(names)}", file=sys.stderr)
        return 2
    figures = importlib.import_module(f"tests.bench.{options.name}").run()
    if options.json:
        print(json.dumps({"bench": options.name, "figures": figures, "machine": machine()}))
    else:
        _print_table(options.name, figures)
    return 0


def _print_table(name: str, figures: dict[str, float]) -> None:
    table = Table(title=f"bench {name}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for figure, value in figures.items():
        table.add_row(figure, f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.4g}")
    console = Console()
    console.print(table)
    described = machine()
    console.print(
        f"{described['cpu']}, {described['cores']} cores, Python {described['python']}",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
