"""The doctor: it checks everything that the service needs on this machine, and names a remedy for each failure."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from config.network import is_loopback
from config.settings import Settings
from config.weak_credentials import find_weakness
from pipeline.accounts import recipients, secrets
from pipeline.core import fonts, installation
from pipeline.core.clock import utc_now
from pipeline.core.db import Database, database_now, translate_errors
from pipeline.core.db_engines import is_behind_pooler
from pipeline.core.errors import DatabaseBusy, ExportsError, MessageBrokerDown, RulesInvalid, SchemaMismatch
from pipeline.core.runtime import open_store
from pipeline.customs import rulesets
from pipeline.customs.reference.archive import read_rules
from pipeline.customs.reference.content import RulesContent, packaged_rules, use_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.deliveries.channels import queue_durability, queue_reader
from pipeline.deliveries.channels.email import EmailChannel
from pipeline.deliveries.mail_replies import check_mailbox
from pipeline.documents.pdf.supervisor import Renderer
from pipeline.exports.models import Artifact
from pipeline.exports.numbers import PREFIX_NEARLY_USED, find_most_used_prefix
from pipeline.exports.sscc import last_serial
from pipeline.ops.migrations import row_security
from pipeline.ops.migrations.runner import SchemaStatus, check_tables, schema_status

#: With more skew, leases and signatures are judged wrongly.
MAX_SKEW_SECONDS: Final = 5.0
MIN_FONTS: Final = 4
#: The sslmodes of libpq that check the server's certificate; `require` encrypts, but accepts any certificate.
_VERIFYING_SSL_MODES: Final = frozenset({"verify-ca", "verify-full"})


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: what was found, how long it took, and the remedy if it failed."""

    name: str
    ok: bool
    found: str
    seconds: float
    remedy: str | None = None


class CheckFailed(Exception):
    """A check found something wrong."""


def run_checks(settings: Settings) -> Iterator[CheckResult]:
    """Yield the result of every check, in an order that lets the first failure explain later ones."""
    failed: set[str] = set()
    dependencies = {**DEPENDENCIES, **(DEPENDENCIES_ON_REDIS if settings.message_broker == "redis" else {})}
    remedies = {name: remedy for name, _, remedy in CHECKS}
    for name, check, _ in CHECKS:
        if failed_dependency := next((each for each in dependencies.get(name, ()) if each in failed), None):
            failed.add(name)
            yield CheckResult(name, ok=False, found=_blocked_message(failed_dependency), seconds=0)
            continue
        began = time.monotonic()
        try:
            found, remedy = check(settings), None
        except Exception as error:  # noqa: BLE001 - the doctor reports every error
            detail = str(error).splitlines()[0] if str(error) else ""
            found = detail if isinstance(error, ExportsError | CheckFailed) else f"{type(error).__name__}: {detail}"
            unreachable = _unreachable_check(error) or name
            remedy = error.remedy if isinstance(error, SchemaMismatch) else remedies[unreachable]
            if unreachable != name:
                found = f"{_blocked_message(unreachable)}: {found}"
            failed.add(name)
        yield CheckResult(name, remedy is None, found, seconds=time.monotonic() - began, remedy=remedy)


def _blocked_message(dependency: str) -> str:
    return f"cannot be checked without the {dependency}"


def _unreachable_check(error: Exception) -> str | None:
    """Return the check whose server did not answer, or None."""
    if isinstance(error, DatabaseBusy):
        return "database"
    return "message broker" if isinstance(error, MessageBrokerDown) else None


def _secret_key(settings: Settings) -> str:
    weakness = settings.weak_secret_key
    if weakness is None:
        return "set"
    if settings.needs_own_secret_key:
        raise CheckFailed(weakness)
    return f"{weakness}; sufficient for one machine"


def _database(settings: Settings) -> str:
    if weakness := find_weakness(settings.database_url):
        raise CheckFailed(f"it {weakness}")
    with _open_database(settings) as database, database.read() as session:
        if database.is_sqlite:
            version = session.scalar(text("select sqlite_version()"))
            return f"SQLite {version}, {database.url.database}"
        version = str(session.scalar(text("show server_version"))).split(" ", 1)[0]
        driver_connection = session.connection().connection.driver_connection
        # Of several servers, the one that this connection found.
        server = None if driver_connection is None else driver_connection.info
        tls_warning = "" if server is None else _unverified_tls_warning(server.host, server.get_parameters())
        host = database.url.host if server is None else server.host
        return f"PostgreSQL {version}, {host}/{database.url.database}{tls_warning}"


def _unverified_tls_warning(host: str, given: Mapping[str, str]) -> str:
    """Return a warning if the connection crosses the network without a certificate check, else an empty string."""
    if (
        host.startswith("/")
        or is_loopback(given.get("hostaddr") or host)
        or given.get("sslmode") in _VERIFYING_SSL_MODES
    ):
        return ""
    return (
        "; but the server's certificate is not checked, and others could read or impersonate the connection: add"
        " sslmode=verify-full and sslrootcert=system (or the file of your certificate authority) to DATABASE_URL"
    )


