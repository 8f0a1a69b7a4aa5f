"""Row-level security on PostgreSQL: policies that separate accounts in every query, derived from the models.

A table with `account_id` has its own policy. A table without it uses the account of the table that it refers to. No account
sees the tables of credentials. A new table without a path to an account stops the migration until a developer adds one.
"""

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
from pipeline.exports import event_models, file_models, models, numbers  # noqa: F401 - importing them is what fills the metadata
from pipeline.ops import work_counts  # noqa: F401 - importing them is what fills the metadata
from pipeline.ops.stats import models as stat_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.orders import models as order_models  # noqa: F401 - importing them is what fills the metadata

#: The setting that names the account whose rows a transaction may see; see pipeline/core/db.py.
SETTING: Final = "exports.account"
POLICY: Final = "own_rows"

#: Tables whose account no foreign key names: the table that has it, and how a row of it is joined.
_IMPLICIT_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "sandbox_handoffs": ("broker_submissions", "of_account.id = sandbox_handoffs.submission_id"),
    "people": ("memberships", "of_account.person_id = people.id"),
}

#: Tables without an account, which every transaction may see.
SHARED: Final[frozenset[str]] = frozenset(
    {"heartbeats", "rulesets", "ruleset_activations", "tariff_editions", "tariff_rows", "tariff_flags", "duty_cases"}
)

#: Tables that only a transaction over all accounts sees: those that prove who a person is.
HIDDEN: Final[frozenset[str]] = frozenset({"credentials", "recovery_codes", "guesses"})

_CURRENT_ACCOUNT: Final = f"current_setting('{SETTING}', true)"


#: All policies of the tables that enforce row-level security also for their owner.
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
    """Yield every table with rows of accounts, and the condition for reading and writing a row."""
    for name, table in sorted(SQLModel.metadata.tables.items()):
        if name not in SHARED:
            yield name, _condition(table)


def apply_policies(connection: Connection) -> None:
    """Create or replace every policy that is missing or wrong; FORCE applies it also to the tables' owner.

    Other policies are left unchanged: `tables_without_policy` lists their tables until an operator drops them.
    """
    unprotected = set(tables_without_policy(connection))
    for name, condition in protected_tables():
        if name in unprotected:
            for statement in policy_statements(name, condition):
                connection.exec_driver_sql(statement.replace("%", "%%"))
    connection.commit()


def policy_statements(table: str, condition: str) -> Iterator[str]:
    """Yield the SQL that creates or replaces a table's policy."""
    yield f"DROP POLICY IF EXISTS {POLICY} ON {table}"
    yield f"CREATE POLICY {POLICY} ON {table} USING ({condition})"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"


def drop_policies(connection: Connection) -> None:
    """Drop every policy of the service."""
    for name in connection.scalars(sa.text(_OWN_POLICIES), {"policy": POLICY}).all():
        connection.exec_driver_sql(f"DROP POLICY {POLICY} ON {name}")
        connection.exec_driver_sql(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    connection.commit()


def tables_without_policy(connection: Connection) -> list[str]:
    """Return the tables whose policy is missing or wrong, or that have a policy beside it.

    PostgreSQL shows a row if any one policy allows it, so another policy would open the table.
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
    """Return whether this connection's role bypasses row-level security: superusers and roles with BYPASSRLS do."""
    query = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    return bool(connection.exec_driver_sql(query).scalar_one())


@dataclass(frozen=True)
class _Policy:
    """A policy as PostgreSQL stores it; ours applies to all roles and commands, for reading and writing."""

    name: str
    condition: str
    is_default: bool = True


def _condition(table: sa.Table) -> str:
    # With OR, PostgreSQL expects one row in two hundred, and plans for a nearly empty table. With CASE it expects every
    # second one. The first branch needs no lookup.
    return f"CASE WHEN {_CURRENT_ACCOUNT} = '{ALL_ACCOUNTS}' THEN true ELSE {_of_account(table)} END"


def _of_account(table: sa.Table) -> str:
    if table.name in HIDDEN:
        return "false"
    if table.name == "accounts":
        return f"{_CURRENT_ACCOUNT} = id"
    if "account_id" in table.columns:
        return f"{_CURRENT_ACCOUNT} = account_id"
    joined, owner = _owner(table)
    return f"EXISTS (SELECT FROM {owner} of_account WHERE {joined} AND of_account.account_id = {_CURRENT_ACCOUNT})"


def _owner(table: sa.Table) -> tuple[str, str]:
    if table.name in _IMPLICIT_KEYS:
        owner, joined = _IMPLICIT_KEYS[table.name]
        return joined, owner
    for key in sorted(table.foreign_key_constraints, key=lambda each: each.referred_table.name):
        if "account_id" in key.referred_table.columns:
            pairs = (f"of_account.{e.column.name} = {table.name}.{e.parent.name}" for e in key.elements)
            return " AND ".join(pairs), key.referred_table.name
    raise RuntimeError(
        f"the account of the rows of {table.name} is unknown; give it an account_id, a foreign key to a table that has one, or"
        " an entry in pipeline/ops/migrations/row_security.py"
    )


def _normalized(condition: str) -> str:
    """Return the condition without the text casts, parentheses and spaces that PostgreSQL adds."""
    return _CASTS_AND_PARENTHESES.sub("", condition)
