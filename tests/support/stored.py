"""What a test reads and changes in the database, each in a transaction of its own."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Executable
from sqlalchemy.sql.selectable import TypedReturnsRows

from pipeline.core.runtime import Runtime

T = TypeVar("T")


def rows(runtime: Runtime, query: TypedReturnsRows[T]) -> Sequence[T]:
    with runtime.db.read() as session:
        return session.scalars(query).all()


def one(runtime: Runtime, query: TypedReturnsRows[T]) -> T:
    with runtime.db.read() as session:
        return session.scalars(query).one()


def get(runtime: Runtime, model: type[T], key: Any) -> T:
    with runtime.db.read() as session:
        return session.get_one(model, key)


def change(runtime: Runtime, *statements: Executable) -> None:
    with runtime.db.write() as session:
        for statement in statements:
            session.execute(statement)
