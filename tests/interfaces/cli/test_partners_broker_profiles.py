"""A broker's profile from a file: the bundled ones are accepted, and all issues of another are reported at once."""

import json
from pathlib import Path

import pytest
from typer.testing import Result

from tests.support.command_line import Commands
from tests.support.tables import table

FOLDER = Path(__file__).parents[3] / "examples" / "profiles"
PROFILES = [FOLDER / f"{name}.json" for name in ("entry-import", "entry-lines", "invoice-lines")]


@pytest.fixture
def account_commands(commands: Commands) -> Commands:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    return commands


def add_partner(account_commands: Commands, profile: Path, *options: str) -> Result:
    of_account = ("--account", "acc_1", "--kind", "customs_broker", "--name", "Broker")
    return account_commands("partners", "add", "br_1", *of_account, "--profile", str(profile), *options)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_bundled_profile_is_accepted(account_commands: Commands, path: Path) -> None:
    kept = json.loads(add_partner(account_commands, path, "--json").stdout)["profile"]
    assert [column["header"] for column in kept["columns"]] == [
        column["header"] for column in json.loads(path.read_text())["columns"]
    ]


def test_all_issues_of_a_profile_are_reported_and_nothing_is_registered(
    account_commands: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "profile.json"
    columns = [{"header": "a", "field": "hts_10"}, {"header": "b", "field": "sku", "dateFormat": "DD/MM/YYYY"}]
    path.write_text(json.dumps({"name": "x", "filename": "manifest.json", "format": "json", "columns": columns}))
    refused = add_partner(account_commands, path)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-3:] == [
        "  /profile/filename: is the name of a document of the customs package; choose another",
        "  /profile/columns/0/field: 'hts_10' is not a field of a line; did you mean hts10?",
        "  /profile/columns/1/dateFormat: sku is not a date; remove dateFormat",
    ]
    issues = json.loads(add_partner(account_commands, path, "--json").stdout)["details"]["issues"]
    assert [issue["code"] for issue in issues] == ["taken", "unknown_field", "no_date"]
    assert account_commands.json("partners", "list", "--account", "acc_1") == []


@table(
    ("body", "message"),
    [
        ('{"name": "x"', "is not JSON at line 1"),
        ("[]", "must be a JSON object"),
        ('{"name": "x", "filename": "a.csv", "format": "csv", "columns": [{"header": "a"}]}', "a field or a constant"),
        ('{"name": "x", "name": "y"}', "given twice"),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_invalid_profile_file_is_rejected_with_a_message(
    account_commands: Commands, tmp_path: Path, body: str, message: str
) -> None:
    path = tmp_path / "profile.json"
    path.write_text(body)
    refused = add_partner(account_commands, path)
    assert (refused.exit_code, message in refused.stderr) == (1, True), refused.stderr
    assert f"--profile {path}: " in refused.stderr
