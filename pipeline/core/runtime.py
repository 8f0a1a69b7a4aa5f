"""What one process has open: its settings, the database and the artifact store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import column, inspect, select
from sqlalchemy import table as named_table

from config.settings import SECRET_KEY_CHARACTERS, Settings, get_settings
from pipeline.core import failpoints, tenancy
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import Clock, Database, translate_errors, utc_now
from pipeline.core.errors import UnsafeSettings
from pipeline.core.tenancy import ALL_ACCOUNTS

#: As far as the store needs it; the table itself is a noun of the rooms above.
_ARTIFACTS: Final = named_table("artifacts", column("id"), column("purged_at"))


@dataclass(frozen=True)
class Runtime:
    """The open resources of a process; made once, handed down."""

    settings: Settings
    db: Database
    store: ArtifactStore
    #: Plans, approvals and waivers are judged by this clock. Leases and schedules go by the database's clock.
    clock: Clock = utc_now

    def close(self) -> None:
        """Let go of every connection."""
        self.db.dispose()


def open_runtime(settings: Settings, *, clock: Clock = utc_now) -> Runtime:
    """Open what `settings` name; nothing is connected until it is used."""
    database = Database(
        settings.database_url,
        pool=settings.database_pool,
        timeout_seconds=settings.database_timeout_seconds,
        clock=clock,
    )
    return Runtime(settings, database, open_store(settings, database), clock)


def open_store(settings: Settings, database: Database) -> ArtifactStore:
    """Return the artifact store that `settings` name; its folder is made only while `database` records no document."""
    return ArtifactStore(settings.artifacts_url, may_create_folder=lambda: not has_documents(database))


def has_documents(database: Database) -> bool:
    """Tell whether an export has a document that was not purged; raises DatabaseBusy."""
    with tenancy.account_scope(ALL_ACCOUNTS), translate_errors(), database.engine.connect() as connection:
        # A new database has no tables yet.
        if not inspect(connection).has_table(_ARTIFACTS.name):
            return False
        found = select(_ARTIFACTS.c.id).where(_ARTIFACTS.c.purged_at.is_(None)).limit(1)
        return connection.scalar(found) is not None


@lru_cache(maxsize=1)
def process_runtime() -> Runtime:
    """Return the runtime of this process, opened on first use.

    The parent of a worker pool has one as well, for its sweep, and forks again whenever a child ends: a child opens connections
    of its own. Raises UnsafeSettings.
    """
    settings = get_settings()
    reject_weak_credentials(settings)
    failpoints.arm(settings)
    runtime = open_runtime(settings)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=runtime.db.abandon_connections)
    return runtime


def reject_weak_credentials(settings: Settings) -> None:
    """Raise UnsafeSettings where others may come in by a credential that everybody knows, or that can be tried."""
    if wrong := settings.weak_credentials:
        raise UnsafeSettings(f"{wrong}; make a user of its own there, with a long random password")
    if settings.needs_own_secret_key and (wrong := settings.weak_secret_key):
        raise UnsafeSettings(
            f"{wrong}; set EXPORTS_SECRET_KEY to {SECRET_KEY_CHARACTERS} or more random characters, the same on every machine,"
            " and let `exports secrets rotate` seal anew what an older one sealed"
        )
