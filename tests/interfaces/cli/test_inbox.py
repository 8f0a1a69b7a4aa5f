"""The inbox on the command line."""

import json
from pathlib import Path

import httpx

from tests.support import factories
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


def test_calendar_prints_the_same_link_until_a_new_one(service: Commands) -> None:
    refused = service("calendar")
    assert refused.exit_code == 1
    assert "use a live key" in refused.stderr
    key = service.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
    first = service("calendar", EXPORTS_API_KEY=key)
    address = first.stdout.strip()
    assert "Anyone with the link" in first.stderr
    assert service.json("calendar", EXPORTS_API_KEY=key) == {"url": address}
    path = httpx.URL(address).path
    new = httpx.URL(service.json("calendar", "--new", EXPORTS_API_KEY=key)["url"]).path
    with httpx.Client(base_url=service.environment["EXPORTS_API_URL"]) as client:
        assert [client.get(each).status_code for each in (path, new)] == [404, 200]
