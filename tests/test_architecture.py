"""What the import contracts cannot see: what a fresh process really loads, and what is written."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tradingsite.celery import app
from tradingsite.databases import TRADING
from tradingsite.notices import CHANNELS
from tradingsite.registry import SLOTS
from tradingsite.scheduling.schedules import ALL, JOBS
from tradingsite.supervision.services import SERVICES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tradingsite", "markets", "bots", "training", "backups", "monitoring")
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HEAVY = ("torch", "stable_baselines3", "pytorch_forecasting")
# What single jobs use and no process of PROD should hold for its whole life: 4 GB are for all.
OCCASIONAL = ("pandas", "pyarrow", "skfolio", "vollib", "scipy", "ccxt", "kiteconnect", "twisted")

CHECK = """
import importlib, sys
modules, unwanted = sys.argv[1].split(","), sys.argv[2].split(",")
for name in modules:
    importlib.import_module(name)
    loaded = [each for each in unwanted if each in sys.modules]
    if loaded:
        sys.exit(f"{name} loads {', '.join(loaded)}")
"""


def load(modules: list[str], unwanted: tuple[str, ...], before: str = "") -> str:
    """Import modules in a fresh process, in order; return what the first guilty one loaded."""
    done = subprocess.run(
        [sys.executable, "-c", before + CHECK, ",".join(modules), ",".join(unwanted)],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Return every source file, parsed."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path, ast.parse(path.read_text(), str(path))


def modules_of(name: str) -> list[str]:
    """Return a module's name, or those of every module in the folder of that name."""
    folder = ROOT / name.replace(".", "/")
    found = [path.relative_to(ROOT).with_suffix("") for path in sorted(folder.rglob("*.py"))]
    return [".".join(path.parts).removesuffix(".__init__") for path in found] or [name]


def test_pure_modules_load_no_django_celery_or_torch() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    folders = contracts["contracts"][1]["source_modules"]
    pure = [module for folder in folders for module in modules_of(folder)]
    assert len(pure) > 100
    assert load(pure, ("django", "celery", *HEAVY)) == ""


@pytest.mark.parametrize(
    "modules",
    [
        [
            "tradingsite.celery",
            "tradingsite.scheduling.beat",
            *(f"{name}.tasks" for name in PACKAGES[1:]),
        ],
        [
            *("bots.live.runner", "bots.execution.notifier"),
            *("markets.simulator.market", "monitoring.monitor"),
        ],
        ["tradingsite.wsgi", "monitoring.urls", "tradingsite.supervision.desk"],
    ],
    ids=["worker and beat", "bots, simulator and monitor", "web and up"],
)
def test_prod_loads_no_torch_and_nothing_that_only_single_jobs_use(modules: list[str]) -> None:
    assert load(modules, HEAVY + OCCASIONAL, "import django; django.setup()") == ""


def test_apps_are_empty_at_their_root() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "__init__.py").read_text() == ""


def test_nothing_unpickles() -> None:
    found = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [(path, alias.name) for alias in node.names if alias.name in UNPICKLERS]
            elif isinstance(node, ast.ImportFrom) and node.module in UNPICKLERS:
                found.append((path, node.module))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, name = ast.unparse(node.func.value), node.func.attr
                if name == "load" and owner.split(".")[-1] in {"torch", "PPO", "BarPPO"}:
                    found.append((path, f"{owner}.load"))
                if name == "load" and any(word.arg == "allow_pickle" for word in node.keywords):
                    found.append((path, "allow_pickle"))
    assert found == []


def test_no_model_is_used_around_its_bound_class() -> None:
    found = [
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"using", "db_manager"}
    ]
    assert found == []


def test_every_scheduled_task_is_registered() -> None:
    app.loader.import_default_modules()
    assert {job.task for job in ALL.values()} <= set(app.tasks)


def test_the_readme_has_the_five_numbers() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    numbers = {
        r"(\d+) services": len(SERVICES),
        r"(\d+) scheduled jobs": len(JOBS),
        r"(\d+) trading databases": len(TRADING),
        r"(\d+) Telegram channels": len(CHANNELS),
        r"(\d+) model slots": len(SLOTS),
    }
    for pattern, number in numbers.items():
        assert re.findall(pattern, readme) == [str(number)], pattern
