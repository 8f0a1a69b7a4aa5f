"""`exports partners`: the partners of an account."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.markup import escape
from rich.text import Text

from pipeline.accounts import partners
from pipeline.accounts.channels import (
    BorderBuddyEndpoint,
    Endpoint,
    PartnerKind,
    QueueEndpoint,
    format_address,
    is_for_people,
)
from pipeline.accounts.schemas import HandoffPath, NewPartner, PartnerView
from pipeline.accounts.states import PartnerState, describe_activation
from pipeline.core.errors import Refused
from pipeline.core.json_input import parse_json
from pipeline.deliveries import connection_tests
from pipeline.deliveries.streams import recovery
from pipeline.documents.schemas.profile import BrokerProfile, MessageProfile, OwnFile
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli import portal_links
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_result,
    report_errors,
    show_progress,
    with_remedy,
)
from pipeline.interfaces.cli.partner_channels import add_channel_options, read_endpoints, read_file
from pipeline.interfaces.cli.portal_links import OfAccount, Partner
from pipeline.interfaces.cli.server import watch_stop_signals
from pipeline.interfaces.cli.session import ensure_account, open_current_runtime
from pipeline.interfaces.event_text import BAD, GOOD
from pipeline.simulation.partners.http import ReceivedRequest, WebhookFault, WebhookReceiver
from pipeline.simulation.partners.sftp import FileFault, FileReceiver
from pipeline.simulation.partners.smtp import MailFault, MailReceiver

app = typer.Typer(
    no_args_is_help=True, help="The customs brokers, warehouses, operators and upstream services of an account."
)

#: Maximum depth of a profile's JSON.
MAX_DEPTH: Final = 8

_ALLOW_PRIVATE: Final = "  EXPORTS_ALLOW_PRIVATE_DESTINATIONS=true lets the connection test reach it."


@app.command(
    "add",
    epilog="Example: exports partners add br_123 --account acc_1 --kind customs_broker --name Broker --webhook https://hooks.example/in",
)
@report_errors
@add_channel_options
def add(
    partner: Annotated[str, typer.Argument(metavar="ID", help="The partner's id in plans, such as br_123 or wh_123.")],
    account: OfAccount,
    kind: Annotated[PartnerKind, typer.Option(help="Kind of partner.")],
    name: Annotated[str, typer.Option(help="Its name for people.")],
    path: Annotated[HandoffPath | None, typer.Option(help="Handoff path of a customs broker. [default: byob]")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="A customs broker's own import file or message; see docs/broker-profiles.md."
        ),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="A test partner that test exports may reach.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Let live exports reach it without a connection test.")] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Register a partner; its signing secret is shown once."""
    channels: list[Endpoint] = [BorderBuddyEndpoint()] if path == "borderbuddy" else []
    own_file = None if profile is None else _read_profile(profile)
    new = NewPartner(
        id=partner,
        kind=kind,
        name=name,
        test=test,
        path=path,
        profile=own_file if isinstance(own_file, BrokerProfile) else None,
        message_profile=own_file if isinstance(own_file, MessageProfile) else None,
        channels=[*channels, *read_endpoints(given)],
        live=live,
    )
    with open_current_runtime() as runtime:
        result = partners.create_partner(runtime, account, new, actor=COMMAND_LINE)
    reached_by = ", ".join(channel.channel for channel in result.channels)
    lines = [
        f"[green]✓[/] {result.kind.replace('_', ' ')} [bold]{escape(result.id)}[/], reached by {reached_by}",
        f"  signing secret {result.secret}",
    ]
    if QueueEndpoint() in result.channels:
        lines.append(f"  bind its own queue with {escape(result.queue_binding)}")
    hint = "  Give the secret to the partner now; it is not shown again."
    if is_for_people(result.channels):
        hint = "  A partner with e-mail alone needs no secret: it answers by the link in each e-mail."
    if result.state == PartnerState.DRAFT:
        steps = describe_activation(account, result.id, result.state)
        hint += f"\n  It is a draft; {escape(steps)}."
    print_result(result, *lines, hint=hint, as_json=as_json)


