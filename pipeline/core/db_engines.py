"""Engines of both databases with our settings: files, connections, and how a transaction begins."""

import select
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline.core import deadline, tenancy
from pipeline.core.clock import Clock

_SQLITE_FORMAT: Final = "%Y-%m-%d %H:%M:%S.%f"

#: Errors leave out a statement's parameters: they hold addresses and prices, which no log may hold.
HIDE_PARAMETERS: Final = True

#: Only the owner may read a new SQLite database: it holds addresses, prices and sealed secrets.
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600

#: How long after its last use a connection to PostgreSQL is used without asking the server: that costs a round trip.
_TRUSTED_SECONDS: Final = 1.0
_USED_AT: Final = "used_at"


def sqlite_file(url: URL) -> Path | None:
    """Return the path of the SQLite database; None in memory, for another database, and for a URI that only SQLite parses."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return Path(url.database)


def open_sqlite(url: URL, timeout_seconds: float, clock: Clock) -> Engine:
    """Return an engine of SQLite; only the owner may read a new file. SQL's `instant_after` reads the clock."""
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    engine = create_engine(
        url, connect_args={"timeout": timeout_seconds, "check_same_thread": False}, hide_parameters=HIDE_PARAMETERS
    )

    def instant_after(seconds: float | None) -> str | None:
        # Without seconds it is NULL, as on PostgreSQL.
        return (
            None if seconds is None else (clock().astimezone(UTC) + timedelta(seconds=seconds)).strftime(_SQLITE_FORMAT)
        )

    def deadline_after(seconds: float, before: str | None, lead_seconds: float | None, ahead_seconds: float) -> str:
        now = clock().astimezone(UTC) + timedelta(seconds=ahead_seconds)
        due = now + timedelta(seconds=seconds)
        if before is not None and lead_seconds is not None:
            due = max(now, min(due, datetime.fromisoformat(f"{before}Z") - timedelta(seconds=lead_seconds)))
        return due.strftime(_SQLITE_FORMAT)

    @event.listens_for(engine, "do_connect")
    def _create(*_: Any) -> None:
        # The driver would create a file that other users can read. SQLite gives the WAL files the same mode.
        if file is not None and not file.exists():
            with suppress(OSError):  # the driver meets the same error next and reports it
                file.touch(mode=_FILE_MODE)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # This class sends BEGIN itself: the driver begins with a read and upgrades it, which fails at once if two do.
        connection.isolation_level = None
        connection.create_function("instant_after", 1, instant_after)
        connection.create_function("deadline_after", 4, deadline_after)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes"):
            connection.exec_driver_sql("BEGIN")
            return
        driver: Any = connection.connection.dbapi_connection
        driver.execute(waiting(options.get("seconds_left", timeout_seconds)))
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            driver.execute(waiting(timeout_seconds))

    def waiting(seconds: float) -> str:
        return f"PRAGMA busy_timeout={int(seconds * 1000)}"

    return engine


def build_transaction_settings(timeout_seconds: float) -> Mapping[str, str]:
    """Return the settings of every transaction on PostgreSQL, written as in `pg_settings`."""
    milliseconds = int(timeout_seconds * 1000)
    return {
        "TimeZone": "UTC",
        "synchronous_commit": "on",
        "jit": "off",  # compiling takes up to 0.3 s, for every statement that PostgreSQL expects to read much
        "lock_timeout": str(milliseconds // 2),
        "statement_timeout": str(milliseconds * 3),
        "idle_in_transaction_session_timeout": str(milliseconds * 3),
    }


def open_postgresql(url: URL, pool: int, timeout_seconds: float, requested: Mapping[str, str]) -> Engine:
    """Return an engine of PostgreSQL, also behind a pooler, whose transactions have the requested settings."""
    from psycopg import Error as PsycopgError  # noqa: PLC0415 - SQLite needs no driver of PostgreSQL

    milliseconds, lock_seconds = int(timeout_seconds * 1000), timeout_seconds / 2
    settings = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in requested.items())
    engine = create_engine(
        url,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=timeout_seconds,
        hide_parameters=HIDE_PARAMETERS,
        connect_args={
            "connect_timeout": max(2, int(timeout_seconds)),
            # The server's timeouts below work only while the server can be reached. These end a dead connection; the
            # system's defaults would take a quarter of an hour or more.
            "keepalives_idle": max(1, int(timeout_seconds)),
            "keepalives_interval": max(1, int(timeout_seconds / 4)),
            "keepalives_count": 4,
            "tcp_user_timeout": milliseconds * 3,
        },
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # This class sends BEGIN itself here too, with the account and the timeouts of the transaction. Nothing may be set
        # for the session: a pooler refuses options at its start, and gives the next transaction another connection.
        connection.autocommit = True
        if is_behind_pooler(connection):
            connection.prepare_threshold = None  # the next transaction may have another connection

    @event.listens_for(engine, "checkin")
    def _note_use(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _check(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        idle = time.monotonic() - record.info.get(_USED_AT, time.monotonic())
        try:
            if idle >= _TRUSTED_SECONDS or _is_readable(connection):
                engine.dialect.do_ping(connection)
        except PsycopgError as error:
            raise InvalidatePoolError from error  # the pool opens a new connection

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader sees one snapshot, as on SQLite, and an object that it changed by mistake is an error at its COMMIT.
        reads = connection.get_execution_options().get("reads")
        begin = "BEGIN ISOLATION LEVEL " + ("REPEATABLE READ READ ONLY" if reads else "READ COMMITTED")
        connection.exec_driver_sql(
            begin + settings + _account_setting(tenancy.current_account()) + _lock_timeout(lock_seconds)
        )

    return engine


def _is_readable(connection: Any) -> bool:
    # A server that ended the connection has sent the reason or its end; an idle server sends nothing.
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def is_behind_pooler(connection: Any) -> bool:
    """Return whether a psycopg connection leads to a pooler: its process id is then not the server's."""
    (process,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return bool(process != connection.info.backend_pid)


@lru_cache(maxsize=4096)
def _account_setting(account: str) -> str:
    from psycopg import sql  # noqa: PLC0415 - SQLite needs no driver of PostgreSQL

    # Not by SELECT: that would take the reader's snapshot before its first query.
    return sql.SQL("; SET LOCAL exports.account = {}").format(account).as_string().replace("%", "%%")


def _lock_timeout(lock_seconds: float) -> str:
    if not deadline.has_deadline():
        return ""
    return f"; SET LOCAL lock_timeout = {int(deadline.seconds_left(lock_seconds) * 1000)}"


def choose_driver(url: URL) -> URL:
    """Return the URL with our driver: SQLAlchemy would choose another for postgres:// and postgresql://."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url
