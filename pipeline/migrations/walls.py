"""Row-level security on PostgreSQL: the walls between accounts, derived from the models, behind every query.

A table that says `account_id` has its own wall; one that does not stands behind that of the table it refers to. A new
table without a way to an account stops the migration until somebody has said whose its rows are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from pipeline import models  # noqa: F401 - importing them is what fills the metadata
from pipeline.tenancy import EVERYBODY

#: What a transaction says of whose rows it may see; see pipeline/db.py.
SETTING: Final = "exports.account"
POLICY: Final = "own_rows"

#: Tables that refer to others without a foreign key: column -> the table whose `id` it holds.
_WITHOUT_A_KEY: Final[Mapping[str, tuple[str, str]]] = {"sandbox_handoffs": ("submission_id", "broker_submissions")}

#: Tables whose rows are nobody's, and therefore everybody's to see.
SHARED: Final[frozenset[str]] = frozenset()

_NOW: Final = f"current_setting('{SETTING}', true)"


def walled() -> Iterator[tuple[str, str]]:
    """Yield every table of an account's rows, with the condition under which a row is seen and written."""
    for name, table in sorted(SQLModel.metadata.tables.items()):
        if name not in SHARED:
            yield name, _condition(table)


def raise_walls(connection: Connection) -> None:
    """Put up every wall that is not there yet, or is another than the models say; FORCE has the owner stand behind it, too."""
    standing = _standing(connection)
    for name, condition in walled():
        if standing.get(name) == condition:
            continue
        for statement in (
            f"DROP POLICY IF EXISTS {POLICY} ON {name}",
            f"CREATE POLICY {POLICY} ON {name} USING ({condition})",
            # What PostgreSQL keeps of a condition is spelt in its own way; this is how we know ours again.
            f"COMMENT ON POLICY {POLICY} ON {name} IS {_quoted(condition)}",
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        ):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    connection.commit()


def lower_walls(connection: Connection) -> None:
    """Take every wall down."""
    for name in _standing(connection):
        connection.exec_driver_sql(f"DROP POLICY {POLICY} ON {name}")
        connection.exec_driver_sql(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    connection.commit()


def missing(connection: Connection) -> list[str]:
    """Return the tables whose wall is not there, or is another than the models say."""
    standing = _standing(connection)
    return [name for name, condition in walled() if standing.get(name) != condition]


def passes_through(connection: Connection) -> bool:
    """Tell whether the role of this connection walks through every wall: superusers do, and roles with BYPASSRLS."""
    asked = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    return bool(connection.exec_driver_sql(asked).scalar_one())


def _standing(connection: Connection) -> dict[str, str]:
    rows = connection.execute(
        sa.text(
            "SELECT c.relname, obj_description(p.oid, 'pg_policy') FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
            " WHERE p.polname = :policy AND c.relrowsecurity AND c.relforcerowsecurity"
            " AND c.relnamespace = to_regnamespace(current_schema())"
        ),
        {"policy": POLICY},
    )
    return {name: said or "" for name, said in rows}


def _condition(table: sa.Table) -> str:
    if table.name == "accounts":
        return f"{_NOW} IN ('{EVERYBODY}', id)"
    if "account_id" in table.columns:
        return f"{_NOW} IN ('{EVERYBODY}', account_id)"
    joined, owner = _owner(table)
    # Nothing is looked up for those who see everything.
    return (
        f"{_NOW} = '{EVERYBODY}' OR EXISTS (SELECT FROM {owner} of_account"
        f" WHERE {joined} AND of_account.account_id = {_NOW})"
    )


def _owner(table: sa.Table) -> tuple[str, str]:
    if table.name in _WITHOUT_A_KEY:
        column, owner = _WITHOUT_A_KEY[table.name]
        return f"of_account.id = {table.name}.{column}", owner
    for key in sorted(table.foreign_key_constraints, key=lambda each: each.referred_table.name):
        if "account_id" in key.referred_table.columns:
            pairs = (f"of_account.{e.column.name} = {table.name}.{e.parent.name}" for e in key.elements)
            return " AND ".join(pairs), key.referred_table.name
    raise RuntimeError(
        f"whose are the rows of {table.name}? Give it an account_id, a foreign key to a table that has one, or a place in"
        " pipeline/migrations/walls.py"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
