"""The open resources of a process: its settings, the database and the artifact store."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import column, inspect, select
from sqlalchemy import table as named_table

from config.addresses import SECRET_KEY_CHARACTERS
from config.settings import Settings, get_settings
from pipeline.core import tenancy, tracing
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.clock import Clock, utc_now
from pipeline.core.db import Database, translate_errors
from pipeline.core.errors import UnsafeSettings
from pipeline.core.tenancy import ALL_ACCOUNTS

#: Only the columns that the store needs; the table's model belongs to a higher layer.
_ARTIFACTS: Final = named_table("artifacts", column("id"), column("purged_at"))


@dataclass(frozen=True)
class Runtime:
    """The open resources of a process, created once and passed to its functions."""

    settings: Settings
    db: Database
    store: ArtifactStore
    #: The clock for plans, approvals and waivers. Leases and schedules use the database's clock.
    clock: Clock = utc_now

    def close(self) -> None:
        """Close every database connection."""
        self.db.dispose()


def open_runtime(settings: Settings, *, clock: Clock = utc_now) -> Runtime:
    """Return the runtime for `settings`; each resource connects on first use."""
    database = Database(
        settings.database_url,
        pool=settings.database_pool,
        timeout_seconds=settings.database_timeout_seconds,
        clock=clock,
    )
    return Runtime(settings, database, open_store(settings, database), clock)


def open_store(settings: Settings, database: Database) -> ArtifactStore:
    """Return the artifact store for `settings`; its folder is created only while `database` has no document."""
    return ArtifactStore(settings.artifacts_url, may_create_folder=lambda: not has_documents(database))


def has_documents(database: Database) -> bool:
    """Return whether the database has a document that was not purged. Raises DatabaseBusy."""
    with tenancy.account_scope(ALL_ACCOUNTS), translate_errors(), database.engine.connect() as connection:
        # A new database has no tables yet.
        if not inspect(connection).has_table(_ARTIFACTS.name):
            return False
        found = select(_ARTIFACTS.c.id).where(_ARTIFACTS.c.purged_at.is_(None)).limit(1)
        return connection.scalar(found) is not None


@lru_cache(maxsize=1)
def process_runtime() -> Runtime:
    """Return the runtime of this process, opened on first use.

    The parent of a worker pool opens one too, for its sweep, and forks again when a child ends; each child opens its own
    connections. Raises UnsafeSettings.
    """
    settings = get_settings()
    reject_weak_credentials(settings)
    tracing.start_tracing(settings)
    runtime = open_runtime(settings)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=runtime.db.abandon_connections)
    return runtime


def reject_weak_credentials(settings: Settings) -> None:
    """Raise UnsafeSettings if the settings hold a well-known credential, or one that can be guessed."""
    if wrong := settings.weak_credentials:
        raise UnsafeSettings(f"{wrong}; create a separate user for the service there, with a long random password")
    if settings.needs_own_secret_key and (wrong := settings.weak_secret_key):
        raise UnsafeSettings(
            f"{wrong}; set EXPORTS_SECRET_KEY to {SECRET_KEY_CHARACTERS} or more random characters, the same on every machine,"
            " and run `exports secrets rotate` to seal existing secrets under it"
        )