def _read_profile(path: Path) -> OwnFile:
    text = read_file(path)
    model: type[OwnFile] = BrokerProfile if b'"format"' in text or b'"columns"' in text else MessageProfile
    try:
        return parse_json(text, model, max_depth=MAX_DEPTH).model
    except Refused as error:
        error.message = f"--profile {path}: {error.message}"
        raise


@app.command("list")
@report_errors
def list_partners(account: OfAccount, as_json: Json = False) -> None:
    """List an account's partners."""
    with open_current_runtime() as runtime:
        ensure_account(runtime, account)
        rows = partners.list_partners(runtime, account)
    table = build_table(
        ("partner", "kind", "name", "path", "channels", "state"),
        (
            (
                row.id,
                row.kind.replace("_", " "),
                row.name,
                row.path or "",
                ", ".join(f"{endpoint.channel} {format_address(endpoint, ' ')}".strip() for endpoint in row.channels),
                f"{row.state}{', test' if row.test else ''}{_format_test_result(row)}",
            )
            for row in rows
        ),
    )
    print_result(rows, table, as_json=as_json)


def _format_test_result(partner: PartnerView) -> str:
    test = partner.last_test
    if test is None:
        return ""
    return f", {'passed' if test.passed else 'failed'} {test.tested_at:%Y-%m-%d}{' (changed since)' if test.outdated else ''}"


@app.command("test")
@report_errors
def run_test(partner: Partner, account: OfAccount, as_json: Json = False) -> None:
    """Test every endpoint of a partner in stages; exit code 1 if one fails."""
    with open_current_runtime() as runtime, show_progress(f"testing the endpoints of {partner}"):
        result = connection_tests.run_connection_test(runtime, account, partner, tested_by=COMMAND_LINE)
    table = build_table(
        ("channel", "", "stage", "time", "found"),
        (
            (
                "" if at else endpoint.channel,
                Text(GOOD, "green") if stage.passed else Text(BAD, "bold red"),
                stage.name,
                f"{stage.duration_ms} ms",
                with_remedy(stage.found, stage.remedy),
            )
            for endpoint in result.endpoints
            for at, stage in enumerate(endpoint.stages)
        ),
    )
    verdict = f"{escape(result.partner_id)} {'passed' if result.passed else 'did not pass'}, and is {result.state}"
    print_result(result, table, verdict, as_json=as_json)
    if not result.passed:
        raise typer.Exit(int(ExitCode.REFUSED))


@app.command("activate")
@report_errors
def activate(partner: Partner, account: OfAccount, as_json: Json = False) -> None:
    """Let live exports reach a verified partner."""
    with open_current_runtime() as runtime:
        _print_partner(partners.activate_partner(runtime, account, partner, actor=COMMAND_LINE), as_json=as_json)


@app.command("pause")
@report_errors
def pause(partner: Partner, account: OfAccount, as_json: Json = False) -> None:
    """Stop sending to a partner until it is resumed; pending messages are kept."""
    with open_current_runtime() as runtime:
        _print_partner(partners.pause_partner(runtime, account, partner, actor=COMMAND_LINE), as_json=as_json)


@app.command("resume")
@report_errors
def resume(partner: Partner, account: OfAccount, as_json: Json = False) -> None:
    """Send a paused partner its pending and new messages."""
    with open_current_runtime() as runtime:
        _print_partner(recovery.resume_partner(runtime, account, partner, actor=COMMAND_LINE), as_json=as_json)


def _print_partner(result: PartnerView, *, as_json: bool) -> None:
    print_result(result, f"[green]{GOOD}[/] [bold]{escape(result.id)}[/] is {result.state}", as_json=as_json)


