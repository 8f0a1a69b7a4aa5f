"""What one process has open: its settings, the database and the artifact store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from config.settings import Settings, get_settings
from pipeline.artifacts import ArtifactStore
from pipeline.db import Clock, Database, utc_now


@dataclass(frozen=True)
class Runtime:
    """The open resources of a process; made once, handed down."""

    settings: Settings
    db: Database
    store: ArtifactStore

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
    return Runtime(settings, database, ArtifactStore(settings.artifacts_url))


@lru_cache(maxsize=1)
def process_runtime() -> Runtime:
    """Return the runtime of this process, opened on first use: after a worker pool has forked, never before."""
    return open_runtime(get_settings())
