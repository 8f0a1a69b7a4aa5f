"""Alembic's environment: the database of the service, and the models, which row_security loads."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationInfo
from sqlalchemy.engine import Connection
from sqlmodel import AutoString, SQLModel

from config.settings import get_settings
from pipeline.core.db import Database, Instant
from pipeline.ops.migrations import row_security, runner
from pipeline.ops.migrations.runner import compare_tables, open_schema_connection


def _render_item(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, Instant):
        return "pipeline.core.db.Instant()"
    if kind == "type" and isinstance(item, sa.JSON):
        return 'sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")'
    return False


def _is_used(name: str | None, kind: str, parents: Mapping[Any, str | None]) -> bool:
    return kind != "column" or f"{parents['table_name']}.{name}" not in runner.UNUSED


def _run(**target: Any) -> None:
    reached: set[str] = set()

    def note_version(ctx: Any, step: MigrationInfo, heads: Collection[Any], run_args: Any) -> None:
        reached.clear()
        reached.update(heads if step.is_upgrade else ())

    context.configure(
        target_metadata=SQLModel.metadata,
        render_item=_render_item,
        include_name=_is_used,
        transaction_per_migration=True,
        on_version_apply=note_version,
        **target,
    )
    with context.begin_transaction():
        context.run_migrations()
    if reached == {context.get_head_revision()} and not context.is_offline_mode():
        compare_tables(context.get_bind())
    if reached == {context.get_head_revision()} and context.get_context().dialect.name == "postgresql":
        with context.begin_transaction():
            for name, condition in row_security.protected_tables():
                for statement in row_security.policy_statements(name, condition):
                    context.execute(statement)


def _run_online(connection: Connection) -> None:
    # SQLite cannot alter most columns, so Alembic copies the table.
    _run(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
    connection.commit()


def _run_command() -> None:
    """Run a command of the service, or of the program `alembic` on the database of the service's settings."""
    given = context.config.attributes
    if context.is_offline_mode():
        dialect = given.get("dialect") or _configured_database().url.get_backend_name()
        # Another style of parameters would double each percent sign.
        _run(dialect_name=dialect, literal_binds=True, dialect_opts={"paramstyle": "named"})
    elif "connection" in given:
        _run_online(given["connection"])
    else:
        with open_schema_connection(_configured_database()) as connection:
            _run_online(connection)


def _configured_database() -> Database:
    return Database(get_settings().database_url)


_run_command()
