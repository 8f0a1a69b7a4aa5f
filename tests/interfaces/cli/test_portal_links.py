"""`exports partners link`, `links` and `unlink`: a portal link from its creation to its end."""

import re

from tests.support.command_line import Commands

OF = ("wh_1", "--account", "acc_1")


def add_partner(commands_with_account: Commands) -> None:
    commands_with_account.json("partners", "add", *OF, "--kind", "warehouse", "--name", "Dock 4", "--live")


def test_link_is_shown_once_listed_and_revoked(commands_with_account: Commands) -> None:
    add_partner(commands_with_account)
    created = commands_with_account.json("partners", "link", *OF, "--days", "2")
    assert re.fullmatch(rf"http\S+/portal/open#{created['id']}\.[\w-]{{43}}", created["url"])
    (listed,) = commands_with_account.json("partners", "links", *OF)
    assert (listed["id"], listed["createdBy"], listed["lastUsedAt"]) == (created["id"], "cli", None)
    shown = commands_with_account("partners", "links", *OF).stdout
    assert created["url"].partition(".")[2] not in shown
    assert "never" in shown
    commands_with_account.json("partners", "unlink", *OF, "--link", created["id"])
    assert "revoked 20" in commands_with_account("partners", "links", *OF).stdout


def test_command_that_ends_the_link_is_printed_and_works(commands_with_account: Commands) -> None:
    add_partner(commands_with_account)
    printed = commands_with_account("partners", "link", *OF).output
    ending = re.search(r"exports partners unlink (wh_1 --account acc_1\s+--link\s+lnk_\w+)", printed)
    assert ending is not None, printed
    assert "1 portal link of wh_1 revoked" in commands_with_account("partners", "unlink", *ending[1].split()).output
    for _ in range(2):
        commands_with_account.json("partners", "link", *OF)
    assert "2 portal links of wh_1 revoked" in commands_with_account("partners", "unlink", *OF).output


def test_wrong_partner_link_or_days_are_refused(commands_with_account: Commands) -> None:
    add_partner(commands_with_account)
    for days in ("0", "91", "x"):
        assert commands_with_account("partners", "link", *OF, "--days", days).exit_code == 2
    assert commands_with_account("partners", "link", "wh_none", *OF[1:]).exit_code == 3
    assert commands_with_account("partners", "links", "wh_none", *OF[1:]).exit_code == 3
    assert commands_with_account("partners", "unlink", *OF, "--link", "lnk_none").exit_code == 3
