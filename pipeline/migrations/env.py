"""Where Alembic finds the database and the models."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlmodel import SQLModel

from pipeline import models  # noqa: F401 - importing them is what fills the metadata


def _migrate(connection: Any) -> None:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        user_module_prefix="pipeline.db.",
        # SQLite alters a table by copying it.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


_migrate(context.config.attributes["connection"])