@app.command("rotate-secret")
@report_errors
def rotate_secret(
    partner: Partner,
    account: OfAccount,
    overlap: Annotated[
        int, typer.Option(min=0, max=168, metavar="HOURS", help="Hours that the older secret stays valid.")
    ] = 24,
    as_json: Json = False,
) -> None:
    """Give a partner a new signing secret, shown once; both are valid during the overlap."""
    with open_current_runtime() as runtime:
        result = partners.rotate_secret(runtime, account, partner, overlap, actor=COMMAND_LINE).to_view()
    print_result(
        result,
        f"[green]{GOOD}[/] [bold]{escape(result.partner_id)}[/] has a new signing secret",
        f"  signing secret {result.secret}",
        hint="  Give it to the partner now; it is not shown again. The older one is valid until"
        f" {result.previous_ends_at:%Y-%m-%d %H:%M} UTC.",
        as_json=as_json,
    )


for name, command in portal_links.COMMANDS.items():
    app.command(name)(report_errors(command))


@app.command("receiver")
@report_errors
def receiver(
    secret: Annotated[
        list[str] | None, typer.Option("--secret", metavar="SECRET", help="The partner's signing secret; repeatable.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The bearer token of the borderbuddy path, instead.")
    ] = None,
    bad: Annotated[WebhookFault | None, typer.Option(help="The fault that it shows. [default: none]")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a test endpoint of a partner on loopback; Ctrl-C ends it."""
    if not secret and token is None:
        raise Failure("the receiver needs a secret or a token", code=ExitCode.USAGE, remedy="Give --secret or --token.")

    def print_request(request: ReceivedRequest) -> None:
        print_result(
            json.dumps({"status": request.status, "id": request.event_id, "type": request.event_type}),
            f"  {request.status or 'hung up'}  {escape(request.event_type)}  [dim]{escape(request.event_id)}[/]",
            as_json=as_json,
        )

    with _run_receiver(
        lambda: WebhookReceiver(secret or (), token=token, fault=bad, port=port, on_request=print_request)
    ) as result:
        print_result(
            json.dumps({"address": result.url}),
            f"[green]{GOOD}[/] receiving at [bold]{result.url}[/]{f', with the fault {bad}' if bad else ''}",
            hint=_ALLOW_PRIVATE,
            as_json=as_json,
        )


@app.command("file-receiver")
@report_errors
def file_receiver(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Folder for its files, with out/ and in/."),
    ],
    bad: Annotated[FileFault | None, typer.Option(help="The fault that it shows. [default: none]")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a test SFTP server of a partner on loopback; Ctrl-C ends it."""
    with _run_receiver(lambda: FileReceiver(folder.resolve(), fault=bad, port=port)) as result:
        print_result(
            json.dumps({"address": result.address, "hostKey": result.host_key, "password": result.password}),
            f"[green]{GOOD}[/] files at [bold]{result.address}[/]{f', with the fault {bad}' if bad else ''}",
            f"  host key {result.host_key}\n  password {result.password}",
            hint=_ALLOW_PRIVATE,
            as_json=as_json,
        )


@app.command("mail-receiver")
@report_errors
def mail_receiver(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Folder for mails and its certificate."),
    ],
    bad: Annotated[MailFault | None, typer.Option(help="The fault that it shows. [default: none]")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a test mail server on loopback; Ctrl-C ends it."""
    with _run_receiver(lambda: MailReceiver(folder.resolve(), fault=bad, port=port)) as result:
        print_result(
            json.dumps({"url": result.url, "certificate": str(result.certificate)}),
            f"[green]{GOOD}[/] mails to [bold]{escape(str(folder))}[/]{f', with the fault {bad}' if bad else ''}",
            Text(f"EXPORTS_SMTP_URL={result.url}\nSSL_CERT_FILE={result.certificate}"),
            hint="  These settings make the service use it.",
            as_json=as_json,
        )


_ReceiverT = TypeVar("_ReceiverT", bound=WebhookReceiver | FileReceiver | MailReceiver)


@contextmanager
def _run_receiver(make: Callable[[], _ReceiverT]) -> Iterator[_ReceiverT]:
    """Run a receiver until the process is stopped; the body of `with` prints how to use it."""
    try:
        result = make()
    except OSError as error:
        remedy = "Give another port by --port; --port 0 takes a free one."
        raise Failure(f"cannot listen on the address: {error.strerror}", remedy=remedy) from error
    stop_signals = watch_stop_signals()
    with result:
        yield result
        stop_signals.get()
