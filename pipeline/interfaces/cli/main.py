"""The `exports` command, combined from pipeline/interfaces/cli; a command's module loads when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

#: command -> module of pipeline.interfaces.cli
_COMMANDS: Final = {
    "demo": "demo",
    "init": "init",
    "serve": "server",
    "web": "processes",
    "worker": "processes",
    "intake": "processes",
    "migrate": "server",
    "doctor": "server",
    "execute": "exports",
    "amend": "exports",
    "cancel": "exports",
    "retry": "exports",
    "preflight": "preflight",
    "list": "exports",
    "inspect": "exports",
    "events": "exports",
    "consume": "consume",
    "trace": "trace",
    "verify": "verify",
    "rebuild": "rebuild",
    "backup": "backup",
    "drill": "drill",
    "schema": "schema",
}
#: noun -> module of pipeline.interfaces.cli and the name of the group in it
_NOUNS: Final = {
    "artifacts": ("artifacts", "app"),
    "plans": ("plans", "app"),
    "rules": ("rules", "app"),
    "deliveries": ("deliveries", "app"),
    "accounts": ("accounts", "app"),
    "keys": ("accounts", "keys_app"),
    "partners": ("partners", "app"),
    "secrets": ("secrets", "app"),
    "waivers": ("waivers", "app"),
    "audit": ("audit", "app"),
    "retention": ("retention", "app"),
    "config": ("config", "app"),
}


class _LazyGroup(TyperGroup):
    """Loads a command's module when it is called: `exports inspect` must not wait for the database libraries."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        for number, argument in enumerate(args, start=1):
            if any("\ud800" <= character <= "\udfff" for character in argument):
                # The argument is not shown: it may be a key. It could not be compared, sent or printed.
                raise typer.BadParameter(f"argument {number} must be UTF-8 text", ctx=ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_COMMANDS, *_NOUNS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _COMMANDS:
            return get_group(_load_module(_COMMANDS[cmd_name]).app).commands[cmd_name]
        if cmd_name in _NOUNS:
            module, group = _NOUNS[cmd_name]
            loaded = get_group(getattr(_load_module(module), group))
            loaded.name = cmd_name
            return loaded
        return None


def _load_module(name: str) -> Any:
    return import_module(f"pipeline.interfaces.cli.{name}")


app = typer.Typer(
    name="exports",
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 refused or failed, 2 usage, 3 not found, 4 unreachable or not ready, 5 timed out, 6 needs a person.",
)


def _print_version(*, requested: bool) -> None:
    if requested:
        typer.echo(f"exports {version('exports')}")
        raise typer.Exit


@app.callback()
def _exports(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Execute approved export plans exactly once: packages, customs documents, handoff and messages."""


def main() -> None:
    """Run the command line."""
    # Before anything of ours is imported: PYTHONPATH may name a folder with its own `config` or `tasks`.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    app()
