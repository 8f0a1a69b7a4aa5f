"""Keeps the tests that share a stack, and those of one file, in one process when several processes run the tests."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of each test for `--dist loadgroup`: its shared stack, else its file."""
    for item in items:
        if HERE in item.path.parents:
            params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
            shared = {name: params[name] for name in ("site", "running_service") if name in params}
            item.add_marker(pytest.mark.xdist_group(str(shared or item.path.relative_to(HERE))))
