"""The long faults of the laboratory run by `make lab` alone."""

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `whole` out unless the whole laboratory was asked for."""
    if os.environ.get("NIGHTDESK_LAB"):
        return
    left_out = [item for item in items if item.get_closest_marker("whole")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
