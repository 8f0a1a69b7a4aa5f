"""The command line: mistakes get a message and an exit code, and a command loads no more than it needs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pipeline.interfaces.cli import main
from pipeline.interfaces.cli.main import app, load_command
from pipeline.interfaces.cli.output import ExitCode
from tests.support.command_line import Commands, exports
from tests.support.command_output import check_output
from tests.support.servers import poll

#: Deeper than any parser allows.
DEPTH = 100_000


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", ""),
        ("events", ""),
        ("events", "", "--follow"),
        ("cancel", ""),
        ("retry", ""),
        ("hold", "", "--reason", "x"),
        ("release", ""),
        ("withdraw", "", "--reason", "x"),
        ("artifacts", ".."),
        ("deliveries", "show", ""),
        ("deliveries", "resend", ""),
        ("deliveries", "replay", "--since", "2026-11-24T15:00:00Z", "--partner", ""),
        ("trace", ""),
    ],
    ids=" ".join,
)
def test_empty_id_is_rejected(commands: Commands, command: tuple[str, ...]) -> None:
    result = commands(*command)
    assert (result.exit_code, "the id must not be empty" in result.stderr) == (ExitCode.USAGE, True)


@pytest.mark.parametrize("as_json", [False, True])
def test_unexpected_error_is_one_sentence_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    def fail(_: str) -> None:
        raise LookupError("no row at postgresql://exports:canary@db.example/exports\n[parameters: canary]")

    monkeypatch.setattr(main, "load_command", fail)
    monkeypatch.setattr(sys, "argv", ["exports", "doctor", *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as ended:
        main.main()
    output = capsys.readouterr()
    message = "unexpected LookupError: no row at postgresql://[hidden]@db.example/exports"
    assert ended.value.code == ExitCode.REFUSED
    if as_json:
        check_output(("doctor",), output.out, 1)
        assert (json.loads(output.out)["message"], output.err) == (message, "")
    else:
        assert output.out == ""
        assert output.err.startswith(f"error {message} (UNEXPECTED)\n  Run `exports doctor`.")
        assert output.err.count("\n") == 2

    monkeypatch.setattr(sys, "argv", ["exports", "--debug", "doctor"])
    with pytest.raises(LookupError):
        main.main()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("keys", "create", "--account", "acc_1", "--days", "999999999"), "--days"),
        (("keys", "rotate", "key_1", "--account", "acc_1", "--days", "999999999"), "--days"),
        (("retention", "purge", "--dry-run", "--on", "0002-01-01"), "--on must be 1970 or later"),
        (("rules", "check", "x" * 5000), "there is no file"),
        (("inspect", "exp_\udcff"), "argument 2 must be UTF-8 text"),
        (("partners", "list", "--account", "acc_\udcff"), "argument 4 must be UTF-8 text"),
        (("inspect", "exp_1", "--api-key", "exp_live_\udcff"), "argument 4 must be UTF-8 text"),
    ],
)
def test_invalid_value_is_named(commands: Commands, command: tuple[str, ...], message: str) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    result = commands(*command)
    assert result.exit_code in {ExitCode.USAGE, ExitCode.NOT_FOUND}
    assert message in result.stderr
    assert "exp_live_" not in result.stderr


@pytest.mark.parametrize(
    "text", [f'{{"a": {"[" * DEPTH}{"]" * DEPTH}}}', f'{{"a": /* " */ {"[" * DEPTH}{"]" * DEPTH}}}']
)
def test_plan_nested_too_deep_is_refused(commands: Commands, tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    for command in (("preflight",), ("preflight", "--offline"), ("execute",), ("amend", "exp_1")):
        result = commands(*command, str(path))
        assert (result.exit_code, "nested deeper than" in result.stderr) == (ExitCode.USAGE, True), result.stderr
    result = commands("rules", "check", str(path))
    assert result.exit_code == ExitCode.REFUSED


def test_brackets_in_a_comment_do_not_count_as_depth(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(f"{{ // {'[' * 100}\n}}")
    assert commands("execute", str(path)).exit_code == ExitCode.UNREACHABLE


def test_half_an_escaped_character_is_named(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"a": "\\ud800"}')
    for command in (("preflight",), ("preflight", "--offline"), ("execute", "--key", "K-1")):
        result = commands(*command, str(path))
        assert (result.exit_code, "holds half of an escaped character" in result.stderr) == (ExitCode.USAGE, True)
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert commands("execute", str(path)).exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize("noun", ["keys", "partners", "waivers"])
def test_list_of_an_unknown_account_is_not_found(commands: Commands, noun: str) -> None:
    result = commands(noun, "list", "--account", "acc_nope")
    assert (result.exit_code, result.stdout) == (ExitCode.NOT_FOUND, "")
    assert "there is no account acc_nope" in result.stderr


def test_holds_of_an_unknown_account_are_not_found(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    assert commands("retention", "holds", "--account", "acc_nope").exit_code == ExitCode.NOT_FOUND
    assert commands.json("retention", "holds", "--account", "acc_1") == []


@pytest.mark.parametrize("option", ["--webhook", "--sftp", "--email"])
def test_partner_with_an_empty_address_is_not_registered(commands: Commands, option: str) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    add = ("partners", "add", "wh_1", "--account", "acc_1", "--kind", "warehouse", "--name", "W")
    assert commands(*add, option, "").exit_code == ExitCode.USAGE
    assert commands.json("partners", "list", "--account", "acc_1") == []


def test_replay_that_ends_before_it_begins_is_refused(commands: Commands) -> None:
    span = ("--since", "2026-11-24T15:00:00Z", "--until", "2026-11-24T15:00:00+01:00")
    result = commands("deliveries", "replay", "--partner", "br_1", *span)
    assert (result.exit_code, "--until must not be before since" in result.stderr) == (ExitCode.USAGE, True)


def test_empty_rules_file_name_is_rejected(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands("rules", "check", "").exit_code == ExitCode.NOT_FOUND


def test_password_file_that_is_not_utf8_is_named(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    (tmp_path / "password").write_bytes(b"\xff")
    add = ("partners", "add", "wh_1", "--account", "acc_1", "--kind", "warehouse", "--name", "W")
    result = commands(*add, "--sftp", "sftp://me@host/folder", "--credential", str(tmp_path / "password"))
    assert (result.exit_code, "--credential" in result.stderr) == (ExitCode.USAGE, True)
    assert json.loads(commands("partners", "list", "--account", "acc_1", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("partner", "list"), "'partners'"),
        (("lst",), "'list'"),
        (("ls",), "'list'"),
        (("partners", "activat"), "'activate'"),
        (("list", "--outcom", "failed"), "--outcome"),
    ],
)
def test_typo_names_what_was_meant(commands: Commands, arguments: tuple[str, ...], meant: str) -> None:
    result = commands(*arguments)
    assert (result.exit_code, meant in result.stderr) == (2, True), result.stderr


def test_unlike_word_has_no_suggestion(commands: Commands) -> None:
    result = commands("frobnicate")
    assert (result.exit_code, "Did you mean" in result.stderr) == (2, False), result.stderr


def test_console_page_is_opened_or_only_printed(commands: Commands, tmp_path: Path) -> None:
    page = "http://127.0.0.1:9/console/exports/exp_1"
    assert commands.json("open", "exp_1") == {"address": page}
    assert commands("open", "exp_1", "--no-browser").stdout == f"{page}\n"
    assert commands("open", "a/b", "--no-browser").stdout.endswith("/console/exports/a%2Fb\n")
    assert commands("open", "--no-browser").stdout == "http://127.0.0.1:9/console\n"
    assert commands("open", "", "--no-browser").exit_code == 2
    assert commands("open", "--api-url", "file:///etc", "--no-browser").exit_code == 2
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n')
    browser.chmod(0o700)
    environment = {"BROWSER": str(browser), "EXPORTS_API_URL": "http://127.0.0.1:9"}
    process = exports(["open", "exp_1"], environment, tmp_path)
    assert process.communicate(timeout=60) == (f"{page}\n", "")
    poll(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text() == f"{page}\n")


ROOT = Path(__file__).resolve().parents[3]

#: Runs `exports` with the arguments, and prints the imported modules after its own output.
PROGRAM = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("\\n" + " ".join(sys.modules)))
from pipeline.interfaces.cli.main import main
main()
"""

