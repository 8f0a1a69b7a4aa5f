"""Rows as they lie there, where that must not be taken for granted: a cell that cannot be read says so, and hides no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Boolean, Column, ColumnElement, Date, Dialect, Integer, String, select, type_coerce
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine
from sqlmodel import Session, SQLModel

from pipeline.core.db import Instant, table

M = TypeVar("M", bound=SQLModel)

#: What reading something raises that is not of the form that we wrote it in.
MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Unreadable:
    def __repr__(self) -> str:
        return "unreadable"


#: What a cell gives that holds nothing of its column's type: SQLite keeps whatever it is handed.
UNREADABLE: Final[Any] = _Unreadable()

_TYPES: Final[tuple[tuple[type[TypeEngine[Any]], type], ...]] = (
    (Boolean, bool),
    (Integer, int),
    (String, str),
    (Instant, datetime),
    (Date, date),
)


class _TolerantType(TypeDecorator[Any]):
    """A column's type, but that it gives UNREADABLE where that type cannot be read."""

    impl = NullType
    cache_ok = True

    def __init__(self, inner: TypeEngine[Any]) -> None:
        super().__init__()
        self.inner = inner

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Read as the column's own type does."""
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
    """Return the column to be selected, which gives UNREADABLE where its type cannot be read; a key is given as it is."""
    return column if column.primary_key else tolerant(column).label(column.name)


def tolerant(expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what is asked for so that it gives UNREADABLE where its type cannot be read."""
    return type_coerce(expression, _TolerantType(expression.type))


def read_rows(session: Session, model: type[M], *where: ColumnElement[bool], order_by: tuple[Any, ...] = ()) -> list[M]:
    """Return the rows as objects of no session."""
    query = select(*map(tolerant_column, table(model).columns)).where(*where).order_by(*order_by)
    with undecoded_text_as_bytes(session):
        return [model(**row) for row in session.execute(query).mappings()]


@contextmanager
def undecoded_text_as_bytes(session: Session) -> Iterator[None]:
    """Have text that is no UTF-8, which SQLite keeps as well, read as bytes in the block: else it ends the whole query."""
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
    """Return what each column holds."""
    return {column.name: getattr(row, column.name) for column in table(type(row)).columns}


def unreadable_columns(values: Mapping[str, Any]) -> list[str]:
    """Return the columns that cannot be read."""
    return [name for name, value in values.items() if value is UNREADABLE]
