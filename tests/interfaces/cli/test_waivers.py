"""`exports waivers`: recorded, listed and revoked."""

import json
from typing import Any

import pytest

from tests.support import factories
from tests.support.command_line import Commands

pytestmark = pytest.mark.clock

WAIVED = ("V17", "--account", factories.ACCOUNT, "--reason", "Our carrier bills the buyer.", "--by", "Export desk")


def test_waiver_is_recorded_listed_and_revoked(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    created: dict[str, Any] = commands.json(
        "waivers", "add", *WAIVED, "--until", "2099-12-31", "--pointer", "/units/*/invoice", "--partner", "br_sandbox"
    )
    assert {key: created[key] for key in ("rule", "pointer", "partnerId", "reason", "waivedBy", "endsOn")} == {
        "rule": "V17",
        "pointer": "/units/*/invoice",
        "partnerId": "br_sandbox",
        "reason": "Our carrier bills the buyer.",
        "waivedBy": "Export desk",
        "endsOn": "2099-12-31",
    }
    shown = commands("waivers", "list", "--account", factories.ACCOUNT).stdout
    for text in (created["id"], "V17", "/units/*/invoice", "br_sandbox", "Export desk", "until 2099-12-31"):
        assert text in shown
    commands.json("waivers", "revoke", created["id"], "--account", factories.ACCOUNT, "--by", "Compliance desk")
    (kept,) = commands.json("waivers", "list", "--account", factories.ACCOUNT)
    assert (kept["id"], kept["revokedBy"]) == (created["id"], "Compliance desk")
    assert "by Compliance desk" in commands("waivers", "list", "--account", factories.ACCOUNT).stdout


def test_waiver_without_reason_or_name_is_rejected(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    assert commands("waivers", "add", "V 17", *WAIVED[1:]).exit_code == 2
    assert commands("waivers", "add", *WAIVED, "--pointer", "units").exit_code == 2
    nobody = commands("waivers", "add", "V17", "--account", "acc_nobody", *WAIVED[3:], "--json")
    assert (nobody.exit_code, json.loads(nobody.stdout)["errorCode"]) == (3, "NOT_FOUND")
    assert commands("waivers", "revoke", "wvr_none", "--account", factories.ACCOUNT, "--by", "me").exit_code == 3
    assert commands.json("waivers", "list", "--account", factories.ACCOUNT) == []
