"""The `exports` command, combined from pipeline/interfaces/cli; a command's module loads when it is called."""

import json
import re
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from pipeline.core.startup import pause_collection

#: command -> module of pipeline.interfaces.cli and the first sentences of its help
COMMANDS: Final = {
    "demo": ("demo", "Run three example plans through every part and show the results."),
    "init": ("init", "Create an account, sandbox partners, a test key and `.env`; keep what exists."),
    "login": (
        "login",
        "Keep the API's address, your key and a default account; the key is asked for, or read from standard input.",
    ),
    "whoami": (
        "login",
        "Show the service, profile, account and key that commands use; a key that is refused ends with its remedy.",
    ),
    "serve": ("server", "Run the service: all of it on `memory://`, else only the API; Ctrl-C ends it."),
    "web": ("processes", "Run only the API; takes options of uvicorn."),
    "worker": (
        "processes",
        "Run a process that executes steps and renders documents; takes options of `celery worker`.",
    ),
    "intake": ("processes", "Run the process that receives commands and answers from queues."),
    "migrate": (
        "server",
        "Migrate the database to this version; safe to repeat. Records EXPORTS_INSTALLATION if the database has none.",
    ),
    "doctor": ("server", "Check everything that the service needs; print a remedy for each failure."),
    "execute": ("exports", "Execute an approved plan."),
    "amend": ("exports", "Replace an executed or failed export with a changed plan and notify its recipients."),
    "cancel": ("exports", "Stop an export that is not handed off yet."),
    "hold": ("withdrawals", "Hold the handoff of an export until you release it."),
    "withdraw": ("withdrawals", "Withdraw an export that is handed off, until an entry is filed."),
    "release": ("withdrawals", "Release the hold of an export's handoff."),
    "import-filed": (
        "filed_entries",
        "Compare the amounts of filed entries with their estimates, from CBP's report of entry summary lines.",
    ),
    "retry": ("exports", "Continue a failed export from where it failed."),
    "preflight": ("preflight", "Check a plan without executing it: what is present, missing, or needs a person."),
    "inbox": ("inbox", "List what needs a person, oldest deadline first, with the remedies."),
    "reply": (
        "conversation",
        "Write to the customs broker about its handoff; after a question, the export leaves the inbox.",
    ),
    "conversation": ("conversation", "Show what the customs broker and you wrote about the handoff, oldest first."),
    "acknowledge": ("inbox", "Take exports from the inbox until a new fact arrives; with --undo put them back."),
    "deadlines": ("deadlines", "List what is due next, the earliest first."),
    "calendar": (
        "calendar",
        "Print the link by which calendar programs show what is due next; it needs a live key of an administrator.",
    ),
    "test-clock": (
        "account_clock",
        "Show the clock of the account's test exports, or move it ahead; it needs a test key.",
    ),
    "sandbox-answer": (
        "sandbox",
        "Let the sandbox broker answer a test export now, with any status; it needs a test key.",
    ),
    "list": ("exports", "List exports, newest first, with outcome and progress."),
    "open": ("exports", "Open the console, or an export's page in it, in your browser; print its address."),
    "inspect": ("exports", "Show an export's state, steps, documents, messages and customs broker's answer."),
    "events": (
        "events",
        "Show an export's log, or with --account all events of the account; with --json one event a line.",
    ),
    "stats": ("stats", "Show what happened to exports: outcomes, durations, queues, customs brokers, corrections."),
    "listen": (
        "listener",
        "Forward new messages to your receiver, signed like real ones; the real deliveries do not change. Ctrl-C ends it.",
    ),
    "consume": ("consume", "Read a queue of BROKER_URL: show each message, then remove it."),
    "trace": ("trace", "Show one message's recipients, channels, attempts and responses."),
    "verify": ("verify", "Prove offline that a bundle is unchanged and that its formats carry the plan's treatment."),
    "rebuild": ("rebuild", "Derive every table from log and plan; name each row that is missing, changed or added."),
    "backup": ("backup", "Copy the SQLite database and its documents into a folder while the service runs."),
    "drill": ("drill", "Kill a scratch instance at random under load; exit code 1 if anything is lost or duplicated."),
    "schema": (
        "schema",
        "Print a JSON Schema of the API; also the documents `asyncapi` and `openapi`, `http` (calls as an .http file) and `cli` (what commands print with --json).",
    ),
}
#: noun -> module of pipeline.interfaces.cli, the name of the group in it, and the help of the group
NOUNS: Final = {
    "artifacts": (
        "artifacts",
        "app",
        "The documents of an export, and the store of all documents. `exports artifacts ID` means `list ID`.",
    ),
    "plans": ("plans", "app", "Export plans."),
    "orders": ("orders", "app", "Orders, from which batches are planned."),
    "products": ("orders", "products_app", "The customs data of products, from which plans are built."),
    "plan-templates": ("orders", "templates_app", "The facts that all plans to a country share."),
    "rules": ("rules", "app", "The dated customs rules that plans must follow."),
    "tariff": ("tariff", "app", "The tariff by day: editions of the HTSUS, of agency flags and of duty cases."),
    "deliveries": (
        "deliveries",
        "app",
        "Show and resend messages to partners; without a command, run the process that sends them.",
    ),
    "accounts": ("accounts", "app", "The merchants that exports belong to."),
    "people": ("people", "app", "The people who sign in to the console."),
    "keys": ("accounts", "keys_app", "The bearer keys of an account."),
    "partners": ("partners", "app", "The customs brokers, warehouses, operators and upstream services of an account."),
    "secrets": ("secrets", "app", "The encrypted secrets of partners, and their key."),
    "waivers": ("waivers", "app", "The warnings that an account accepts, with a record."),
    "audit": ("audit", "app", "Show what people did; prove that the logs are unchanged."),
    "retention": ("retention", "app", "How long records are kept."),
    "profiles": ("login", "profiles_app", "The connections that `exports login` keeps."),
    "config": ("config", "app", "The settings of this process."),
}


