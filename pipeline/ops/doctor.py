"""Whether this machine can run the service: each thing that it stands on is tried, and what fails comes with a remedy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select, text
from sqlmodel import col

from config.network import is_loopback
from config.settings import Settings
from config.weak_credentials import find_weakness
from pipeline.accounts import recipients, secrets
from pipeline.core import fonts
from pipeline.core.db import Database, database_now, is_behind_pooler, translate_errors, utc_now
from pipeline.core.errors import DatabaseBusy, ExportsError, MessageBrokerDown, RulesInvalid
from pipeline.core.runtime import open_store
from pipeline.customs.reference.bundle import load_rules
from pipeline.deliveries.channels import queue_durability, queue_reader
from pipeline.deliveries.channels.email import EmailChannel
from pipeline.documents.pdf.supervisor import Renderer
from pipeline.exports.models import Artifact
from pipeline.ops.migrations import row_security
from pipeline.ops.migrations.runner import SchemaStatus, schema_status

#: Beyond it leases and signatures are misjudged.
MAX_SKEW_SECONDS: Final = 5.0
MIN_FONTS: Final = 4
#: What libpq calls a connection on which the server's certificate is checked; `require` encrypts, and takes any.
_VERIFYING_SSL_MODES: Final = frozenset({"verify-ca", "verify-full"})


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check: what was found, how long it took, and what to do where it failed."""

    name: str
    ok: bool
    found: str
    seconds: float
    remedy: str | None = None


class CheckFailed(Exception):
    """A check's own finding that something is wrong."""


def run_checks(settings: Settings) -> Iterator[CheckResult]:
    """Yield the outcome of every check, in an order in which the first failure explains the later ones."""
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
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the doctor is there to say
            detail = str(error).splitlines()[0] if str(error) else ""
            found = detail if isinstance(error, ExportsError | CheckFailed) else f"{type(error).__name__}: {detail}"
            unreachable = _unreachable_check(error) or name
            remedy = remedies[unreachable]
            if unreachable != name:
                found = f"{_blocked_message(unreachable)}: {found}"
            failed.add(name)
        yield CheckResult(name, remedy is None, found, seconds=time.monotonic() - began, remedy=remedy)


def _blocked_message(dependency: str) -> str:
    return f"cannot be checked without the {dependency}"


def _unreachable_check(error: Exception) -> str | None:
    """Return the check of what did not answer, whichever check asked it."""
    if isinstance(error, DatabaseBusy):
        return "database"
    return "message broker" if isinstance(error, MessageBrokerDown) else None


def _secret_key(settings: Settings) -> str:
    weakness = settings.weak_secret_key
    if weakness is None:
        return "set"
    if settings.needs_own_secret_key:
        raise CheckFailed(weakness)
    return f"{weakness}; enough for one machine"


def _database(settings: Settings) -> str:
    if weakness := find_weakness(settings.database_url):
        raise CheckFailed(f"it {weakness}")
    with _open_database(settings) as database, database.read() as session:
        if database.is_sqlite:
            version = session.scalar(text("select sqlite_version()"))
            return f"SQLite {version}, {database.url.database}"
        version = str(session.scalar(text("show server_version"))).split(" ", 1)[0]
        driver_connection = session.connection().connection.driver_connection
        tls_warning = (
            ""
            if driver_connection is None
            else _unverified_tls_warning(driver_connection.info.host, driver_connection.info.get_parameters())
        )
        return f"PostgreSQL {version}, {database.url.host}/{database.url.database}{tls_warning}"


def _unverified_tls_warning(host: str, given: Mapping[str, str]) -> str:
    """Return what to say of a connection over the network that checks no certificate; nothing of another."""
    if (
        host.startswith("/")
        or is_loopback(given.get("hostaddr") or host)
        or given.get("sslmode") in _VERIFYING_SSL_MODES
    ):
        return ""
    return (
        "; but the server's certificate is not checked, and others could read the line or answer in its place: add"
        " sslmode=verify-full and sslrootcert=system (or the file of your authority) to DATABASE_URL"
    )