#: Libraries of the service that take long to import.
SERVICE = {
    "alembic", "amqp", "asyncssh", "celery", "cryptography", "fastapi", "fontTools", "jinja2", "kombu", "obstore",
    "psycopg", "pypdf", "redis", "sqlalchemy", "sqlmodel", "starlette", "structlog", "typst", "uvicorn", "xlsxwriter",
    "yaml",
}  # fmt: skip


def list_imported(*arguments: str) -> set[str]:
    """Return the modules that a process of `exports` with these arguments imported."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "EXPORTS_API_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    *_, modules = process.stderr.splitlines()
    assert "pipeline.interfaces.cli.main" in modules.split(), process.stderr
    return {*modules.split()}


def find_service_libraries(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules} & SERVICE


def count_ours(modules: set[str]) -> int:
    return sum(module.split(".")[0] in {"config", "pipeline", "tasks"} for module in modules)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_list_of_commands_loads_no_command(arguments: tuple[str, ...]) -> None:
    modules = list_imported(*arguments)
    assert (
        find_service_libraries(modules) | {name for name in modules if name.startswith(("pydantic", "httpx"))} == set()
    )
    assert count_ours(modules) < 8
    assert len(modules) < 400


@pytest.mark.system
@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "exp_1"),
        ("list",),
        ("plans", "new"),
        ("deliveries", "list"),
        ("listen", "--forward-to", "http://127.0.0.1:9"),
    ],
)
def test_command_over_http_loads_no_service(arguments: tuple[str, ...]) -> None:
    modules = list_imported(*arguments)
    assert find_service_libraries(modules) == set()
    assert count_ours(modules) < 95
    assert len(modules) < 620


@pytest.mark.system
def test_help_of_serve_loads_no_channel_and_no_alembic() -> None:
    modules = list_imported("serve", "--help")
    rare = {"alembic", "asyncssh", "fastapi", "fontTools", "httpx", "psycopg", "pypdf", "redis", "typst", "xlsxwriter"}
    assert {module.split(".")[0] for module in modules} & rare == set()
    assert "sqlalchemy" in modules
    assert len(modules) < 900


def test_list_of_commands_has_their_help() -> None:
    exports: Any = get_command(app)
    for name in exports.list_commands(None):
        first_paragraph, *_ = load_command(name).help.split("\n\n")
        assert exports.get_command(None, name).help == " ".join(first_paragraph.split())


@pytest.mark.system
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("exports partn", {"partners"}),
        ("exports li", {"list", "listen"}),
        ("exports profiles u", {"use"}),
        ("exports partners ro", {"rotate-secret"}),
        ("exports list --out", {"--outcome"}),
    ],
)
def test_nouns_verbs_and_options_are_completed(words: str, completed: set[str]) -> None:
    process = subprocess.run(
        [str(Path(sys.executable).with_name("exports"))],
        env={
            "PATH": os.environ["PATH"],
            "_EXPORTS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert {*process.stdout.split()} == completed, process.stderr


def test_unknown_command_is_not_listed() -> None:
    exports: Any = get_command(app)
    assert exports.get_command(None, "nope") is None
