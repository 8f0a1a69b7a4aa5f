"""What a command imports before it runs: a command that lists commands, or calls the API, loads no part of the service."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pipeline.interfaces.cli.main import app, load_command
from tests.support.on_day import clock_environment

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
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "EXPORTS_API_URL": "http://127.0.0.1:9",
            **clock_environment(),
        },
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
    assert count_ours(modules) < 85
    assert len(modules) < 620


@pytest.mark.system
def test_help_of_serve_loads_no_channel_and_no_alembic() -> None:
    modules = list_imported("serve", "--help")
    rare = {"alembic", "asyncssh", "fastapi", "fontTools", "httpx", "psycopg", "pypdf", "redis", "typst", "xlsxwriter"}
    assert {module.split(".")[0] for module in modules} & rare == set()
    assert "sqlalchemy" in modules
    assert len(modules) < 890


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
