"""The commands of `exports rules` that sign, store and activate rulesets, and the option `--rules`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from config.settings import get_settings
from pipeline.core.errors import DatabaseBusy
from pipeline.core.findings import Finding, count_by_rule
from pipeline.customs import rulesets
from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.stack import depends_on_rate
from pipeline.customs.decisions import find_rate
from pipeline.customs.reference.archive import (
    SIGNATURE,
    RulesFiles,
    create_private_key,
    derive_public_key,
    pack_rules,
    read_rules,
    sign_rules,
)
from pipeline.customs.reference.content import RulesContent, read_folder, rules_in_use, use_rules
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_result,
    report_errors,
    show_progress,
    stderr_console,
)
from pipeline.interfaces.cli.session import open_current_runtime
from pipeline.interfaces.event_text import count_noun
from pipeline.workflow.recheck import RecheckedPlan, recheck_plans

_OWNER_ONLY: Final = 0o600
#: The most changed plans that a recheck lists.
_MAX_LISTED: Final = 1_000

Rules = Annotated[
    Path | None,
    typer.Option(
        "--rules", metavar="PLACE", help="A folder or bundle of rules; by default EXPORTS_RULES, or this version's."
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of rules.")]
PrivateKey = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="The private key, made by `exports rules key`.")
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides this; it is recorded.")]


@contextmanager
def rules_of(place: Path | None) -> Iterator[RulesContent | None]:
    """Judge in the block by the rules of `--rules`, or else of EXPORTS_RULES, or else of this version.

    Yields None for those of this version. A folder needs no signature to be tried. Raises RulesInvalid.
    """
    place = place or get_settings().rules
    if place is None:
        yield None
        return
    with use_rules(_checked(read_place(place).content)) as content:
        yield content


def add_known_rate(facts: LineFacts) -> LineFacts:
    """Return the facts with the rate of the goods, if a heading depends on it and the database has an edition of the day.

    The rules are explained without a database too: then a person decides what depends on the rate.
    """
    if not depends_on_rate(facts):
        return facts
    try:
        with open_current_runtime(must_exist=True) as runtime, runtime.db.read() as session:
            return find_rate(session, facts)
    except (Failure, DatabaseBusy) as error:
        if not (isinstance(error, Failure) and error.code is ExitCode.NOT_FOUND):
            stderr_console().print(f"[yellow]without the imported tariff:[/] {escape(str(error))}", soft_wrap=True)
        return facts


def read_place(place: Path) -> RulesFiles:
    """Return the rules of a folder, signed or not, or of a bundle that a key of EXPORTS_RULES_KEYS signed."""
    return read_rules(place, () if place.is_dir() else get_settings().rules_keys)


def _checked(content: RulesContent) -> RulesContent:
    rulesets.check_content(content)
    return content


@report_errors
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key is, or will be written.")],
    as_json: Json = False,
) -> None:
    """Create a private key for signing rules, unless it exists, and print its public key for EXPORTS_RULES_KEYS."""
    created = not file.exists()
    if created:
        # Nobody else may read it, not even for a moment.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as opened:
            opened.write(create_private_key())
    public = _derive_public(file)
    text = f"{public}\n[dim]the public key of {escape(str(file))}: set EXPORTS_RULES_KEYS='[\"{public}\"]'[/]"
    print_result({"publicKey": public, "created": created}, text, as_json=as_json)


@report_errors
def copy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to create.")],
    rules: Rules = None,
    as_json: Json = False,
) -> None:
    """Write the files of the rules into a new folder, to change them there."""
    with rules_of(rules):
        content = rules_in_use()
    try:
        folder.mkdir(parents=True)
        for name, written in content.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(written)
    except OSError as error:
        remedy = "Name a folder that does not exist yet."
        raise Failure(f"{folder} cannot be written: {error.strerror}", code=ExitCode.USAGE, remedy=remedy) from error
    text = f"[green]✓[/] wrote {count_noun(len(content.files), 'file')} to {escape(str(folder))}"
    print_result({"folder": str(folder), "contentHash": content.content_hash}, text, as_json=as_json)


@report_errors
def sign(folder: Folder, key: PrivateKey, as_json: Json = False) -> None:
    """Check a folder of rules and write its signature into it."""
    content = _checked(read_folder(folder))
    signature = _sign(content, key)
    (folder / SIGNATURE).write_text(signature, encoding="ascii")
    text = f"[green]✓[/] signed {escape(str(folder))}, {content.content_hash}"
    print_result({"file": str(folder / SIGNATURE), "contentHash": content.content_hash}, text, as_json=as_json)


@report_errors
def bundle(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle to write, such as rules.zip.")],
    key: PrivateKey,
    as_json: Json = False,
) -> None:
    """Check a folder of rules and write it as one signed file."""
    content = _checked(read_folder(folder))
    packed = pack_rules(content, _sign(content, key))
    # It is renamed into its place, because a running process may read the old one.
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(packed)
    part.replace(file)
    text = f"[green]✓[/] wrote {escape(str(file))}, {len(packed)} bytes, {content.content_hash}"
    print_result({"file": str(file), "contentHash": content.content_hash}, text, as_json=as_json)


@report_errors
def stored(as_json: Json = False) -> None:
    """List the stored rulesets: the active one, then the others."""
    with open_current_runtime(must_exist=True) as runtime, runtime.db.read() as session:
        rows = rulesets.list_stored(session)
    table = build_table(
        ("ruleset", "as of", "state", "from", "signed by", "content hash"),
        (
            (row.ruleset_id, str(row.as_of), _describe_state(row), row.place, row.signed_by or "", row.content_hash)
            for row in rows
        ),
    )
    value = [
        {
            "rulesetId": row.ruleset_id,
            "asOf": row.as_of.isoformat(),
            "contentHash": row.content_hash,
            "active": row.active,
            "activatedAt": None if row.activated_at is None else row.activated_at.isoformat(),
            "activatedBy": row.activated_by,
            "place": row.place,
            "signedBy": row.signed_by,
        }
        for row in rows
    ]
    print_result(value, table, as_json=as_json)


@report_errors
def store(
    place: Annotated[Path, typer.Argument(metavar="PLACE", help="A folder of rules or a signed bundle.")],
    as_json: Json = False,
) -> None:
    """Store rules without activating them."""
    found = read_rules(place, get_settings().rules_keys)
    with open_current_runtime() as runtime, runtime.db.write() as session:
        rules = rulesets.store_rules(session, found, str(place))
    text = f"[green]✓[/] stored {escape(rules.id)}; `exports rules activate {escape(rules.id)} --by NAME` activates it"
    print_result({"rulesetId": rules.id, "contentHash": rules.content_hash}, text, as_json=as_json)


@report_errors
def activate(
    ruleset: Annotated[str, typer.Argument(metavar="RULESET", help="The id or the content hash of stored rules.")],
    by: By,
    as_json: Json = False,
) -> None:
    """Make stored rules the active ones of all processes, from their next piece of work on."""
    with open_current_runtime(must_exist=True) as runtime:
        content_hash, changed = rulesets.switch_rules(runtime, ruleset, by)
    verb = "is now active" if changed else "was already active"
    text = f"[green]✓[/] {escape(ruleset)} {verb}"
    print_result({"contentHash": content_hash, "activated": changed}, text, as_json=as_json)


@report_errors
def recheck(
    limit: Annotated[int | None, typer.Option(min=1, help="The most plans to check; by default all.")] = None,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="PLACE", help="Only try this folder or bundle; write nothing, notify nobody."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the plans whose entry is not over by the active rules and editions; notify the operators of each that changed.

    A recheck that was interrupted continues where it ended.
    """
    checked, changed = 0, list[RecheckedPlan]()
    tried = None if rules is None else _checked(read_place(rules).content)
    with open_current_runtime(must_exist=True) as runtime, show_progress("looking for plans") as show:
        for each in recheck_plans(runtime, partial(show, "checking plans"), most=limit, tried=tried):
            checked += 1
            if each.changed or each.problem is not None:
                changed.append(each)
    table = build_table(
        ("account", "batch", "export", "ruleset", "editions", "new findings", "gone"),
        (
            (
                each.account_id,
                each.batch_id,
                each.export_id or "not executed",
                each.ruleset,
                ", ".join(each.editions),
                each.problem or _count_rules(each.appeared),
                _count_rules(each.gone),
            )
            for each in changed[:_MAX_LISTED]
        ),
    )
    value = {
        "checked": checked,
        "changed": len(changed),
        "plans": [
            {
                "planId": each.plan_id,
                "accountId": each.account_id,
                "batchId": each.batch_id,
                "exportId": each.export_id,
                "ruleset": each.ruleset,
                "editions": [*each.editions],
                "editionsBefore": None if each.editions_before is None else [*each.editions_before],
                "appeared": [finding.model_dump(mode="json", by_alias=True) for finding in each.appeared],
                "gone": [finding.model_dump(mode="json", by_alias=True) for finding in each.gone],
                "problem": each.problem,
            }
            for each in changed[:_MAX_LISTED]
        ],
    }
    verb = "changed" if tried is None else "would change; nothing was written"
    text = f"[green]✓[/] checked {count_noun(checked, 'plan')}; {len(changed)} {verb}"
    print_result(value, *([table] if changed else []), text, as_json=as_json)


def _count_rules(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{each.findings} {each.rule} {each.severity}" for each in count_by_rule(findings))


def _describe_state(row: rulesets.ListedRuleset) -> str:
    if row.active:
        return "active"
    return "never active" if row.activated_at is None else f"active from {row.activated_at:%Y-%m-%d}"


def _derive_public(file: Path) -> str:
    try:
        return derive_public_key(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _key_failure(file, error) from error


def _sign(content: RulesContent, file: Path) -> str:
    try:
        return sign_rules(content, file.read_bytes())
    except (OSError, ValueError) as error:
        raise _key_failure(file, error) from error


def _key_failure(file: Path, error: OSError | ValueError) -> Failure:
    reason = error.strerror if isinstance(error, OSError) else error
    remedy = "Create one by `exports rules key FILE`."
    return Failure(f"{file} cannot sign: {reason}", code=ExitCode.USAGE, remedy=remedy)


COMMANDS: Final = (copy, key, sign, bundle, stored, store, activate, recheck)
