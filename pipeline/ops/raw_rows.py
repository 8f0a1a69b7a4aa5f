"""Rows read from tables that may be damaged: an unreadable cell is marked and does not hide the others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Boolean, Column, ColumnElement, Date, Dialect, Integer, Row, Select, String, select, type_coerce
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine
from sqlmodel import Session, SQLModel

from pipeline.core.db import Instant, table

M = TypeVar("M", bound=SQLModel)

#: The errors of reading data that is not in the expected form.
MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Unreadable:
    def __repr__(self) -> str:
        return "unreadable"


#: The value of a cell that does not fit its column's type; SQLite stores any value.
UNREADABLE: Final[Any] = _Unreadable()

_TYPES: Final[tuple[tuple[type[TypeEngine[Any]], type], ...]] = (
    (Boolean, bool),
    (Integer, int),
    (String, str),
    (Instant, datetime),
    (Date, date),
)


class _TolerantType(TypeDecorator[Any]):
    """A column's type that returns UNREADABLE if the value cannot be read."""

    impl = NullType
    cache_ok = True

    def __init__(self, inner: TypeEngine[Any]) -> None:
        super().__init__()
        self.inner = inner

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return a function that reads like the column's own type, or returns UNREADABLE."""
        process = self.inner.dialect_impl(dialect).result_processor(dialect, coltype)
        kind: type = next((kind for each, kind in _TYPES if isinstance(self.inner, each)), object)
        boolean = isinstance(self.inner, Boolean)

        def read(value: Any) -> Any:
            if value is None or (boolean and value not in (0, 1)):
                return None if value is None else UNREADABLE
            try:
                found = value if process is None else process(value)
            except MALFORMED:
                return UNREADABLE
            return found if isinstance(found, kind) else UNREADABLE

        return read


def tolerant_column(column: Column[Any]) -> ColumnElement[Any]:
    """Return the column for a SELECT; an unreadable value becomes UNREADABLE. A primary key is returned unchanged."""
    return column if column.primary_key else tolerant(column).label(column.name)


def tolerant(expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the expression with a type that reads an unreadable value as UNREADABLE."""
    return type_coerce(expression, _TolerantType(expression.type))


def read_rows(session: Session, model: type[M], *where: ColumnElement[bool], order_by: tuple[Any, ...] = ()) -> list[M]:
    """Return the rows with the attributes of the model; they belong to no session."""
    query = _select_tolerant(model).where(*where).order_by(*order_by)
    with undecoded_text_as_bytes(session):
        # Objects of the model would cost ten times as much.
        return cast("list[M]", session.execute(query).all())


@cache
def _select_tolerant(model: type[SQLModel]) -> Select[*tuple[Any, ...]]:
    return select(*map(tolerant_column, table(model).columns))


@contextmanager
def undecoded_text_as_bytes(session: Session) -> Iterator[None]:
    """Read text that is not UTF-8 as bytes within the block: SQLite stores such text, and it would fail the query."""
    driver: Any = session.connection().connection.driver_connection
    if session.get_bind().dialect.name != "sqlite":
        yield
        return
    driver.text_factory = _decode
    try:
        yield
    finally:
        driver.text_factory = str


def _decode(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def row_values(row: SQLModel) -> dict[str, Any]:
    """Return the value of each column of a row from `read_rows`."""
    return dict(cast("Row[Any]", row)._mapping)  # noqa: SLF001 - public, its name avoids columns


def unreadable_columns(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns that cannot be read."""
    return [name for name, value in values.items() if value is UNREADABLE]
