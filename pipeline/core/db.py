"""Database sessions for reading and writing, and the database's clock."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CursorResult,
    DateTime,
    Dialect,
    Float,
    Result,
    String,
    Table,
    create_engine,
    event,
    literal,
    literal_column,
)
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import InterfaceError, InternalError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, SQLModel

from pipeline.core import deadline, tenancy
from pipeline.core.clock import Clock, utc_now
from pipeline.core.errors import DatabaseBusy
from pipeline.core.fair_semaphore import FairSemaphore

#: PostgreSQL's code for a lock that was not free in time.
_LOCK_NOT_AVAILABLE: Final = "55P03"
_SQLITE_FORMAT: Final = "%Y-%m-%d %H:%M:%S.%f"

#: Errors leave out a statement's parameters: they hold addresses and prices, which no log may hold.
HIDE_PARAMETERS: Final = True

#: Only the owner may read a new SQLite database: it holds addresses, prices and sealed secrets.
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600

#: How long after its last use a connection to PostgreSQL is used without asking the server: that costs a round trip.
_TRUSTED_SECONDS: Final = 1.0
_USED_AT: Final = "used_at"


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant on both databases. SQLite has no such type and stores text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value in UTC for the database. Raises ValueError if it has no time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored value in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_now(FunctionElement[datetime]):  # noqa: N801 - named like an SQL function
    """The database's clock plus `seconds`. Leases use it because the workers' clocks differ."""

    type = Instant()
    inherit_cache = True

    def __init__(self, seconds: float | ColumnElement[Any] = 0) -> None:
        super().__init__(seconds if isinstance(seconds, ColumnElement) else literal(float(seconds), Float()))


@compiles(database_now, "postgresql")
def _postgresql_now(element: database_now, compiler: Any, **kwargs: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: Any, **kwargs: Any) -> str:
    return f"instant_after({compiler.process(element.clauses, **kwargs)})"


class statement_now(database_now):  # noqa: N801
    """The database's clock at the start of the statement, for conditions on an indexed column.

    PostgreSQL cannot use an index for a condition on `database_now`, which changes while the statement runs.
    This value is older by the time that the statement waited for locks: do not claim or record by it.
    """

    inherit_cache = True


@compiles(statement_now, "postgresql")
def _postgresql_statement_now(element: statement_now, compiler: Any, **kwargs: Any) -> str:
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"


compiles(statement_now, "sqlite")(_sqlite_now)


class Database:
    """An engine with our settings, and the sessions on it."""

    def __init__(self, url: str, *, pool: int = 10, timeout_seconds: float = 10, clock: Clock = utc_now) -> None:
        self.url = _with_driver(make_url(url))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        #: The settings of every transaction on PostgreSQL; SQLite has none.
        self.transaction_settings = {} if self.is_sqlite else _transaction_settings(timeout_seconds)
        self._timeout_seconds = timeout_seconds
        # SQLite takes one writer at a time; on PostgreSQL the pool bounds the connections. Threads wait for them at this
        # semaphore: SQLite's busy loop is not fair, and the pool has one timeout for all callers.
        self._max_sessions = 1 if self.is_sqlite else 2 * pool
        self._open_semaphore()
        self.engine = (
            _sqlite(self.url, timeout_seconds, clock)
            if self.is_sqlite
            else _postgresql(self.url, pool, timeout_seconds, self.transaction_settings)
        )
        self._reading = self.engine.execution_options(reads=True)
        self._writing = self.engine.execution_options(writes=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that sees one snapshot and writes nothing.

        Raises DatabaseBusy if the database does not answer in time.
        """
        slot = nullcontext() if self.is_sqlite else self._acquire_slot()
        with slot, translate_errors(), Session(self._reading, expire_on_commit=False) as session:
            yield session
            if not self.is_sqlite:
                session.commit()  # at a ROLLBACK, the driver drops all prepared statements of its connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session of one transaction: committed at the end of the block, rolled back on an error.

        Raises DatabaseBusy if the database does not answer in time.
        """
        with (
            self._acquire_slot() as seconds_left,
            translate_errors(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            if self.is_sqlite:
                session.connection(execution_options={"seconds_left": seconds_left})
            yield session

    @contextmanager
    def _acquire_slot(self) -> Iterator[float]:
        """Yield the seconds left to wait for the database. Raises DatabaseBusy; ServiceBusy if only this process is busy."""
        semaphore, began, completed = self._semaphore, time.monotonic(), self._completed
        timeout = deadline.seconds_left(self._timeout_seconds)
        if not semaphore.acquire(timeout):
            # If no session ended well meanwhile, the database is at fault.
            error = DatabaseBusy if self._completed == completed else deadline.ServiceBusy
            raise error(f"other sessions of this process kept the database busy for {timeout:.1f} s")
        try:
            # Only the rest: with the full timeout again for SQLite, the caller would wait for the sum of both.
            yield max(0.0, began + timeout - time.monotonic())
            self._completed += 1
        finally:
            semaphore.release()

    def _open_semaphore(self) -> None:
        self._semaphore, self._completed = FairSemaphore(self._max_sessions), 0

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def abandon_connections(self) -> None:
        """Drop the connections without closing them: after a fork they belong to the parent process."""
        self.engine.dispose(close=False)
        self._open_semaphore()


def sqlite_file(url: URL) -> Path | None:
    """Return the path of the SQLite database; None in memory, for another database, and for a URI that only SQLite parses."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return Path(url.database)


def _sqlite(url: URL, timeout_seconds: float, clock: Clock) -> Engine:
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


def _transaction_settings(timeout_seconds: float) -> Mapping[str, str]:
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


def _postgresql(url: URL, pool: int, timeout_seconds: float, requested: Mapping[str, str]) -> Engine:
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


def _with_driver(url: URL) -> URL:
    # Hosting platforms write postgres:// or postgresql://; SQLAlchemy would choose another driver for these.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the driver's errors for a busy or lost database into DatabaseBusy; other errors pass unchanged."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        raise DatabaseBusy(
            f"the database did not answer: {type(cause).__name__}: {str(cause).splitlines()[0]}"
        ) from error


def blocked_by_same_key(busy: DatabaseBusy, model: type[SQLModel]) -> bool:
    """Return whether `busy` was raised because another transaction is writing a row of `model` with the same key.

    Always False on SQLite, which has one lock for everything.
    """
    error: Any = getattr(busy.__cause__, "orig", None)
    # PostgreSQL's message names the index of the other row, in every language of its messages.
    named = (getattr(error, "sqlstate", None) == _LOCK_NOT_AVAILABLE and error.diag.context) or ""
    return f'"{table(model).primary_key.name}"' in named


def table(model: type[SQLModel]) -> Table:
    """Return the model's table.

    A statement on the table, built once with named parameters, costs a tenth of one on the model; use the model for rare ones.
    """
    return SQLModel.metadata.tables[str(model.__tablename__)]


def constants(values: Iterable[str]) -> list[BindParameter[str]]:
    """Return fixed values for the IN of a frequent statement.

    For plain values, SQLAlchemy writes the text of the statement at each call.
    """
    return [literal(str(value), String()) for value in values]  # psycopg would write the name of a member of an enum


def index_constant(value: StrEnum) -> ColumnElement[str]:
    """Return a state as a part of the statement's text: with a bound value, a database may not use a partial index."""
    return literal_column(f"'{value.value}'")


def row_count(result: Result[Any]) -> int:
    """Return how many rows an UPDATE or DELETE changed."""
    return cast("CursorResult[Any]", result).rowcount
