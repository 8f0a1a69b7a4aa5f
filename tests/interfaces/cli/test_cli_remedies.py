"""Every command that the product prints parses as printed, and the remedies of dead letters run."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer import _click as click
from typer.main import get_command

from pipeline.accounts.api_keys import Caller
from pipeline.accounts.states import PartnerState, describe_activation
from pipeline.deliveries import remedies
from pipeline.interfaces.cli.main import COMMANDS, NOUNS, app
from tests.support import factories
from tests.support.command_line import ROOT, Commands
from tests.support.tables import table

NAMES = "|".join((*COMMANDS, *NOUNS))
#: A command stands in backticks, after a colon, or on its own line; two spaces or the end of a style follow it.
PRINTED = re.compile(rf"(?:^|[`>\]]|: |  )(exports (?:{NAMES})\b[^`\n]*?)(?=`|   |\[/|</|\n|$)")
#: What the source of such a text has; the text may go on in the next line. To parse all modules takes seconds.
MAY_PRINT = re.compile(rf"exports (?:(?:{NAMES})\b|[\"'])")
#: What a template or an f-string inserts, such as an id, a number or a path.
FILLED_IN = "1"


def literals(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each text of a module, and whether it only explains: a docstring, or the help of an option."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    explains: set[int] = set()
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                explains.add(id(first.value))
        if isinstance(node, ast.Call):
            explains |= {id(each.value) for each in node.keywords if each.arg in ("help", "description")}
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value, id(node) in explains
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else FILLED_IN for part in node.values]
            yield "".join(parts), id(node) in explains


def list_printed_commands() -> dict[str, bool]:
    """Return every printed command, and whether only explanations name it."""
    found: dict[str, bool] = {}
    for folder in ("pipeline", "config"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if MAY_PRINT.search(path.read_text(encoding="utf-8")) is None:
                continue
            for text, explains in literals(path):
                for command in PRINTED.findall(re.sub(r"\{[a-z_]+\}", FILLED_IN, text)):
                    found[command.rstrip(" .")] = explains and found.get(command, True)
    for path in sorted((ROOT / "templates").rglob("*.html")):
        text = re.sub(r"\{\{.*?\}\}", FILLED_IN, path.read_text(encoding="utf-8"))
        found |= {command.rstrip(" ."): False for command in PRINTED.findall(text)}
    for channel in ("queue", "webhook", "borderbuddy", "email", "sftp"):
        for status in (None, "401", "410", "429", "500", "ConnectError", "PermissionDenied", "SecretUnreadable"):
            remedy_text = remedies.find_remedy("acc_1", "br_1", channel, status)
            found |= dict.fromkeys(PRINTED.findall(remedy_text), False)
    return found


PRINTED_COMMANDS = list_printed_commands()


def fill_in_command(command: str) -> str:
    """Return the command with a valid role and day, and without the file to which the shell redirects its output."""
    command, _, _ = command.partition(" > ")
    command = command.replace("--from DAY", "--from 2026-04-06").replace("--kind KIND", "--kind duty-cases")
    return command.replace(f"--role {FILLED_IN}", "--role read").replace(f"--test {FILLED_IN}", "--test --role read")


def parse(command: str) -> None:
    """Parse a command line as the shell and the program would, without running it."""
    _, *arguments = shlex.split(fill_in_command(command))
    at: Any = get_command(app)
    context = at.make_context("exports", arguments)
    while hasattr(at, "resolve_command"):
        arguments = [*context._protected_args, *context.args]
        if not arguments and at.invoke_without_command:
            return
        name, at, arguments = at.resolve_command(context, arguments)
        context = at.make_context(name, arguments, parent=context)


def test_every_printed_command_is_collected() -> None:
    assert {
        "exports partners test br_1 --account acc_1",
        "exports doctor",
        "exports rebuild --apply",
    } <= PRINTED_COMMANDS.keys()
    assert len(PRINTED_COMMANDS) > 25


@table("command", sorted(command for command, explains in PRINTED_COMMANDS.items() if not explains))
def test_printed_command_parses(command: str) -> None:
    parse(command)


@table("command", sorted(command for command, explains in PRINTED_COMMANDS.items() if explains))
def test_command_named_in_an_explanation_exists_with_its_options(command: str) -> None:
    with suppress(
        click.exceptions.MissingParameter, click.exceptions.BadOptionUsage, click.exceptions.NoArgsIsHelpError
    ):
        parse(command)


def test_remedies_of_a_draft_partner_make_it_live(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    commands.json("partners", "add", "br_1", "--account", factories.ACCOUNT, "--kind", "customs_broker",
                  "--name", "Customs broker", "--queue")  # fmt: skip
    remedy_text = describe_activation(factories.ACCOUNT, "br_1", PartnerState.DRAFT)
    for command in PRINTED.findall(remedy_text):
        result = commands(*shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
    (partner,) = commands.json("partners", "list", "--account", factories.ACCOUNT)
    assert (partner["id"], partner["state"]) == ("br_1", "live")


def test_remedy_of_a_dead_letter_runs_the_connection_test(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    commands.json("partners", "add", "br_1", "--account", factories.ACCOUNT, "--kind", "customs_broker",
                  "--name", "Customs broker", "--queue")  # fmt: skip
    (command,) = PRINTED.findall(remedies.find_remedy(factories.ACCOUNT, "br_1", "webhook", "ConnectError"))
    result = commands(*shlex.split(command)[1:], "--json")
    assert (result.exit_code, json.loads(result.stdout)["partnerId"]) == (0, "br_1"), result.output


@pytest.mark.parametrize("role", ["read", "operate", "partner:br_1"])
def test_remedy_of_a_missing_role_creates_a_key_with_it(commands: Commands, role: str) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    caller = Caller(factories.ACCOUNT, "key_1", "test", frozenset({"execute"}))
    (command,) = PRINTED.findall(caller.describe_key_creation(role))
    made = commands.json(*shlex.split(command)[1:])
    (kept,) = commands.json("keys", "list", "--account", factories.ACCOUNT)
    assert (kept["id"], kept["roles"], kept["mode"]) == (made["id"], [role], "test")
