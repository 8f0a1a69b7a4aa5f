"""The command line on an empty database, and one for a running service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import factories
from tests.support.command_line import Commands, commands, commands_with_account, new_machine, service
from tests.support.consume_command import broker_url, consume

__all__ = ["broker_url", "commands", "commands_with_account", "consume", "new_machine", "service"]

PlanFile = Callable[..., str]


@pytest.fixture
def plan_file(tmp_path: Path, request: pytest.FixtureRequest) -> PlanFile:
    """Write a plan of the test's own batch, with changes, and return its path."""

    def write(**changes: Any) -> str:
        plan = factories.plan(batch=f"batch-{request.node.name}", **changes)
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(plan))
        return str(path)

    return write


@pytest.fixture(scope="module")
def executed(service: Commands, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An executed export for all tests of a file, as `execute --wait --json` printed it."""
    path = tmp_path_factory.mktemp("executed") / "plan.json"
    path.write_text(json.dumps(factories.plan(batch=f"batch-{path.parent.name}")))
    export: dict[str, Any] = service.json("execute", str(path), "--wait", "--timeout", "60")
    return export
