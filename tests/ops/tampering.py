"""An attacker with full access to the database: its guards are turned off, and turned on again afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from pipeline.core.db import Database

GUARDED = ("events", "acts", "attempts")


@contextmanager
def open_unguarded(database: Database) -> Iterator[sa.Connection]:
    """Yield a connection on which the log can be changed; commit when the block ends."""
    if not database.is_sqlite:
        with database.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            yield connection
        return
    # A process that opens the file itself need not check foreign keys.
    engine = sa.create_engine(database.url)
    with engine.begin() as connection:
        names = ", ".join(f"'{name}'" for name in GUARDED)
        triggers = connection.execute(
            sa.text(f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ({names})")  # noqa: S608
        ).all()
        assert triggers
        for name, _ in triggers:
            connection.execute(sa.text(f"DROP TRIGGER {name}"))
        yield connection
        for _, definition in triggers:
            connection.execute(sa.text(definition))
    engine.dispose()