#: command or noun -> its panel in the help, in the order of the help
PANELS: Final = {
    name: title
    for title, names in {
        "Start": "demo init login whoami profiles open",
        "Exports": "execute list inspect events artifacts preflight plans plan-templates products orders amend cancel retry hold release withdraw import-filed inbox reply conversation acknowledge deadlines calendar test-clock sandbox-answer stats",
        "Messages": "deliveries listen consume trace schema",
        "Accounts and partners": "accounts people keys partners waivers secrets",
        "Customs rules and tariff": "rules tariff",
        "The service": "serve web worker intake migrate doctor config",
        "Checks and repairs": "verify audit rebuild retention backup drill",
    }.items()
    for name in names.split()
}


class _LazyGroup(TyperGroup):
    """Loads a command's module when it is called: `exports inspect` must not wait for the database libraries.

    Help and completion only list the commands, so `get_command` returns one with its name and help, and nothing to run.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        for number, argument in enumerate(args, start=1):
            if any("\ud800" <= character <= "\udfff" for character in argument):
                # The argument is not shown: it may be a key. It could not be compared, sent or printed.
                raise typer.BadParameter(f"argument {number} must be UTF-8 text", ctx=ctx)
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*dict.fromkeys([*PANELS, *COMMANDS, *NOUNS])]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        *_, help_text = COMMANDS.get(cmd_name) or NOUNS.get(cmd_name) or (None,)
        if help_text is None:
            return None
        # The list has a line for each command: what stands after the semicolon is in its own help.
        short_text = re.split(r";|\. ", help_text)[0].removesuffix(".")
        return TyperCommand(cmd_name, help=help_text, short_help=short_text, rich_help_panel=PANELS.get(cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        close = [] if self.get_command(ctx, args[0]) else get_close_matches(args[0], self.list_commands(ctx))
        if close and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, close))}?")
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load_command(name), rest


def load_command(name: str) -> Any:
    """Load and return the command or the group of commands with that name; raises LookupError if there is none."""
    if name in COMMANDS:
        module, _ = COMMANDS[name]
        return get_group(_load_module(module).app).commands[name]
    module, group, _ = NOUNS[name]
    loaded = get_group(getattr(_load_module(module), group))
    loaded.name = name
    return loaded


def _load_module(name: str) -> Any:
    path = f"pipeline.interfaces.cli.{name}"
    if path in sys.modules:
        return sys.modules[path]
    with pause_collection():
        module = import_module(path)
    _log_to_standard_error()
    return module


def _log_to_standard_error() -> None:
    """Keep standard output for results: a program reads it. A process that runs for long sets up its logs itself."""
    structlog = sys.modules.get("structlog")  # a command that imports it may log
    if structlog is not None and not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


app = typer.Typer(
    name="exports",
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 refused or failed, 2 usage, 3 not found, 4 unreachable or not ready, 5 timed out, 6 needs a person."
    "\n\nEnvironment: EXPORTS_API_URL, EXPORTS_API_KEY, EXPORTS_PROFILE and EXPORTS_ACCOUNT choose the connection; NO_COLOR turns"
    " colours off. `exports config show` lists every setting.",
)


def _print_version(*, requested: bool) -> None:
    if requested:
        from importlib.metadata import version  # noqa: PLC0415 - takes longer to import than the rest of this module

        typer.echo(f"exports {version('exports')}")
        raise typer.Exit


@app.callback()
def _exports(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Use this profile of `exports login`. [EXPORTS_PROFILE]")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Send the key over http:// to another machine too; others on the way can read it."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an unexpected error happened.")] = False,
) -> None:
    """Execute approved export plans exactly once: packages, customs documents, handoff and messages."""


#: The remedy for an error that no command expects.
_UNEXPECTED_REMEDY: Final = "Run `exports doctor`. With `exports --debug` before the command, you see where the error happened; report it with that."


def _report_unexpected(error: Exception, *, as_json: bool) -> None:
    """Print the error on standard error, or as JSON on standard output; a process that keeps a log also logs it."""
    from config.redaction import hide_secrets  # noqa: PLC0415 - needed only here

    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        structlog.get_logger(__name__).critical("command_failed", exc_info=error)
    # Only the first line: SQLAlchemy's others repeat the values of the statement.
    detail = hide_secrets(str(error).partition("\n")[0])
    message = f"unexpected {type(error).__name__}" + (f": {detail}" if detail else "")
    if as_json:
        problem = {"errorCode": "UNEXPECTED", "message": message, "remedy": _UNEXPECTED_REMEDY}
        sys.stdout.write(json.dumps(problem, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"error {message} (UNEXPECTED)\n  {_UNEXPECTED_REMEDY}\n")


def main() -> None:
    """Run the command line."""
    # Before anything of ours is imported: PYTHONPATH may name a folder with its own `config` or `tasks`.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _report_unexpected(error, as_json="--json" in sys.argv)
        raise SystemExit(1) from None
