"""How the commands open the database: at this version's revision, or with a message on how to get there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config.settings import get_settings
from pipeline.core import installation
from pipeline.core.db_engines import sqlite_file
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.exports.models import Account
from pipeline.interfaces.cli.output import ExitCode, Failure
from pipeline.ops.migrations.runner import SchemaStatus, check_tables, schema_status, upgrade_database

_REMEDY: Final = "Set DATABASE_URL to the service's database, such as sqlite:////srv/exports/var/exports.db, or run this in its folder."
_SQLITE_HEADER: Final = b"SQLite format 3\0"


@contextmanager
def open_current_runtime(*, must_exist: bool = False) -> Iterator[Runtime]:
    """Open a runtime whose database is at this version's revision or a newer one; raises Failure if it is not.

    A missing SQLite database is created, unless `must_exist`: on a new database such a command would always report
    that all is well.
    """
    settings = get_settings()
    _check_database_file(settings.database_url, must_exist=must_exist)
    try:
        runtime = open_runtime(settings)
    except OSError as error:
        raise Failure(f"the database cannot be created: {error}", code=ExitCode.UNREACHABLE, remedy=_REMEDY) from error
    try:
        ensure_current(runtime)
        yield runtime
    finally:
        runtime.close()


def _check_database_file(database_url: str, *, must_exist: bool) -> None:
    try:
        file = sqlite_file(make_url(database_url))
    except ArgumentError as error:
        raise Failure("DATABASE_URL must be the address of a database", code=ExitCode.USAGE, remedy=_REMEDY) from error
    if file is None:
        return
    header = _read_header(file)
    if must_exist and not header:
        raise Failure(f"there is no database {file.absolute()}", code=ExitCode.NOT_FOUND, remedy=_REMEDY)
    if header not in {b"", _SQLITE_HEADER}:
        raise Failure(f"{file.absolute()} is not a SQLite database", code=ExitCode.USAGE, remedy=_REMEDY)


def _read_header(file: Path) -> bytes:
    try:
        with file.open("rb") as stored:
            return stored.read(len(_SQLITE_HEADER))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Failure(f"the database cannot be read: {error}", code=ExitCode.UNREACHABLE, remedy=_REMEDY) from error


def ensure_account(runtime: Runtime, account: str) -> None:
    """Raise NotFound for an unknown account, so that a typo does not look like an empty account."""
    with runtime.db.read() as session:
        if session.get(Account, account) is None:
            raise NotFound(f"there is no account {account}")


def ensure_current(runtime: Runtime) -> None:
    """Ensure that the database is at this version's revision or a newer one.

    Only this service uses a SQLite file, so it is migrated here. PostgreSQL is migrated by the release step only;
    until then this raises Failure. Raises SchemaMismatch if a SQLite file has the revision, but other tables.
    """
    status = schema_status(runtime.db)
    if status is SchemaStatus.CURRENT and runtime.db.is_sqlite:
        check_tables(runtime.db)
    if status is not SchemaStatus.BEHIND:
        return
    if not runtime.db.is_sqlite:
        raise Failure(
            "the database is not at this version's revision",
            code=ExitCode.UNREACHABLE,
            remedy="Run `exports migrate` once, with the same DATABASE_URL.",
        )
    upgrade_database(runtime.db)
    if runtime.settings.installation is not None:
        installation.adopt(runtime.db, runtime.settings.installation)
