"""System tools that only some tests need: a test that lacks its tool skips, or fails in CI."""

import os
from typing import NoReturn

import pytest


def missing(tool: str) -> NoReturn:
    """Skip the running test for want of a tool; fail it where REQUIRE_TOOLS says all are here."""
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(f"{tool} is required here and is not installed")
    pytest.skip(f"{tool} is not installed")
