"""Row-level security on PostgreSQL: the walls between accounts, derived from the models, behind every query.

A table that says `account_id` has its own wall; one that does not stands behind that of the table it refers to. A new
table without a way to an account stops the migration until somebody has said whose its rows are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from pipeline.accounts import models as account_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.core import heartbeats  # noqa: F401 - importing them is what fills the metadata
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.customs import models as customs_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.deliveries import models as delivery_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.exports import models  # noqa: F401 - importing them is what fills the metadata

#: What a transaction says of whose rows it may see; see pipeline/core/db.py.
SETTING: Final = "exports.account"
POLICY: Final = "own_rows"

#: Tables that refer to others without a foreign key: column -> the table whose `id` it holds.
_IMPLICIT_KEYS: Final[Mapping[str, tuple[str, str]]] = {"sandbox_handoffs": ("submission_id", "broker_submissions")}

#: Tables whose rows are nobody's, and therefore everybody's to see.
SHARED: Final[frozenset[str]] = frozenset({"heartbeats"})

_CURRENT_ACCOUNT: Final = f"current_setting('{SETTING}', true)"


#: Every policy of the tables on which row-level security holds, owners among those that it holds.
_ALL_POLICIES: Final = """
SELECT c.relname, p.polname, coalesce(pg_get_expr(p.polqual, p.polrelid), ''),
       p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
WHERE c.relrowsecurity AND c.relforcerowsecurity AND c.relnamespace = to_regnamespace(current_schema())
"""
_OWN_POLICIES: Final = """
SELECT c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
WHERE p.polname = :policy AND c.relnamespace = to_regnamespace(current_schema())
"""
_CASTS_AND_PARENTHESES: Final = re.compile(r"::(?:text|character varying)|[()\s]")


def protected_tables() -> Iterator[tuple[str, str]]:
    """Yield every table of an account's rows, with the condition under which a row is seen and written."""
    for name, table in sorted(SQLModel.metadata.tables.items()):
        if name not in SHARED:
            yield name, _condition(table)


def apply_policies(connection: Connection) -> None:
    """Put up every wall that is not there yet, or is another than the models say; FORCE has the owner stand behind it, too.

    A policy that is not ours is left: somebody else made it, and `tables_without_policy` names its table until he takes it away.
    """
    unprotected = set(tables_without_policy(connection))
    for name, condition in protected_tables():
        if name not in unprotected:
            continue
        for statement in (
            f"DROP POLICY IF EXISTS {POLICY} ON {name}",
            f"CREATE POLICY {POLICY} ON {name} USING ({condition})",
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        ):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    connection.commit()


def drop_policies(connection: Connection) -> None:
    """Take every wall down."""
    for name in connection.scalars(sa.text(_OWN_POLICIES), {"policy": POLICY}).all():
        connection.exec_driver_sql(f"DROP POLICY {POLICY} ON {name}")
        connection.exec_driver_sql(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    connection.commit()


def tables_without_policy(connection: Connection) -> list[str]:
    """Return the tables whose wall is not there, is another than the models say, or has another policy beside it.

    A row is seen that any one policy lets through: one too many is a hole.
    """
    existing: dict[str, list[_Policy]] = {}
    for name, policy, condition, is_default in connection.execute(sa.text(_ALL_POLICIES)):
        existing.setdefault(name, []).append(_Policy(policy, _normalized(condition), is_default))
    return [
        name
        for name, condition in protected_tables()
        if existing.get(name) != [_Policy(POLICY, _normalized(condition))]
    ]


def bypasses_policies(connection: Connection) -> bool:
    """Tell whether the role of this connection walks through every wall: superusers do, and roles with BYPASSRLS."""
    query = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    return bool(connection.exec_driver_sql(query).scalar_one())


@dataclass(frozen=True)
class _Policy:
    """A policy as PostgreSQL keeps it; ours is for everybody, for whatever is done, and the same for what is written."""

    name: str
    condition: str
    is_default: bool = True


def _condition(table: sa.Table) -> str:
    if table.name == "accounts":
        return f"{_CURRENT_ACCOUNT} = '{ALL_ACCOUNTS}' OR {_CURRENT_ACCOUNT} = id"
    if "account_id" in table.columns:
        return f"{_CURRENT_ACCOUNT} = '{ALL_ACCOUNTS}' OR {_CURRENT_ACCOUNT} = account_id"
    joined, owner = _owner(table)
    # Nothing is looked up for those who see everything.
    return (
        f"{_CURRENT_ACCOUNT} = '{ALL_ACCOUNTS}' OR EXISTS (SELECT FROM {owner} of_account"
        f" WHERE {joined} AND of_account.account_id = {_CURRENT_ACCOUNT})"
    )


def _owner(table: sa.Table) -> tuple[str, str]:
    if table.name in _IMPLICIT_KEYS:
        column, owner = _IMPLICIT_KEYS[table.name]
        return f"of_account.id = {table.name}.{column}", owner
    for key in sorted(table.foreign_key_constraints, key=lambda each: each.referred_table.name):
        if "account_id" in key.referred_table.columns:
            pairs = (f"of_account.{e.column.name} = {table.name}.{e.parent.name}" for e in key.elements)
            return " AND ".join(pairs), key.referred_table.name
    raise RuntimeError(
        f"whose are the rows of {table.name}? Give it an account_id, a foreign key to a table that has one, or a place in"
        " pipeline/ops/migrations/row_security.py"
    )


def _normalized(condition: str) -> str:
    """Return the condition without what PostgreSQL adds to its spelling: casts of text, parentheses and room."""
    return _CASTS_AND_PARENTHESES.sub("", condition)
