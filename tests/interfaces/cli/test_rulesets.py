"""The commands that sign, store and activate rules, and the rules that `--rules` names."""

import json
import stat
from pathlib import Path

import pytest

from pipeline.interfaces.cli.output import ExitCode
from tests.support import factories
from tests.support.command_line import Commands
from tests.support.rule_folders import PACKAGED_ID, write_rules

NEW = "us-ca-2027-01-01"
TRIED = ("headings/section232-metals.yaml", 'heading: "9903.82.09"', 'heading: "9903.82.99"')


def test_signed_bundle_is_stored_and_activated(commands: Commands, tmp_path: Path) -> None:
    key, bundle, folder = tmp_path / "signing.pem", tmp_path / "rules.zip", write_rules(tmp_path / "new", NEW)
    created = commands.json("rules", "key", str(key))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert commands.json("rules", "key", str(key)) == created | {"created": False}
    bundled = commands.json("rules", "bundle", str(folder), str(bundle), "--key", str(key))
    refused = commands("rules", "store", str(bundle))
    assert (refused.exit_code, "Set EXPORTS_RULES_KEYS" in refused.output) == (ExitCode.REFUSED, True)
    commands.environment["EXPORTS_RULES_KEYS"] = json.dumps([created["publicKey"]])
    stored = commands.json("rules", "store", str(bundle))
    assert stored == {"rulesetId": NEW, "contentHash": bundled["contentHash"]}
    assert [each["active"] for each in commands.json("rules", "stored")] == [False]
    assert commands.json("rules", "activate", NEW, "--by", "ana@maple.example")["activated"]
    (listed,) = commands.json("rules", "stored")
    assert (listed["activatedBy"], listed["signedBy"]) == ("ana@maple.example", created["publicKey"])
    missing = commands("rules", "activate", "us-ca-1999", "--by", "ana@maple.example")
    assert missing.exit_code == ExitCode.NOT_FOUND
    doctor = commands("doctor", "--json")
    (check,) = [each for each in json.loads(doctor.stdout) if each["name"] == "customs rules"]
    assert f"ruleset {NEW}" in check["found"]
    assert f"the rules of this version are {PACKAGED_ID}" in check["found"]


def test_signed_folder_is_checked_with_a_trusted_key(commands: Commands, tmp_path: Path) -> None:
    key, folder = tmp_path / "signing.pem", write_rules(tmp_path / "new", NEW)
    public = commands.json("rules", "key", str(key))["publicKey"]
    commands.environment["EXPORTS_RULES_KEYS"] = json.dumps([public])
    assert "are not signed" in commands("rules", "store", str(folder)).output
    commands.json("rules", "sign", str(folder), "--key", str(key))
    assert commands.json("rules", "store", str(folder))["rulesetId"] == NEW


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", None])
def test_wrong_private_key_is_a_usage_error(commands: Commands, tmp_path: Path, content: bytes | None) -> None:
    key, folder = tmp_path / "signing.pem", write_rules(tmp_path / "new", NEW)
    if content is not None:
        key.write_bytes(content)
    result = commands("rules", "sign", str(folder), "--key", str(key))
    assert (result.exit_code, "cannot sign" in result.output) == (ExitCode.USAGE, True)


def test_rules_that_break_a_rule_are_neither_signed_nor_stored(commands: Commands, tmp_path: Path) -> None:
    key, folder = tmp_path / "signing.pem", write_rules(tmp_path / "new", NEW)
    commands.json("rules", "key", str(key))
    (folder / "mid.yaml").unlink()
    for arguments in (
        ("sign", str(folder), "--key", str(key)),
        ("bundle", str(folder), str(tmp_path / "rules.zip"), "--key", str(key)),
        ("store", str(folder)),
        ("why", "7323930045", "--origin", "CA", "--rules", str(folder)),
    ):
        result = commands("rules", *arguments)
        assert (result.exit_code, "mid.yaml: the file does not exist" in result.output) == (ExitCode.REFUSED, True)
    assert not (folder / "rules.sig").exists()


def test_copied_rules_are_those_of_the_place(commands: Commands, tmp_path: Path) -> None:
    folder = write_rules(tmp_path / "new", NEW)
    for place, rules in (("one", ()), ("two", ("--rules", str(folder)))):
        written = commands.json("rules", "copy", str(tmp_path / place), *rules)
        checked = commands.json("rules", "check", str(tmp_path / place))
        assert (checked["id"], checked["content_hash"]) == (NEW if rules else PACKAGED_ID, written["contentHash"])
    refused = commands("rules", "copy", str(tmp_path / "one"))
    assert (refused.exit_code, "does not exist yet" in refused.output) == (ExitCode.USAGE, True)


def test_recheck_tries_rules_and_leaves_them_inactive(commands: Commands, tmp_path: Path) -> None:
    folder = write_rules(tmp_path / "new", NEW)
    commands("migrate")
    assert commands.json("rules", "recheck", "--rules", str(folder))["checked"] == 0
    assert commands.json("rules", "stored") == []
    (folder / "mid.yaml").unlink()
    assert "mid.yaml: the file does not exist" in commands("rules", "recheck", "--rules", str(folder)).output


def test_why_diff_and_preflight_try_other_rules(commands: Commands, tmp_path: Path) -> None:
    folder, plan = write_rules(tmp_path / "new", NEW, TRIED), tmp_path / "plan.json"
    why: tuple[str, ...] = (
        "rules",
        "why",
        "7323930045",
        "--origin",
        "CA",
        "--on",
        "2026-11-24",
        "--metal",
        "steel=0.8",
        "--net",
        "1",
    )
    why += ("--us-percent", "0", "--metal-country", "CA")
    before, after = commands.json(*why), commands.json(*why, "--rules", str(folder))
    assert (before["ruleset"], after["ruleset"]) == (PACKAGED_ID, NEW)
    assert ("9903.82.09" in before["headings"], "9903.82.99" in after["headings"]) == (True, True)
    commands.environment["EXPORTS_RULES"] = str(folder)
    assert commands.json(*why) == after
    del commands.environment["EXPORTS_RULES"]
    plan.write_text(json.dumps(factories.plan()))
    preflight = ("preflight", str(plan), "--offline", "--on", "2026-11-24", "--json")
    found = [
        {each["rule"] for each in json.loads(commands(*preflight, *more).stdout)["findings"]}
        for more in ((), ("--rules", str(folder)))
    ]
    assert ["R01" in each for each in found] == [False, True]
    assert commands("preflight", str(plan), "--rules", str(folder)).exit_code == ExitCode.USAGE
    days = ("rules", "diff", "2026-11-23", "2026-11-24", "--rules", str(folder))
    assert commands(*days).exit_code == 0
