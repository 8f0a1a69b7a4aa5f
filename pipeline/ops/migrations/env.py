"""Alembic's environment: it takes the database and the models from the service."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel import AutoString, SQLModel

from pipeline.accounts import models as account_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.core import heartbeats  # noqa: F401 - importing them is what fills the metadata
from pipeline.core.db import Instant
from pipeline.customs import models as customs_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.deliveries import models as delivery_models  # noqa: F401 - importing them is what fills the metadata
from pipeline.exports import models  # noqa: F401 - importing them is what fills the metadata
from pipeline.ops import work_counts  # noqa: F401 - importing them is what fills the metadata
from pipeline.ops.stats import models as stat_models  # noqa: F401 - importing them is what fills the metadata


def _render_item(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, Instant):
        return "pipeline.core.db.Instant()"
    if kind == "type" and isinstance(item, sa.JSON):
        return 'sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")'
    return False


def _migrate(connection: Any) -> None:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_item=_render_item,
        # SQLite cannot alter most columns, so Alembic copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


_migrate(context.config.attributes["connection"])