def _database_settings(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        if database.is_sqlite:
            return "SQLite needs none"
        expected = {**database.transaction_settings, "transaction_isolation": "repeatable read"}
        rows = session.execute(
            text("select name, setting from pg_settings where name = any(:names)"), {"names": list(expected)}
        )
        in_force = {row.name: row.setting for row in rows}
        pooled = is_behind_pooler(session.connection().connection.driver_connection)
    if mismatched := [name for name in expected if in_force.get(name) != expected[name]]:
        found = ", ".join(f"{name} is {in_force.get(name)} but must be {expected[name]}" for name in mismatched)
        raise CheckFailed(f"in a transaction, {found}")
    return f"{len(expected)} are in force in each transaction, {'through a pooler' if pooled else 'without a pooler'}"


def _migrations(settings: Settings) -> str:
    with _open_database(settings) as database:
        status = schema_status(database)
        if status is SchemaStatus.CURRENT:
            check_tables(database)
    if status is SchemaStatus.BEHIND:
        raise CheckFailed("the tables are missing or older than this version")
    if status is SchemaStatus.AHEAD:
        return "the tables are of a newer version; this version works with them until it is replaced"
    return "at the newest revision"


def _installation(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        if problem := installation.find_problem(session, settings):
            raise CheckFailed(problem)
        recorded = installation.read_name(session)
    if recorded is not None:
        return f"the database belongs to {recorded}"
    return "the database names none, so a copy of it would send messages too: set EXPORTS_INSTALLATION and run `exports migrate`"


def _row_security(settings: Settings) -> str:
    with _open_database(settings) as database:
        if database.is_sqlite:
            return "SQLite has none; every query names the account"
        with translate_errors(), database.engine.connect() as connection:
            if unprotected := row_security.tables_without_policy(connection):
                raise CheckFailed(
                    f"row-level security is missing or wrong on {', '.join(unprotected)}: run `exports migrate`,"
                    f" and drop all policies there except {row_security.POLICY}"
                )
            if row_security.bypasses_policies(connection):
                return "active, but this role is a superuser or has BYPASSRLS, so it does not apply"
    return "row-level security applies to this role"


def _partner_secrets(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        check = secrets.check_secrets(session, settings)
    if check.unreadable:
        raise CheckFailed(
            f"{len(check.unreadable)} of {check.count} cannot be decrypted, such as that of {check.unreadable[0]}"
        )
    return f"{check.count} can be decrypted"


def _gs1_prefixes(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        most = find_most_used_prefix(session)
    if most is None:
        return "no account has one"
    left = last_serial(most.gs1_prefix) - most.issued
    found = f"{most.account_id} has used {most.part:.0%} of {most.gs1_prefix}; {left} serials are left"
    if most.part >= PREFIX_NEARLY_USED:
        raise CheckFailed(found)
    return found


def _message_broker(settings: Settings) -> str:
    if settings.embedded:
        return "inside the process of `exports serve`"
    if weakness := find_weakness(settings.broker_url.get_secret_value()):
        raise CheckFailed(f"it {weakness}")
    queue_reader.check_connection(settings)
    return f"{settings.message_broker} answers"


def _queues(settings: Settings) -> str:
    if settings.message_broker != "redis":
        return "in this process" if settings.embedded else "RabbitMQ keeps their messages"
    with _open_database(settings) as database, database.read() as session:
        has_queue_readers = recipients.has_queue_recipients(session)
    durability = queue_durability.check_durability(settings)
    if durability.danger is not None and has_queue_readers:
        raise CheckFailed(durability.danger)
    return durability.found if has_queue_readers else f"{durability.found}; no partner is reached by queue"


def _artifact_store(settings: Settings) -> str:
    with _open_database(settings) as database:
        open_store(settings, database).check()
    return "wrote, read and deleted an object"


def _documents(settings: Settings) -> str:
    newest = (
        select(col(Artifact.sha256), col(Artifact.filename), col(Artifact.export_id))
        .where(col(Artifact.purged_at).is_(None))
        .order_by(col(Artifact.id).desc())
        .limit(1)
    )
    with _open_database(settings) as database:
        with database.read() as session:
            row = session.execute(newest).first()
        if row is None:
            return "no export has a document yet"
        if not open_store(settings, database).has(row.sha256):
            raise CheckFailed(f"{row.filename} of {row.export_id}, the newest, is not in the artifact store")
    return "the newest is in the artifact store"


def _mail_server(settings: Settings) -> str:
    if settings.smtp_url is None:
        return "none is set; no e-mail is sent"
    return f"signed in at {EmailChannel(settings).check_server()}"


def _fonts(_: Settings) -> str:
    files = fonts.font_files()
    if len(files) < MIN_FONTS:
        raise CheckFailed(f"{len(files)} fonts in {fonts.FONTS}")
    return f"{len(files)} files, {len(fonts.printable_characters())} characters"


def _pdf_engine(_: Settings) -> str:
    renderer = Renderer()
    try:
        renderer.start()
    finally:
        renderer.close()
    return "set a page"


def _rules(settings: Settings) -> str:
    try:
        given = packaged_rules() if settings.rules is None else read_rules(settings.rules, settings.rules_keys).content
        given_id = rulesets.check_content(given).id
    except RulesInvalid as error:
        raise CheckFailed(error.summary) from error
    with use_rules(_read_active_rules(settings) or given):
        rules = ruleset()
    today = utc_now().date()
    found = f"ruleset {rules.id} as of {rules.as_of}, {rules.days_old(today)} days old"
    if rules.content_hash != given.content_hash:
        found += f"; it is active, but the rules of {settings.rules or 'this version'} are {given_id}: `exports rules stored`"
    if rules.days_too_old(today):
        found += f": check for changes of the law; a ruleset is valid for {rules.review.within_days} days"
    return found


def _read_active_rules(settings: Settings) -> RulesContent | None:
    """Return the active rules, or None if none are: the check of the database reports what is wrong with it."""
    with suppress(DatabaseBusy, DBAPIError), _open_database(settings) as database, database.read() as session:
        return rulesets.read_active(session)
    return None


def _clock(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        before = utc_now()
        theirs = session.execute(select(database_now())).scalar_one()
        after = utc_now()
    # A database time between the two readings counts as equal.
    skew = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if skew > MAX_SKEW_SECONDS:
        raise CheckFailed(f"this machine and the database are {skew:.1f} s apart")
    return f"this machine and the database are less than {max(skew, 0.1):.1f} s apart"


@contextmanager
def _open_database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url, pool=1, timeout_seconds=min(5, settings.database_timeout_seconds))
    try:
        yield database
    finally:
        database.dispose()


CHECKS: Final[tuple[tuple[str, Callable[[Settings], str], str], ...]] = (
    ("secret key", _secret_key, "Set EXPORTS_SECRET_KEY to 32 or more random characters, the same on every machine."),
    (
        "database",
        _database,
        "Check DATABASE_URL: the address, the password, and that the server runs or the folder may be written.",
    ),
    (
        "database settings",
        _database_settings,
        "Configure the pooler to keep one connection from BEGIN to COMMIT and to pass on each SET LOCAL.",
    ),
    ("migrations", _migrations, "Run `exports migrate`; `exports serve` does it automatically on SQLite."),
    ("installation", _installation, f"{installation.REMEDY[0].upper()}{installation.REMEDY[1:]}."),
    ("row-level security", _row_security, "Run `exports migrate` as the role that owns the tables."),
    (
        "partner secrets",
        _partner_secrets,
        "Add the key that encrypted them to EXPORTS_SECRET_KEYS_PREVIOUS, or rotate their secrets and credentials.",
    ),
    (
        "GS1 prefixes",
        _gs1_prefixes,
        "Ask GS1 for another company prefix, and create an account with it; or give the SSCCs in the plans.",
    ),
    (
        "message broker",
        _message_broker,
        "Check BROKER_URL: address, user, password, and that the server runs. Due work waits in the database.",
    ),
    ("messages in queues", _queues, f"{queue_durability.REMEDY[0].upper()}{queue_durability.REMEDY[1:]}."),
    ("artifact store", _artifact_store, "Check ARTIFACTS_URL: the folder or bucket must exist and be writable."),
    (
        "documents",
        _documents,
        "Check ARTIFACTS_URL. `exports artifacts check` lists lost documents, `exports artifacts restore` restores them.",
    ),
    (
        "mail server",
        _mail_server,
        "Check EXPORTS_SMTP_URL: address, user and password. The server's certificate must be for its name; name that of its own authority in SSL_CERT_FILE.",
    ),
    (
        "mailbox",
        check_mailbox,
        "Check EXPORTS_IMAP_URL: address, user, password and folder. The server's certificate must be for its name.",
    ),
    ("fonts", _fonts, "Restore templates/fonts/ from the release: documents use only these."),
    (
        "PDF engine",
        _pdf_engine,
        "Raise the limits of this process (see `ulimit -a`) and let it write to /tmp. Until then no document is rendered.",
    ),
    (
        "customs rules",
        _rules,
        "Run `exports rules check`, with the place of EXPORTS_RULES if it is set: it lists all errors.",
    ),
    ("clock", _clock, "Set this machine's clock by NTP: signatures contain its time."),
)
DEPENDENCIES: Final[Mapping[str, Sequence[str]]] = {
    "database settings": ["database"],
    "migrations": ["database"],
    "installation": ["migrations"],
    "row-level security": ["migrations"],
    "partner secrets": ["migrations"],
    "GS1 prefixes": ["migrations"],
    "documents": ["migrations"],
    "clock": ["database"],
}
#: With other message brokers this check asks no server.
DEPENDENCIES_ON_REDIS: Final[Mapping[str, Sequence[str]]] = {"messages in queues": ["migrations", "message broker"]}
