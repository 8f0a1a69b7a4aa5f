"""`exports accounts` and `exports keys`: accounts and their keys; on the database directly, because the first key needs no key."""

from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from pipeline.accounts import api_keys, numbers, print_settings, service
from pipeline.accounts.domains import describe_domains
from pipeline.core.clock import utc_now
from pipeline.customs import certifications
from pipeline.documents.pdf.logos import MAX_BYTES
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli import account_domains, account_leads
from pipeline.interfaces.cli.account_domains import AccountId
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, build_table, print_result, report_errors
from pipeline.interfaces.cli.profiles import default_account
from pipeline.interfaces.cli.session import ensure_account, open_current_runtime

app = typer.Typer(no_args_is_help=True, help="The merchants that exports belong to.")
keys_app = typer.Typer(no_args_is_help=True, help="The bearer keys of an account.")

_MAX_DAYS: Final = 36_500

OfAccount = Annotated[
    str,
    typer.Option(
        "--account",
        metavar="ACCOUNT",
        default_factory=default_account,
        show_default=False,
        help="The account that the key belongs to.",
    ),
]


class KeyRole(StrEnum):
    """The roles of a key; `--partner` gives `partner:ID`."""

    EXECUTE = api_keys.EXECUTE
    READ = api_keys.READ
    OPERATE = api_keys.OPERATE
    ADMIN = api_keys.ADMIN


