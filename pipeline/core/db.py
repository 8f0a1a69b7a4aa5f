"""Database sessions for reading and writing, and the database's clock."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
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
    literal,
    literal_column,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, SQLModel

from pipeline.core import deadline
from pipeline.core.clock import Clock, utc_now
from pipeline.core.db_engines import build_transaction_settings, choose_driver, open_postgresql, open_sqlite
from pipeline.core.errors import DatabaseBusy
from pipeline.core.fair_semaphore import FairSemaphore

#: PostgreSQL's code for a lock that was not free in time.
_LOCK_NOT_AVAILABLE: Final = "55P03"


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


class database_deadline(FunctionElement[datetime]):  # noqa: N801
    """The database's clock plus `seconds`, or `lead_seconds` before the instant `before` if that is sooner.

    The clock is ahead by `ahead_seconds`. The deadline never lies in its past. Without `before` or `lead_seconds`, only
    `seconds` count.
    """

    type = Instant()
    inherit_cache = True

    def __init__(
        self,
        seconds: ColumnElement[Any],
        before: ColumnElement[Any],
        lead_seconds: ColumnElement[Any],
        ahead_seconds: ColumnElement[Any],
    ) -> None:
        super().__init__(seconds, before, lead_seconds, ahead_seconds)


@compiles(database_deadline, "postgresql")
def _postgresql_deadline(element: database_deadline, compiler: Any, **kwargs: Any) -> str:
    seconds, before, lead, ahead = (compiler.process(each, **kwargs) for each in element.clauses)
    now = f"clock_timestamp() + make_interval(secs => {ahead})"
    # LEAST leaves out what is NULL.
    latest = f"LEAST({now} + make_interval(secs => {seconds}), {before} - make_interval(secs => {lead}))"
    return f"GREATEST({now}, {latest})"


@compiles(database_deadline, "sqlite")
def _sqlite_deadline(element: database_deadline, compiler: Any, **kwargs: Any) -> str:
    return f"deadline_after({compiler.process(element.clauses, **kwargs)})"


class Database:
    """An engine with our settings, and the sessions on it."""

    def __init__(self, url: str, *, pool: int = 10, timeout_seconds: float = 10, clock: Clock = utc_now) -> None:
        self.url = choose_driver(make_url(url))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        #: The settings of every transaction on PostgreSQL; SQLite has none.
        self.transaction_settings = {} if self.is_sqlite else build_transaction_settings(timeout_seconds)
        self._timeout_seconds = timeout_seconds
        # SQLite takes one writer at a time; on PostgreSQL the pool bounds the connections. Threads wait for them at this
        # semaphore: SQLite's busy loop is not fair, and the pool has one timeout for all callers.
        self._max_sessions = 1 if self.is_sqlite else 2 * pool
        self._open_semaphore()
        self.engine = (
            open_sqlite(self.url, timeout_seconds, clock)
            if self.is_sqlite
            else open_postgresql(self.url, pool, timeout_seconds, self.transaction_settings)
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


def index_constant(value: str) -> ColumnElement[str]:
    """Return a state, or another constant of ours, as a part of the statement's text.

    With a bound value, a database may not use a partial index.
    """
    return literal_column(f"'{value}'")


def row_count(result: Result[Any]) -> int:
    """Return how many rows an UPDATE or DELETE changed."""
    return cast("CursorResult[Any]", result).rowcount
