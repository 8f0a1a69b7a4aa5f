"""What bandit finds in the product, each with the reason why it may stay; and rules of our own that no linter has.

The rules read the syntax tree and run with the tests, offline. Those that follow a value from place to place are semgrep's
(`make semgrep`).
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.architecture.test_architecture import ROOMS, ROOT, find_calls, list_sources, locate, name_of, parse_source

#: (file, bandit's rule) -> why it may stay. One that is found no more must go from here.
ACCEPTED: Final = {
    ("pipeline/deliveries/retry_policy.py", "B311"): "jitter spreads load and keeps no secret",
    ("pipeline/workflow/sweeper.py", "B311"): "the same",
    ("tasks/sweeper.py", "B311"): "the same",
    ("pipeline/client/retry.py", "B311"): "the same",
    ("pipeline/deliveries/channels/borderbuddy.py", "B105"): "the purpose that a token is derived for, not a token",
    ("pipeline/interfaces/cli/init.py", "B105"): "the comment that stands above a key in a file, not a key",
    (
        "pipeline/interfaces/cli/processes.py",
        "B104",
    ): "what the Procfile's web has always listened on; `HOST` names another",
    ("pipeline/interfaces/cli/server.py", "B104"): "an address that is told from others, not one to listen on",
    (
        "pipeline/customs/reference/loader.py",
        "B506",
    ): "the loader is a SafeLoader of ours that also refuses doubled keys",
    (
        "pipeline/core/templating.py",
        "B701",
    ): "autoescape is a function: on for all but plain text; test_house holds it",
    (
        "pipeline/documents/pdf/supervisor.py",
        "B404",
    ): "the PDF engine lives in a process of its own, so that it can be ended",
    (
        "pipeline/documents/pdf/supervisor.py",
        "B603",
    ): "our own Python and a module of ours; no text of a caller is in it",
    ("pipeline/simulation/drill/load.py", "B311"): "a seed makes the same drill again: repeatable, not unguessable",
    ("pipeline/simulation/drill/runner.py", "B311"): "the same",
    ("pipeline/simulation/drill/processes.py", "B404"): "the drill starts the service's own processes, to kill them",
    ("pipeline/simulation/drill/processes.py", "B603"): "our own Python and modules of ours, on a scratch instance",
    ("pipeline/ops/migrations/row_security.py", "B608"): "names of our own tables, from the models",
}
#: The import of Element, which is the name of a type; what parses is pipeline/ops/verification/parsers.py, and it refuses a DTD.
ELEMENT_ONLY: Final = "B405"


def run_semgrep(*paths: str) -> Any:
    scan = [sys.executable, "-m", "bandit", "-q", "-r", "-f", "json", *paths]
    return json.loads(subprocess.run(scan, cwd=ROOT, capture_output=True, text=True, check=False).stdout)


def test_bandit_finds_nothing_that_has_no_reason() -> None:
    report = run_semgrep(*ROOMS)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 10_000
    found = {(each["filename"].removeprefix("./"), each["test_id"]): each for each in report["results"]}
    unexplained = {
        key: f"line {each['line_number']}: {each['issue_text']}"
        for key, each in found.items()
        if key not in ACCEPTED and key[1] != ELEMENT_ONLY
    }
    assert unexplained == {}
    assert ACCEPTED.keys() - found.keys() == set(), "these are found no more"


def test_bandit_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "hole.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    assert "B602" in {each["test_id"] for each in run_semgrep(str(tmp_path / "hole.py"))["results"]}


#: What may be handed a statement that is no literal, and why it holds no text of a caller.
COMPOSED: Final = {
    "pipeline/core/db.py": "BEGIN, and whose rows are seen, quoted by psycopg",
    "pipeline/deliveries/outcomes.py": "a state of our own, written out for an index",
    "pipeline/ops/migrations/row_security.py": "names of our own tables, from the models",
}


def test_no_statement_is_made_of_text() -> None:
    seen = 0
    for path in list_sources(*ROOMS):
        if "versions" in path.parts:
            continue
        for called, node in find_calls(path):
            if called.rsplit(".", 1)[-1] in {"text", "exec_driver_sql", "literal_column"} and node.args:
                seen += 1
                constant = isinstance(node.args[0], ast.Constant)
                assert constant or name_of(path) in COMPOSED, locate(path, node)
    assert seen > 3


def test_nothing_is_run_loaded_or_trusted_that_came_from_outside() -> None:
    forbidden = {
        "eval", "exec", "__import__", "os.system", "os.popen", "pickle.loads", "pickle.load", "marshal.loads",
        "yaml.unsafe_load", "yaml.full_load", "ssl._create_unverified_context", "tempfile.mktemp", "Markup",
        "markupsafe.Markup", "hashlib.md5", "hashlib.sha1",
    }  # fmt: skip
    flags = (("shell", True), ("verify", False), ("follow_redirects", True), ("trust_env", True))
    checked = 0
    for path in list_sources(*ROOMS):
        for called, node in find_calls(path):
            checked += 1
            assert called not in forbidden, locate(path, node)
            assert called.rsplit(".", 1)[-1] not in {"extractall", "from_string"}, locate(path, node)
            named = {each.arg: each.value for each in node.keywords}
            for flag, bad in flags:
                value = named.get(flag)
                assert not (isinstance(value, ast.Constant) and value.value is bad), locate(path, node)
    assert checked > 1_000


#: What is compared character by character tells how much of it is right.
SECRETS: Final = {"signature", "secret", "token", "bearer", "mac", "password", "secret_hash"}


def _name(side: ast.expr) -> str:
    return side.id if isinstance(side, ast.Name) else side.attr if isinstance(side, ast.Attribute) else ""


def test_secrets_are_compared_in_constant_time() -> None:
    safely = 0
    for path in list_sources(*ROOMS):
        safely += sum(called.endswith("compare_digest") for called, _ in find_calls(path))
        for node in ast.walk(parse_source(path)):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = (node.left, *node.comparators)
                constant = any(isinstance(side, ast.Constant) for side in sides)
                assert constant or not {_name(side) for side in sides} & SECRETS, locate(path, node)
    assert safely >= 5


@pytest.mark.parametrize("template", sorted((ROOT / "templates").rglob("*.html")), ids=lambda path: path.name)
def test_no_template_switches_escaping_off_or_runs_a_script(template: Path) -> None:
    text = template.read_text()
    for hazard in ("|safe", "| safe", "autoescape", "Markup(", "<script", "javascript:", " onclick", " onload"):
        assert hazard not in text, hazard
