"""`exports people`: the first person of an account, a new link, and the end of access."""

import re

from pipeline.interfaces.cli.output import ExitCode
from tests.support import factories
from tests.support.command_line import Commands

EMAIL = "anna@maple.example"


def test_first_person_gets_a_link_and_is_listed(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    of_account = ("--account", factories.ACCOUNT)
    shown = commands("people", "add", *of_account, "--email", EMAIL, "--role", "admin").stdout
    assert re.search(r"^  http://127\.0\.0\.1:8000/console/links/[A-Za-z0-9_-]{43}$", shown, re.MULTILINE)
    again = commands.json("people", "link", *of_account, "--email", EMAIL)
    assert again["link"] not in shown
    (person,) = commands.json("people", "list", *of_account)
    assert (person["email"], person["roles"], person["joinedAt"]) == (EMAIL, ["admin"], None)
    assert "invited" in commands("people", "list", *of_account).stdout
    assert commands.json("people", "disable", "--email", EMAIL)["disabled"]
    assert "disabled" in commands("people", "list", *of_account).stdout
    assert not commands.json("people", "enable", "--email", EMAIL)["disabled"]


def test_mistakes_are_named(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    of_account = ("--account", factories.ACCOUNT)
    assert commands("people", "add", "--account", "none", "--email", EMAIL, "--role", "read").exit_code == (
        ExitCode.NOT_FOUND
    )
    wrong = commands("people", "add", *of_account, "--email", "anna", "--role", "read")
    assert (wrong.exit_code, "must be like anna@maple.example" in wrong.stderr) == (ExitCode.REFUSED, True)
    assert commands("people", "add", *of_account, "--email", EMAIL).exit_code == ExitCode.USAGE
    assert commands("people", "add", *of_account, "--email", EMAIL, "--role", "king").exit_code == ExitCode.USAGE
    for command in (("link", *of_account), ("disable",), ("enable",)):
        assert commands("people", *command, "--email", EMAIL).exit_code == ExitCode.NOT_FOUND
    assert commands("people", "list", "--account", "none").exit_code == ExitCode.NOT_FOUND
