"""Column types of the tables: instants, JSON, long texts; rows as JSON, numbers in JSON; and the naming of constraints."""

from typing import Any

from sqlalchemy import JSON, ColumnElement, Float, Index, Text, TextClause
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Field, SQLModel

from pipeline.core.db import Instant, database_now

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING

#: None is NULL, not the null of JSON, which counts as a value.
JSON_TYPE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def partial_index(name: str, *columns: str, where: TextClause | ColumnElement[bool], unique: bool = False) -> Index:
    """Return an index of the rows that fulfil the condition `where`, on both databases."""
    return Index(name, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


def instant_column(*, nullable: bool = False, primary_key: bool = False) -> Any:
    """Return a column for an aware UTC instant."""
    return Field(default=None, sa_type=Instant, nullable=nullable, primary_key=primary_key)


def timestamp_column() -> Any:
    """Return a column for the instant at which the row is written."""
    # The INSERT reads the database's clock: PostgreSQL and SQLite have no server default of the same spelling.
    return Field(default=None, sa_type=Instant, nullable=False, sa_column_kwargs={"default": database_now()})


def text_column() -> Any:
    """Return a column for a text of any length."""
    return Field(sa_type=Text)


class json_object_of(FunctionElement[Any]):  # noqa: N801 - named like an SQL function
    """The rows of a query as one JSON object, from the first expression to the second.

    Without rows it is NULL on PostgreSQL, and an empty object on SQLite.
    """

    type = JSON()
    inherit_cache = True


@compiles(json_object_of, "postgresql")
def _postgresql_object(element: json_object_of, compiler: Any, **kwargs: Any) -> str:
    return f"json_object_agg({compiler.process(element.clauses, **kwargs)})"


@compiles(json_object_of, "sqlite")
def _sqlite_object(element: json_object_of, compiler: Any, **kwargs: Any) -> str:
    return f"json_group_object({compiler.process(element.clauses, **kwargs)})"


class json_number(FunctionElement[float]):  # noqa: N801 - named like an SQL function
    """The number in a JSON object of objects, by the key of the outer one and that of the inner one; NULL if there is none.

    The keys are plain words: SQLite reads them as a path.
    """

    type = Float()
    inherit_cache = True

    def __init__(self, document: ColumnElement[Any], outer: ColumnElement[Any], inner: ColumnElement[Any]) -> None:
        super().__init__(document, outer, inner)


@compiles(json_number, "postgresql")
def _postgresql_number(element: json_number, compiler: Any, **kwargs: Any) -> str:
    document, outer, inner = (compiler.process(each, **kwargs) for each in element.clauses)
    return f"CAST({document} -> CAST({outer} AS text) ->> CAST({inner} AS text) AS double precision)"


@compiles(json_number, "sqlite")
def _sqlite_number(element: json_number, compiler: Any, **kwargs: Any) -> str:
    document, outer, inner = (compiler.process(each, **kwargs) for each in element.clauses)
    return f"json_extract({document}, '$.' || {outer} || '.' || {inner})"
