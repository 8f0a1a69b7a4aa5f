"""How the commands reach the database: with the tables of today, or with a word on how to get them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from config.settings import get_settings
from pipeline import migrations
from pipeline.commands.screen import ExitCode, Failure
from pipeline.migrations import Standing
from pipeline.runtime import Runtime, open_runtime


@contextmanager
def opened() -> Iterator[Runtime]:
    """Give a runtime of the settings, its database at this version's revision or a newer one's; raises Failure where it is not."""
    runtime = open_runtime(get_settings())
    try:
        ensure_current(runtime)
        yield runtime
    finally:
        runtime.close()


def ensure_current(runtime: Runtime) -> None:
    """See to it that the database is at this version's revision, or a newer one's.

    A SQLite file is nobody else's, so it is brought there; on PostgreSQL that is for the release step alone, and a
    Failure says so.
    """
    if migrations.standing(runtime.db) is not Standing.BEHIND:
        return
    if not runtime.db.is_sqlite:
        raise Failure(
            "the database is not at this version's revision",
            code=ExitCode.UNREACHABLE,
            remedy="Run `exports migrate` once, with the same DATABASE_URL.",
        )
    migrations.upgrade(runtime.db)