@app.command("create")
@report_errors
def create_account(
    account: AccountId,
    name: Annotated[str, typer.Option(help="Its name for people.")],
    gs1_prefix: Annotated[
        str | None, typer.Option(metavar="DIGITS", help="Its GS1 company prefix, the base of its SSCCs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an account."""
    with open_current_runtime() as runtime:
        service.create_account(runtime, account, name, gs1_prefix=gs1_prefix, actor=COMMAND_LINE)
    print_result(
        {"id": account, "name": name, "gs1Prefix": gs1_prefix},
        f"[green]✓[/] account [bold]{escape(account)}[/]",
        hint=f"exports keys create --account {escape(account)}   creates its first key",
        as_json=as_json,
    )


app.command("mail-domains")(account_domains.set_mail_domains)
app.command("people-domains")(account_domains.set_people_domains)
app.command("leads")(account_leads.set_leads)


class Language(StrEnum):
    """The languages of printed documents."""

    ENGLISH = print_settings.ENGLISH
    FRENCH = print_settings.FRENCH


@app.command("languages")
@report_errors
def set_languages(
    account: AccountId,
    languages: Annotated[
        list[Language], typer.Argument(metavar="en [fr]", help="en for English, en fr for French beside English.")
    ],
    as_json: Json = False,
) -> None:
    """Set the languages of the documents that new exports print."""
    given = [each.value for each in languages]
    with open_current_runtime(must_exist=True) as runtime:
        kept = print_settings.set_languages(runtime, account, given, changed_by=COMMAND_LINE)
    print_result(
        {"id": account, "languages": kept.languages},
        f"[green]✓[/] new exports of account [bold]{escape(account)}[/] print {' and '.join(kept.languages)}",
        as_json=as_json,
    )


@app.command("logo")
@report_errors
def set_logo(
    account: AccountId,
    picture: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", exists=True, dir_okay=False, help="A PNG or a JPEG.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="New exports print no logo.")] = False,
    as_json: Json = False,
) -> None:
    """Set or remove the logo that new exports print."""
    if remove is (picture is not None):
        raise Failure("give either a FILE or --remove", code=ExitCode.USAGE, remedy="Leave out one of them.")
    with open_current_runtime(must_exist=True) as runtime:
        if picture is None:
            print_settings.remove_logo(runtime, account, changed_by=COMMAND_LINE)
            value: dict[str, object] = {"id": account, "logo": None}
            shown = "no logo"
        else:
            with picture.open("rb") as file:
                body = file.read(MAX_BYTES + 1)
            logo = print_settings.set_logo(runtime, account, body, changed_by=COMMAND_LINE)
            value = {"id": account, "logo": {"width": logo.width, "height": logo.height}}
            shown = f"the logo, {logo.width} x {logo.height} pixels"
    print_result(value, f"[green]✓[/] new exports of account [bold]{escape(account)}[/] print {shown}", as_json=as_json)


@app.command("skip-numbers")
@report_errors
def skip_numbers(
    account: AccountId,
    above: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="The highest package number that a partner has.")
    ] = None,
    above_sscc: Annotated[
        str | None, typer.Option(metavar="SSCC", help="The highest issued SSCC, or its serial, that a partner has.")
    ] = None,
    packages: Annotated[
        int, typer.Option(min=0, max=numbers.MAX_SKIPPED, help="How many package numbers the lost time needed at most.")
    ] = 0,
    ssccs: Annotated[
        int, typer.Option(min=0, max=numbers.MAX_SKIPPED, help="How many SSCCs the lost time needed at most.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Skip numbers after a restore or a failover; this cannot be undone.

    To a count, the command adds the numbers that workers may have reserved.
    """
    with open_current_runtime(must_exist=True) as runtime:
        following = numbers.skip_numbers(
            runtime, account, packages=packages, ssccs=ssccs, above=above, above_sscc=above_sscc, actor=COMMAND_LINE
        )
    value = {
        "id": account,
        "packagesSkipped": following.packages_skipped,
        "ssccsSkipped": following.ssccs_skipped,
        "nextPackageNumber": following.package_number,
        "nextSscc": following.sscc,
    }
    sscc = f", the next SSCC {following.sscc}" if following.sscc else ""
    print_result(
        value,
        f"[green]✓[/] account [bold]{escape(account)}[/]: the next package number is {following.package_number}{sscc}",
        as_json=as_json,
    )


@app.command("certifications")
@report_errors
def list_certifications(account: AccountId, as_json: Json = False) -> None:
    """List the USMCA certifications that live exports use, the next to end first."""
    with open_current_runtime(must_exist=True) as runtime:
        ensure_account(runtime, account)
        with runtime.db.read() as session:
            rows = certifications.list_certifications(session, account, utc_now().date())
    table = build_table(
        ("ends", "SKU", "HS", "certifier", "criterion", "first export", "next one"),
        (
            (
                f"{row.blanket_to} ({row.days_left} days)",
                row.sku,
                row.hs_code,
                row.certifier_name,
                row.criterion,
                row.export_id,
                "yes" if row.has_next else "no",
            )
            for row in rows
        ),
    )
    print_result(rows, table, as_json=as_json)


@app.command("list")
@report_errors
def list_accounts(as_json: Json = False) -> None:
    """List the accounts."""
    with open_current_runtime() as runtime, runtime.db.read() as session:
        rows = service.list_accounts(session)
    value = [
        {
            "id": row.id,
            "name": row.name,
            "gs1Prefix": row.gs1_prefix,
            "mailDomains": row.mail_domains,
            "peopleDomains": row.people_domains,
            "languages": print_settings.PrintSettings(french=row.prints_french).languages,
        }
        for row in rows
    ]
    table = build_table(
        ("account", "name", "GS1 prefix", "mail to", "people of", "created"),
        (
            (
                row.id,
                row.name,
                row.gs1_prefix or "",
                describe_domains(row.mail_domains),
                describe_domains(row.people_domains),
                f"{row.created_at:%Y-%m-%d}",
            )
            for row in rows
        ),
    )
    print_result(value, table, as_json=as_json)


@keys_app.command("create", epilog="Example: exports keys create --account acc_1 --role execute --role read --days 90")
@report_errors
def create_key(
    account: OfAccount,
    role: Annotated[
        list[KeyRole] | None, typer.Option(help="What the key may do; repeatable. [default: execute]")
    ] = None,
    partner: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A partner that the key may answer for; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "command line",
    test: Annotated[bool, typer.Option("--test", help="A test key: its exports never reach a live partner.")] = False,
    days: Annotated[
        int | None, typer.Option(min=1, max=_MAX_DAYS, help="Days until the key expires; without it, it does not.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key and show it once."""
    roles = [str(each) for each in role or ([] if partner else [KeyRole.EXECUTE])]
    roles += [f"partner:{each}" for each in partner or []]
    ends_at = _compute_end(days)
    mode: api_keys.Mode = "test" if test else "live"
    with open_current_runtime() as runtime:
        result = api_keys.create_key(
            runtime, account, name, mode=mode, roles=roles, expires_at=ends_at, actor=COMMAND_LINE
        )
    print_result(
        {"id": result.id, "key": result.bearer, "accountId": account, "mode": mode, "roles": roles},
        escape(result.bearer),
        hint=f"Store it now: the service keeps only its hash. It is key {result.id} of {escape(account)}, {mode}, "
        f"for {', '.join(roles)}.",
        as_json=as_json,
    )


def _compute_end(days: int | None) -> datetime | None:
    return utc_now() + timedelta(days=days) if days else None


@keys_app.command("list")
@report_errors
def list_keys(account: OfAccount, as_json: Json = False) -> None:
    """List an account's keys, without their secrets."""
    with open_current_runtime() as runtime:
        ensure_account(runtime, account)
        known = api_keys.list_keys(runtime, account)
    value = [
        {
            "id": key.id,
            "name": key.name,
            "mode": key.mode,
            "roles": sorted(key.roles),
            "createdAt": key.created_at.isoformat(),
            "expiresAt": key.expires_at and key.expires_at.isoformat(),
            "revokedAt": key.revoked_at and key.revoked_at.isoformat(),
            "lastUsedAt": key.last_used_at and key.last_used_at.isoformat(),
        }
        for key in known
    ]
    table = build_table(
        ("key", "name", "mode", "roles", "created", "last used", "state"),
        (
            (
                key.id,
                key.name,
                key.mode,
                ", ".join(sorted(key.roles)),
                f"{key.created_at:%Y-%m-%d}",
                f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
                _key_state(key),
            )
            for key in known
        ),
    )
    print_result(value, table, as_json=as_json)


def _key_state(key: api_keys.ApiKeyRecord) -> str:
    if key.revoked_at:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at:
        return f"{'expired' if key.expires_at <= utc_now() else 'until'} {key.expires_at:%Y-%m-%d}"
    return "valid"


@keys_app.command("rotate")
@report_errors
def rotate_key(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `exports keys list` shows it, or the whole key.")],
    account: OfAccount,
    overlap_hours: Annotated[int, typer.Option(min=0, max=720, help="Hours that the older key stays valid.")] = 24,
    days: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MAX_DAYS, help="Days until the new key expires; without it, when the older one would."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key with the same rights, shown once; the older key stays valid during the overlap."""
    key_id = api_keys.parse_key_id(key) if key.startswith("exp_") else key
    with open_current_runtime() as runtime:
        result = api_keys.rotate_key(
            runtime,
            account,
            key_id,
            overlap=timedelta(hours=overlap_hours),
            expires_at=_compute_end(days),
            actor=COMMAND_LINE,
        )
    ends_at = result.expires_at
    value = {"id": result.id, "key": result.bearer, "accountId": account, "replaces": key_id}
    print_result(
        value | {"expiresAt": ends_at and ends_at.isoformat()},
        escape(result.bearer),
        hint="Store it now: the service keeps only its hash."
        f" It {f'expires on {ends_at:%Y-%m-%d}' if ends_at else 'does not expire'}."
        f" Key {escape(key_id)} stays valid for {overlap_hours} h, if it does not expire sooner.",
        as_json=as_json,
    )


@keys_app.command("revoke")
@report_errors
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `exports keys list` shows it, or the whole key.")],
    account: OfAccount,
    as_json: Json = False,
) -> None:
    """Revoke a key now."""
    key_id = api_keys.parse_key_id(key) if key.startswith("exp_") else key
    with open_current_runtime() as runtime:
        api_keys.revoke_key(runtime, account, key_id, actor=COMMAND_LINE)
    print_result({"id": key_id, "revoked": True}, f"[green]✓[/] key {escape(key_id)} is revoked", as_json=as_json)
