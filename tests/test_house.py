"""The shape of the house: sizes, where tests stand, who reads the clock. Exceptions: house.toml."""

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from tests.mirror import PACKAGES, ROOT, mirrored, modules

EXCEPTIONS = tomllib.loads((ROOT / "tests/house.toml").read_text())
LONGEST_FILE, LONGEST_FUNCTION = 400, 40
# Declarations that other files' tests go through, and interfaces without logic.
WITHOUT_TESTS = {"models.py", "admin.py", "apps.py", "tasks.py", "urls.py"}
CLOCKS = {
    *("dt.datetime.now", "datetime.datetime.now", "datetime.now", "dt.date.today"),
    *("timezone.now", "time.time", "time.time_ns", "time.localtime", "dt.datetime.utcnow"),
}


def python_files(*folders: str) -> Iterator[tuple[str, str]]:
    """Return every file's path from the root and its text, migrations left out."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text()


def long_functions(text: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]


def test_a_file_has_one_subject() -> None:
    long = {
        name
        for name, text in python_files(*PACKAGES, "tests")
        if len(text.splitlines()) > LONGEST_FILE
    }
    assert long == set(EXCEPTIONS["long_files"])


def test_a_function_is_read_at_once() -> None:
    long = {
        f"{name}:{function}"
        for name, text in python_files(*PACKAGES, "tests")
        for function in long_functions(text)
    }
    assert long == set(EXCEPTIONS["long_functions"])


def test_every_module_has_its_tests_where_one_looks_for_them() -> None:
    """At the mirrored path, or at the one that house.toml names."""
    lost = []
    for module in modules():
        if module.name in WITHOUT_TESTS or str(module) in EXCEPTIONS["tested_by"]:
            continue
        if str(module) in EXCEPTIONS["no_tests_of_their_own"]:
            continue
        if any(fnmatch(str(module), pattern) for pattern in EXCEPTIONS["folders_tested_by"]):
            continue
        try:
            mirrored(str(module))
        except LookupError:
            lost.append(str(module))
    assert lost == [], "write tests/<its path>, or name its tests in tests/house.toml"


def test_what_house_toml_names_is_there_and_needed() -> None:
    known = {str(module) for module in modules()}
    for module, tests in EXCEPTIONS["tested_by"].items():
        assert module in known, f"{module} is gone: take its line out"
        assert (ROOT / tests).is_file(), f"{module}: there is no {tests}"
        path = (ROOT / "tests" / module).with_name(f"test_{Path(module).name}")
        assert not path.exists(), f"{module} has {path.name}: take its line out"
    for pattern, tests in EXCEPTIONS["folders_tested_by"].items():
        assert any(fnmatch(module, pattern) for module in known), pattern
        assert list(ROOT.glob(tests)), tests


def test_only_the_clock_reads_the_clock() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, text in python_files(*PACKAGES)
        if name not in EXCEPTIONS["reads_the_clock"]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCKS
    ]
    assert found == []
