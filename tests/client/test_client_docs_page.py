"""docs/client.md: its snippets run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts.secrets import generate_secret
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.support.command_line import ROOT, Commands

pytestmark = pytest.mark.system

PAGE = (ROOT / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_snippet_runs_one_after_another(
    service: Commands,
    client_package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(SNIPPETS) == 9
    old, new = generate_secret(), generate_secret()
    for name, value in {**service.environment, "OLD_SECRET": old, "NEW_SECRET": new}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(client_package)
    plan = json.loads(service("plans", "example", "cookware").stdout) | {"batchId": "batch_of_the_client_page"}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    space: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/client.md", "exec"), space)  # noqa: S102 - our own page
    printed = capsys.readouterr().out
    assert space["execution"].export.export_id in printed
    assert {path.name for path in tmp_path.rglob("documents/*")} >= {"bundle.zip"}
    assert "EXPORT_EXECUTED" in printed
    assert "INVALID_STATE" in printed
    assert "filed\n" in printed
    event = read_example("exports.package.recorded.v1")
    body = json.dumps(event).encode()
    answers = [
        space["received"](body, build_signature_headers(event["id"], body, *each))
        for each in ([old], [new, old], [generate_secret()])
    ]
    assert (answers, space["seen"]) == ([204, 204, 401], {event["id"]})
