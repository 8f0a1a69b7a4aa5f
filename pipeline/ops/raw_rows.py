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


class _Cell(TypeDecorator[Any]):
    """A column's type, but that it gives UNREADABLE where that type cannot be read."""

    impl = NullType
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Read as the column's own type does."""
        process = self.of.dialect_impl(dialect).result_processor(dialect, coltype)
        kind: type = next((kind for each, kind in _TYPES if isinstance(self.of, each)), object)
        boolean = isinstance(self.of, Boolean)

        def read(value: Any) -> Any:
            if value is None or (boolean and value not in (0, 1)):
                return None if value is None else UNREADABLE
            try:
                found = value if process is None else process(value)
            except MALFORMED:
                return UNREADABLE
            return found if isinstance(found, kind) else UNREADABLE

        return read


def cell(column: Column[Any]) -> ColumnElement[Any]:
    """Return the column to be selected, which gives UNREADABLE where its type cannot be read; a key is given as it is."""
    return column if column.primary_key else readable(column).label(column.name)


def readable(asked: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what is asked for so that it gives UNREADABLE where its type cannot be read."""
    return type_coerce(asked, _Cell(asked.type))


def rows(session: Session, model: type[M], *where: ColumnElement[bool], order_by: tuple[Any, ...] = ()) -> list[M]:
    """Return the rows as objects of no session."""
    asked = select(*map(cell, table(model).columns)).where(*where).order_by(*order_by)
    with any_text(session):
        return [model(**row) for row in session.execute(asked).mappings()]


@contextmanager
def any_text(session: Session) -> Iterator[None]:
    """Have text that is no UTF-8, which SQLite keeps as well, read as bytes in the block: else it ends the whole query."""
    driver: Any = session.connection().connection.driver_connection
    if session.get_bind().dialect.name != "sqlite":
        yield
        return
    driver.text_factory = _text
    try:
        yield
    finally:
        driver.text_factory = str


def _text(held: bytes) -> str | bytes:
    try:
        return held.decode()
    except UnicodeDecodeError:
        return held


def values(row: SQLModel) -> dict[str, Any]:
    """Return what each column holds."""
    return {column.name: getattr(row, column.name) for column in table(type(row)).columns}


def unreadable(held: Mapping[str, Any]) -> list[str]:
    """Return the columns that cannot be read."""
    return [name for name, value in held.items() if value is UNREADABLE]
