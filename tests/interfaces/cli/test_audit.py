"""`exports audit`: the log verified and checkpointed on the command line."""

import json
import sqlite3
from pathlib import Path

from PIL import Image

from pipeline.core.db import Database
from pipeline.exports.audit_trail import Action, record_act
from pipeline.interfaces.cli.output import ExitCode
from tests.support import factories
from tests.support.command_line import Commands


def test_verify_proves_chains_and_names_breaks(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(factories.plan(batch="batch_audited")))
    export_id = service.json("execute", str(plan), "--wait")["exportId"]
    found = service.json("audit", "verify", "--export", export_id)
    assert (found["intact"], found["exports"], found["faults"]) == (True, 1, [])
    assert "every chain is intact: 1 exports" in service("audit", "verify", "--export", export_id).stdout
    copy = tmp_path / "copy.db"
    with sqlite3.connect(service.environment["DATABASE_URL"].removeprefix("sqlite:///")) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    database.close()
    with sqlite3.connect(copy) as database:
        database.execute("DROP TRIGGER events_no_update")
        database.execute("UPDATE events SET actor = 'somebody' WHERE export_id = ? AND seq = 2", (export_id,))
    database.close()
    result = service("audit", "verify", "--json", DATABASE_URL=f"sqlite:///{copy}")
    assert result.exit_code == ExitCode.REFUSED
    (fault,) = json.loads(result.stdout)["faults"]
    assert (fault["exportId"], fault["seq"], fault["kind"]) == (export_id, 2, "changed")
    assert service("audit", "checkpoint", DATABASE_URL=f"sqlite:///{copy}").exit_code == ExitCode.REFUSED


def test_each_command_that_changes_an_account_is_in_its_trail(commands: Commands, tmp_path: Path) -> None:
    """Under one actor; who decided it is in the detail."""
    of_account = ("--account", factories.ACCOUNT)
    partner, person = ("br_1", *of_account), ("--email", "anna@maple.example")
    commands.environment["EXPORTS_ALLOW_PRIVATE_DESTINATIONS"] = "true"
    logo = tmp_path / "logo.png"
    Image.new("RGB", (64, 64)).save(logo)
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    commands.json("accounts", "mail-domains", factories.ACCOUNT, "broker.example")
    commands.json("accounts", "people-domains", factories.ACCOUNT, "maple.example")
    commands.json("accounts", "languages", factories.ACCOUNT, "en", "fr")
    commands.json("accounts", "logo", factories.ACCOUNT, str(logo))
    commands.json("accounts", "logo", factories.ACCOUNT, "--remove")
    commands.json("accounts", "leads", factories.ACCOUNT, "truck", "--received", "120")
    commands.json("accounts", "skip-numbers", factories.ACCOUNT, "--packages", "3")
    commands.json("people", "add", *of_account, *person, "--role", "admin")
    commands.json("people", "link", *of_account, *person)
    commands.json("people", "disable", *person)
    commands.json("people", "enable", *person)
    key = commands.json("keys", "create", *of_account, "--role", "admin")["id"]
    newer = commands.json("keys", "rotate", key, *of_account)["id"]
    commands.json("keys", "revoke", newer, *of_account)
    commands.json("partners", "add", *partner, "--kind", "customs_broker", "--name", "Broker", "--live", "--queue")
    commands.json("partners", "pause", *partner)
    commands.json("partners", "resume", *partner)
    commands.json("partners", "rotate-secret", *partner)
    commands.json("partners", "link", *partner)
    commands.json("partners", "unlink", *partner)
    waiver = commands.json("waivers", "add", "V17", *of_account, "--reason", "by hand", "--by", "pat")["id"]
    commands.json("waivers", "revoke", waiver, *of_account, "--by", "pat")
    hold = commands.json("retention", "hold", *of_account, "--reason", "a claim", "--by", "pat")["id"]
    commands.json("retention", "release", hold, "--by", "pat")
    acts = commands.json("audit", "list", *of_account)["items"][::-1]
    assert [each["action"] for each in acts] == [
        "account_created", "mail_domains_changed", "people_domains_changed", "languages_changed", "logo_changed",
        "logo_removed", "deadline_leads_changed", "numbers_skipped", "person_invited", "link_created", "person_disabled", "person_enabled",
        "key_created", "key_rotated", "key_revoked",
        "partner_created", "partner_paused", "partner_resumed", "signing_secret_rotated",
        "portal_link_created", "reply_links_revoked", "portal_link_revoked",
        "waiver_granted", "waiver_revoked", "hold_placed", "hold_released",
    ]  # fmt: skip
    assert {each["actor"] for each in acts} == {"cli"}
    assert [each["detail"].get("decidedBy") for each in acts[-4:]] == ["pat"] * 4


