"""The benchmark's own servers, and databases on them with an account that may execute."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from config.settings import Settings
from pipeline.accounts import api_keys, partners, service
from pipeline.accounts.schemas import NewPartner
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.ops.migrations.runner import upgrade_database
from tests.conftest import Stack
from tests.support import factories
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, Server

S = TypeVar("S", bound=Server)

EMBEDDED: Final = "SQLite, embedded"
REDIS: Final = "PostgreSQL, Redis"
RABBITMQ: Final = "PostgreSQL, RabbitMQ"


class BenchmarkServers:
    """Starts each server at its first use; at the end stops all servers and programs."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._servers: dict[type[Server], Server] = {}
        self.folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="exports-benchmark-")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stack(self, name: str) -> Stack:
        """Return an empty stack of the kind, migrated, with its account and partners; raises MissingServer."""
        folder = self.make_folder()
        if name == EMBEDDED:
            database_url, broker_url = f"sqlite:///{folder / 'exports.db'}", "memory://"
        else:
            broker = self._server(Redis) if name == REDIS else self._server(RabbitMQ)
            database_url, broker_url = self._server(PostgreSQL).fresh_url(), broker.fresh_url()
        stack = Stack(name, database_url, broker_url, f"file:{folder / 'artifacts'}")
        runtime = open_runtime(stack.settings)
        prepare_database(runtime)
        runtime.close()
        return stack

    def make_folder(self) -> Path:
        """Return an empty folder."""
        folder = self.folder / new_id("room")
        folder.mkdir()
        return folder

    def _server(self, kind: type[S]) -> Any:  # the one Redis, PostgreSQL or RabbitMQ
        if kind not in self._servers:
            self._servers[kind] = self._open.enter_context(kind())
        return self._servers[kind]


def prepare_database(runtime: Runtime) -> None:
    """Migrate the database; open the plans' account with its partners, all on the queue channel."""
    upgrade_database(runtime.db)
    service.create_account(runtime, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    broker = NewPartner(id=factories.BROKER, kind="customs_broker", name="Demo broker", path="byob", live=True)
    warehouse = NewPartner(id=factories.WAREHOUSE, kind="warehouse", name="Demo warehouse", live=True)
    operator = NewPartner(id=factories.OPERATOR, kind="operator", name="Export desk", live=True)
    for partner in (broker, warehouse, operator):
        partners.create_partner(runtime, factories.ACCOUNT, partner)


def create_key(settings: Settings) -> str:
    """Return a new key of the account that may execute."""
    runtime = open_runtime(settings)
    try:
        return api_keys.create_key(runtime, factories.ACCOUNT, "bench", mode="live", roles=[api_keys.EXECUTE]).bearer
    finally:
        runtime.close()