def _database_settings(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        if database.is_sqlite:
            return "SQLite keeps its own"
        expected = {**database.transaction_settings, "transaction_isolation": "repeatable read"}
        rows = session.execute(
            text("select name, setting from pg_settings where name = any(:names)"), {"names": list(expected)}
        )
        in_force = {row.name: row.setting for row in rows}
        pooled = is_behind_pooler(session.connection().connection.driver_connection)
    if mismatched := [name for name in expected if in_force.get(name) != expected[name]]:
        found = ", ".join(f"{name} is {in_force.get(name)} and should be {expected[name]}" for name in mismatched)
        raise CheckFailed(f"in a transaction, {found}")
    return f"{len(expected)} hold in each transaction, {'through a pooler' if pooled else 'without a pooler'}"


def _migrations(settings: Settings) -> str:
    with _open_database(settings) as database:
        status = schema_status(database)
    if status is SchemaStatus.BEHIND:
        raise CheckFailed("the tables are not those of this version")
    if status is SchemaStatus.AHEAD:
        return "the tables are a newer version's, on which this one works until it is replaced"
    return "at the newest revision"


def _row_security(settings: Settings) -> str:
    with _open_database(settings) as database:
        if database.is_sqlite:
            return "SQLite has none; every query names the account"
        with translate_errors(), database.engine.connect() as connection:
            if unprotected := row_security.tables_without_policy(connection):
                raise CheckFailed(
                    f"row-level security is not as it should be on {', '.join(unprotected)}: run `exports migrate`, and drop every"
                    f" policy there but {row_security.POLICY}"
                )
            if row_security.bypasses_policies(connection):
                return "up, but this role is a superuser or has BYPASSRLS, and walks through them"
    return "row-level security holds this role"


def _partner_secrets(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        check = secrets.check_secrets(session, settings)
    if check.unreadable:
        raise CheckFailed(f"{len(check.unreadable)} of {check.count} do not open, such as of {check.unreadable[0]}")
    return f"{check.count} open"


def _message_broker(settings: Settings) -> str:
    if settings.embedded:
        return "inside the process of `exports serve`"
    if weakness := find_weakness(settings.broker_url.get_secret_value()):
        raise CheckFailed(f"it {weakness}")
    queue_reader.check_connection(settings)
    return f"{settings.message_broker} answers"


def _queues(settings: Settings) -> str:
    if settings.message_broker != "redis":
        return "in this process" if settings.embedded else "RabbitMQ keeps what lies in them"
    with _open_database(settings) as database, database.read() as session:
        has_queue_readers = recipients.has_queue_recipients(session)
    durability = queue_durability.check_durability(settings)
    if durability.danger is not None and has_queue_readers:
        raise CheckFailed(durability.danger)
    return durability.found if has_queue_readers else f"{durability.found}; no partner is told by queue"


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
            return "no export has one yet"
        if not open_store(settings, database).has(row.sha256):
            raise CheckFailed(f"{row.filename} of {row.export_id}, the newest, is not in the artifact store")
    return "the newest is in the artifact store"


def _mail_server(settings: Settings) -> str:
    if settings.smtp_url is None:
        return "none is set; nobody is told by e-mail"
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


def _rules(_: Settings) -> str:
    try:
        rules, _others = load_rules()
    except RulesInvalid as error:
        raise CheckFailed(f"{len(error.errors)} wrong, the first: {error.errors[0]}") from error
    today = utc_now().date()
    age = f"ruleset {rules.id} as of {rules.as_of}, {(today - rules.as_of).days} days old"
    late = rules.days_too_old(today)
    return (
        age if not late else f"{age}: look for changes of the law; they are trusted for {rules.review.within_days} days"
    )


def _clock(settings: Settings) -> str:
    with _open_database(settings) as database, database.read() as session:
        before = utc_now()
        theirs = session.execute(select(database_now())).scalar_one()
        after = utc_now()
    # Anywhere between the two readings counts as equal.
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
        "Let the pooler give a transaction one connection from BEGIN to COMMIT, and pass each SET LOCAL on to it.",
    ),
    ("migrations", _migrations, "Run `exports migrate`; `exports serve` does it by itself on SQLite."),
    ("row-level security", _row_security, "Run `exports migrate` as the role that owns the tables."),
    (
        "partner secrets",
        _partner_secrets,
        "Give the key that they are sealed under in EXPORTS_SECRET_KEYS_PREVIOUS, or rotate their secrets and credentials.",
    ),
    (
        "message broker",
        _message_broker,
        "Check BROKER_URL: address, user, password, and that the server runs. What is owed waits in the database.",
    ),
    ("messages in queues", _queues, f"{queue_durability.REMEDY[0].upper()}{queue_durability.REMEDY[1:]}."),
    ("artifact store", _artifact_store, "Check ARTIFACTS_URL: that the folder or bucket exists and may be written."),
    (
        "documents",
        _documents,
        "Check ARTIFACTS_URL. `exports artifacts check` names all that is gone, `exports artifacts restore` makes it again.",
    ),
    (
        "mail server",
        _mail_server,
        "Check EXPORTS_SMTP_URL: address, user, password, and that its certificate is for its name.",
    ),
    ("fonts", _fonts, "Restore templates/fonts/ from the release: documents are set in these alone."),
    (
        "PDF engine",
        _pdf_engine,
        "Raise the limits of this process (see `ulimit -a`) and let it write to /tmp. Documents wait until then.",
    ),
    ("customs rules", _rules, "Run `exports rules check`: it says all that is wrong with config/rules, and where."),
    ("clock", _clock, "Set this machine's clock by NTP: signatures carry its time."),
)
DEPENDENCIES: Final[Mapping[str, Sequence[str]]] = {
    "database settings": ["database"],
    "migrations": ["database"],
    "row-level security": ["database"],
    "partner secrets": ["migrations"],
    "documents": ["migrations"],
    "clock": ["database"],
}
#: Elsewhere nothing is asked.
DEPENDENCIES_ON_REDIS: Final[Mapping[str, Sequence[str]]] = {"messages in queues": ["migrations", "message broker"]}