def test_list_shows_acts_and_verify_counts_them(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    url = commands.environment["DATABASE_URL"]
    database = Database(url)
    for actor in ("per_1", "per_2"):
        with database.write() as session:
            record_act(session, factories.ACCOUNT, actor, Action.SIGNED_IN, "ses_1", {"method": "password"})
    database.dispose()
    listed = commands.json("audit", "list", "--account", factories.ACCOUNT, "--limit", "1")
    assert ([each["actor"] for each in listed["items"]], listed["nextBefore"]) == (["per_2"], 3)
    older = commands("audit", "list", "--account", factories.ACCOUNT, "--before", "3").stdout
    assert ("per_1" in older, "per_2" in older, "signed_in" in older) == (True, False, True)
    assert commands.json("audit", "list", "--account", factories.ACCOUNT, "--actor", "per_9")["items"] == []
    for wanted, count in (
        ("--subject=ses_1", 2),
        ("--subject=ses_2", 0),
        ("--from=2026-01-01", 3),
        ("--to=2026-01-01", 0),
    ):
        found = commands.json("audit", "list", "--account", factories.ACCOUNT, wanted)["items"]
        assert len(found) == count, wanted
    assert commands("audit", "list", "--account", "nobody").exit_code == ExitCode.NOT_FOUND
    assert commands.json("audit", "verify")["acts"] == 3
    with sqlite3.connect(url.removeprefix("sqlite:///")) as opened:
        opened.execute("DROP TRIGGER acts_no_update")
        opened.execute("UPDATE acts SET actor = 'per_3' WHERE seq = 1")
    opened.close()
    result = commands("audit", "verify", "--json")
    assert result.exit_code == ExitCode.REFUSED
    (fault,) = json.loads(result.stdout)["faults"]
    assert (fault["accountId"], fault["seq"], fault["kind"]) == (factories.ACCOUNT, 1, "changed")


def test_checkpoint_file_is_verified_later(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    head = tmp_path / "head.json"
    stated = commands.json("audit", "checkpoint", "--account", factories.ACCOUNT)
    head.write_text(json.dumps(stated))
    assert (stated["account"], stated["exports"]) == (factories.ACCOUNT, 0)
    assert commands.json("audit", "verify", "--checkpoint", str(head))["intact"]
    head.write_text(json.dumps(stated | {"exports": 1}))
    assert commands("audit", "verify", "--checkpoint", str(head)).exit_code == ExitCode.REFUSED
    head.write_text("{}")
    assert commands("audit", "verify", "--checkpoint", str(head)).exit_code == ExitCode.USAGE
    assert commands("audit", "verify", "--checkpoint", str(tmp_path / "none")).exit_code == ExitCode.NOT_FOUND
    assert commands("audit", "verify", "--checkpoint", str(head), "--export", "exp_1").exit_code == ExitCode.USAGE
    assert commands("audit", "verify", "--export", "exp_1").exit_code == ExitCode.NOT_FOUND
    assert commands("audit", "checkpoint", "--account", "nobody").exit_code == ExitCode.NOT_FOUND
