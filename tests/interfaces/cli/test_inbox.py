"""The inbox on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import factories

if TYPE_CHECKING:
    from tests.support.command_line import Commands


def test_inbox_is_listed_acknowledged_and_undone(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(factories.plan(batch="batch-inbox", invoice="Q-INBOX")))
    executed = service("execute", str(plan), "--wait=answer", "--timeout", "60", "--json")
    assert json.loads(executed.stdout)["outcome"] == "query", executed.output
    listed = service("inbox", "--cause", "query").stdout
    assert "batch-inbox" in listed
    assert "exports acknowledge" in listed
    shown = service.json("acknowledge", "batch-inbox", "--note", "asked the importer")
    assert shown["acknowledged"]["note"] == "asked the importer"
    assert "batch-inbox" not in service("inbox", "--cause", "query").stdout
    assert "asked the importer" in service("inbox", "--acknowledged").stdout
    assert service.json("acknowledge", "batch-inbox", "--undo")["acknowledged"] is None
    assert "batch-inbox" in service("inbox", "--cause", "query").stdout
