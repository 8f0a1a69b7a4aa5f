"""Bandit's findings in the product, each with the reason why it may stay, and rules of ours that no linter has.

The rules read the syntax tree and run offline with the tests. Semgrep (`make semgrep`) has the rules that follow a
value from place to place.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.architecture.sources import (
    ROOT,
    SOURCE_FOLDERS,
    find_calls,
    list_nodes,
    list_sources,
    locate,
    name_of,
    read_source,
)
from tests.support.tables import table

#: (file, bandit's rule) -> why it may stay. Remove an entry that bandit does not find any more.
ACCEPTED: Final = {
    ("pipeline/deliveries/streams/retry_policy.py", "B311"): "jitter spreads load and keeps no secret",
    ("pipeline/workflow/sweeper.py", "B311"): "the same",
    ("tasks/sweeper.py", "B311"): "the same",
    ("pipeline/client/retry.py", "B311"): "the same",
    ("pipeline/accounts/credentials.py", "B303"): "the algorithm that authenticator apps know, inside an HMAC",
    ("pipeline/exports/audit_trail.py", "B105"): "the name of an act, not a secret",
    ("pipeline/deliveries/channels/borderbuddy.py", "B105"): "the purpose of a derived token, not a token",
    ("pipeline/interfaces/cli/init.py", "B105"): "the comment above a key in a file, not a key",
    ("pipeline/interfaces/cli/processes.py", "B104"): "the default of the Procfile's web; `HOST` changes it",
    ("pipeline/interfaces/cli/server.py", "B104"): "an address to compare with, not to listen on",
    ("pipeline/customs/reference/loader.py", "B506"): "our loader is a SafeLoader that also rejects duplicate keys",
    (
        "pipeline/core/templating.py",
        "B701",
    ): "autoescape is a function: on for all but plain text; test_architecture checks it",
    ("pipeline/documents/pdf/supervisor.py", "B404"): "the PDF engine has its own process, so that we can stop it",
    ("pipeline/documents/pdf/supervisor.py", "B603"): "our own Python and module; it contains no text of a caller",
    ("pipeline/simulation/drill/load.py", "B311"): "the seed repeats a drill; it need not be secret",
    ("pipeline/simulation/drill/runner.py", "B311"): "the same",
    ("pipeline/simulation/drill/processes.py", "B404"): "the drill starts our own processes and kills them",
    ("pipeline/simulation/drill/processes.py", "B603"): "our own Python and modules, on a scratch installation",
    ("pipeline/ops/migrations/row_security.py", "B608"): "names of our own tables, from the models",
    ("pipeline/ops/migrations/versions/0001_initial.py", "B608"): "our own expressions, in a trigger",
}
#: The import of Element, a type's name. The parser is pipeline/ops/verification/parsers.py; it rejects a DTD.
ELEMENT_ONLY: Final = "B405"


def run_semgrep(*paths: str) -> Any:
    scan = [sys.executable, "-m", "bandit", "-q", "-r", "-f", "json", *paths]
    return json.loads(subprocess.run(scan, cwd=ROOT, capture_output=True, text=True, check=False).stdout)


@pytest.mark.system
def test_bandit_findings_all_have_a_reason() -> None:
    report = run_semgrep(*SOURCE_FOLDERS)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 10_000
    found = {(each["filename"].removeprefix("./"), each["test_id"]): each for each in report["results"]}
    unexplained = {
        key: f"line {each['line_number']}: {each['issue_text']}"
        for key, each in found.items()
        if key not in ACCEPTED and key[1] != ELEMENT_ONLY
    }
    assert unexplained == {}
    assert ACCEPTED.keys() - found.keys() == set(), "bandit does not find these any more"


def test_bandit_finds_an_injected_hole(tmp_path: Path) -> None:
    (tmp_path / "hole.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    assert "B602" in {each["test_id"] for each in run_semgrep(str(tmp_path / "hole.py"))["results"]}


#: Files that may pass a statement that is not a literal, and why it contains no text of a caller.
COMPOSED: Final = {
    "pipeline/core/db.py": "a state for an index",
    "pipeline/core/db_engines.py": "BEGIN, and the account whose rows are visible, quoted by psycopg",
    "pipeline/ops/migrations/row_security.py": "names of our own tables, from the models",
}


def test_statements_are_literals() -> None:
    composed = {
        name_of(path)
        for path in list_sources(*SOURCE_FOLDERS)
        if "versions" not in path.parts
        for _, node in find_calls(path, {"text", "exec_driver_sql", "literal_column"})
        if node.args and not isinstance(node.args[0], ast.Constant)
    }
    assert composed == set(COMPOSED)
    rules = yaml.safe_load((ROOT / ".ci/semgrep/rules.yaml").read_text(encoding="utf-8"))["rules"]
    excluded = {rule["id"]: rule["paths"]["exclude"] for rule in rules if "paths" in rule}
    assert excluded["statement-made-of-text"] == [f"/{path}" for path in COMPOSED], "semgrep excludes the same files"


def test_dangerous_calls_and_flags_are_absent() -> None:
    forbidden = {
        "eval", "exec", "__import__", "os.system", "os.popen", "pickle.loads", "pickle.load", "marshal.loads",
        "yaml.unsafe_load", "yaml.full_load", "ssl._create_unverified_context", "tempfile.mktemp", "Markup",
        "markupsafe.Markup", "hashlib.md5", "hashlib.sha1",
    }  # fmt: skip
    flags = re.compile(r"\b(shell=True|verify=False|follow_redirects=True|trust_env=True)\b")
    names = {name.rpartition(".")[2] for name in forbidden}
    checked = 0
    for path in list_sources(*SOURCE_FOLDERS):
        for called, node in find_calls(path, names):
            checked += 1
            assert called not in forbidden, locate(path, node)
        assert [*find_calls(path, {"extractall", "from_string"})] == [], name_of(path)
        assert flags.search(read_source(path)) is None, name_of(path)
    assert checked > 50


#: A comparison that stops at the first difference reveals how much of the value is right.
SECRETS: Final = {"signature", "secret", "token", "bearer", "mac", "password", "secret_hash"}


def _name(side: ast.expr) -> str:
    return side.id if isinstance(side, ast.Name) else side.attr if isinstance(side, ast.Attribute) else ""


def test_secrets_use_compare_digest() -> None:
    safely = 0
    for path in list_sources(*SOURCE_FOLDERS):
        safely += read_source(path).count("compare_digest(")
        compared = re.search(
            rf"\b({'|'.join(SECRETS)}) [!=]= |[!=]= [\w.]*\b({'|'.join(SECRETS)})\b", read_source(path)
        )
        for node in list_nodes(path) if compared else ():
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = (node.left, *node.comparators)
                constant = any(isinstance(side, ast.Constant) for side in sides)
                assert constant or not {_name(side) for side in sides} & SECRETS, locate(path, node)
    assert safely >= 5


@table("template", sorted((ROOT / "templates").rglob("*.html")))
def test_template_has_no_unescaped_value_or_script(template: Path) -> None:
    # A script of the service itself is a file, never part of a page.
    text = re.sub(r'<script src="/console/assets/[a-z0-9.-]+" defer></script>', "", template.read_text())
    for hazard in ("|safe", "| safe", "autoescape", "Markup(", "<script", "javascript:", " onclick", " onload"):
        assert hazard not in text, hazard
