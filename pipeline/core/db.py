"""Where sessions come from: one way to read, one way to write, and the database's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

from psycopg import sql
from psycopg.errors import LockNotAvailable
from sqlalchemy import (
    ColumnElement,
    CursorResult,
    DateTime,
    Dialect,
    Float,
    Result,
    Table,
    create_engine,
    event,
    literal,
)
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, SQLModel

from pipeline.core import deadline, tenancy
from pipeline.core.errors import DatabaseBusy
from pipeline.core.fair_semaphore import FairSemaphore

_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%S.%f"

#: An error names its statement; what was bound to it are addresses and prices, which no log may hold.
HIDE_PARAMETERS: Final = True

#: A new SQLite database, which holds addresses, prices and sealed secrets, is its owner's alone.
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant on both databases; SQLite, which has none, keeps text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive value; hand the database UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_now(FunctionElement[datetime]):  # noqa: N801 - it reads as the SQL function that it is
    """The database's clock, `seconds` from now: what leases go by, because workers' clocks disagree."""

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
    """The same clock as it stood when the statement began: what an index is searched by.

    A moment that moves while a statement runs is no border in an index to PostgreSQL, which then reads all that the index
    holds. It is older than `database_now` by what the statement waited for locks: claim and record by that.
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
        #: The settings that every transaction asks PostgreSQL for; SQLite has none.
        self.transaction_settings = {} if self.is_sqlite else _transaction_settings(timeout_seconds)
        self._timeout_seconds = timeout_seconds
        # SQLite takes one writer at a time, and PostgreSQL is given so many connections. Who queues for them queues here: the
        # busy loop of the one is not fair, and the pool of the other has one and the same patience for everybody.
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
        """Give a session that sees one snapshot and writes nothing.

        Raises DatabaseBusy where the database does not answer in time.
        """
        slot = nullcontext() if self.is_sqlite else self._acquire_slot()
        with slot, translate_errors(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose work is committed as one transaction when the block ends, or not at all.

        Raises DatabaseBusy where the database does not answer in time.
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
        """Wait for the turn of this one in this process, and give what is left of the time that it may wait.

        Raises DatabaseBusy.
        """
        semaphore, began, timeout = self._semaphore, time.monotonic(), deadline.seconds_left(self._timeout_seconds)
        if not semaphore.acquire(timeout):
            raise DatabaseBusy(f"the database did not answer: others kept it busy for {timeout:.1f} s")
        try:
            # The rest alone: with the whole once more for SQLite, this one would wait for the sum of both.
            yield max(0.0, began + timeout - time.monotonic())
        finally:
            semaphore.release()

    def _open_semaphore(self) -> None:
        self._semaphore = FairSemaphore(self._max_sessions)

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def abandon_connections(self) -> None:
        """Leave the connections to the process that opened them: after a fork they are not ours to use or to close."""
        self.engine.dispose(close=False)
        self._open_semaphore()


def sqlite_file(url: URL) -> Path | None:
    """Return where SQLite keeps the database; None of one in memory, and of a URI, which SQLite alone reads."""
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

    def instant_after(seconds: float) -> str:
        return (clock().astimezone(UTC) + timedelta(seconds=seconds)).strftime(_SQLITE_FORMAT)

    @event.listens_for(engine, "do_connect")
    def _create(*_: Any) -> None:
        # The driver would let others read a new one. Those beside it, of WAL, take its mode.
        if file is not None and not file.exists():
            with suppress(OSError):  # which the driver meets next, and says
                file.touch(mode=_FILE_MODE)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # We say BEGIN ourselves: the driver would begin with a read and upgrade it, which fails at once when two do.
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
    """Return the settings that every transaction on PostgreSQL begins with, as `pg_settings` writes them."""
    milliseconds = int(timeout_seconds * 1000)
    return {
        "TimeZone": "UTC",
        "synchronous_commit": "on",
        "lock_timeout": str(milliseconds // 2),
        "statement_timeout": str(milliseconds * 3),
        "idle_in_transaction_session_timeout": str(milliseconds * 3),
    }


def _postgresql(url: URL, pool: int, timeout_seconds: float, requested: Mapping[str, str]) -> Engine:
    milliseconds, lock_seconds = int(timeout_seconds * 1000), timeout_seconds / 2
    settings = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in requested.items())
    engine = create_engine(
        url,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=timeout_seconds,
        pool_pre_ping=True,
        hide_parameters=HIDE_PARAMETERS,
        connect_args={
            "connect_timeout": max(2, int(timeout_seconds)),
            # What the server is told below holds as long as it is reached. A connection that leads nowhere any more ends
            # by these, where the system's own patience is a quarter of an hour and more.
            "keepalives_idle": max(1, int(timeout_seconds)),
            "keepalives_interval": max(1, int(timeout_seconds / 4)),
            "keepalives_count": 4,
            "tcp_user_timeout": milliseconds * 3,
        },
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # We say BEGIN ourselves here, too. The same message says whose rows the transaction sees and what bounds it, and
        # costs no other. Nothing may be set for the session: a pooler of transactions refuses options at the start of a
        # connection, and gives the next transaction another connection.
        connection.autocommit = True
        if is_behind_pooler(connection):
            # Another transaction may get a connection on which this statement was never prepared, or another was by its name.
            connection.prepare_threshold = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader sees one snapshot, as any transaction on SQLite does; by default each query would have one of its own.
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ" if connection.get_execution_options().get("reads") else "BEGIN"
        connection.exec_driver_sql(
            begin + settings + _account_setting(tenancy.current_account()) + _lock_timeout(lock_seconds)
        )

    return engine


def is_behind_pooler(connection: Any) -> bool:
    """Tell whether a connection of psycopg leads to a pooler: to clients it names a process that is not the server's."""
    (process,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return bool(process != connection.info.backend_pid)


@lru_cache(maxsize=4096)
def _account_setting(account: str) -> str:
    # No SELECT: that would take the reader's snapshot before its first query.
    return sql.SQL("; SET LOCAL exports.account = {}").format(account).as_string().replace("%", "%%")


def _lock_timeout(lock_seconds: float) -> str:
    if not deadline.has_deadline():
        return ""
    return f"; SET LOCAL lock_timeout = {int(deadline.seconds_left(lock_seconds) * 1000)}"


def _with_driver(url: URL) -> URL:
    # Hosting platforms say postgres:// or postgresql://, which SQLAlchemy reads as another driver's.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the driver's ways of saying "not now" into DatabaseBusy; a broken constraint stays what it is."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        raise DatabaseBusy(
            f"the database did not answer: {type(cause).__name__}: {str(cause).splitlines()[0]}"
        ) from error


def blocked_by_same_key(busy: DatabaseBusy, model: type[SQLModel]) -> bool:
    """Tell whether what was waited for in vain is another's row of `model` under the very key that was to be written.

    SQLite never says so: it has one lock for everything.
    """
    error = getattr(busy.__cause__, "orig", None)
    # In whatever language it speaks, PostgreSQL names the index in which the other row stood.
    named = (isinstance(error, LockNotAvailable) and error.diag.context) or ""
    return f'"{table(model).primary_key.name}"' in named


def table(model: type[SQLModel]) -> Table:
    """Return the model's table.

    A statement on it that is built once, with its parameters named, costs a tenth of what one on the model does: that is
    how the statements of every step are made. What is asked now and then is asked of the model.
    """
    return SQLModel.metadata.tables[str(model.__tablename__)]


def row_count(result: Result[Any]) -> int:
    """Return how many rows an UPDATE or DELETE changed."""
    return cast("CursorResult[Any]", result).rowcount
