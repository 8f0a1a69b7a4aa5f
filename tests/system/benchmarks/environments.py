"""The benchmark's own servers, and databases on them with an account that may execute."""

import shutil
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import psycopg

from config.settings import Settings
from pipeline.accounts import api_keys, partners, service
from pipeline.accounts.schemas import NewPartner
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.ops.migrations.runner import upgrade_database
from tests.conftest import OWNER, Stack
from tests.support import factories
from tests.support.servers import PostgreSQL, Redis, Server

S = TypeVar("S", bound=Server)

EMBEDDED: Final = "SQLite, embedded"
REDIS: Final = "PostgreSQL, Redis"


class BenchmarkServers:
    """Starts each server at its first use; at the end stops all servers and programs."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._servers: dict[type[Server], Server] = {}
        self._prepared: dict[str, str] = {}  # by the kind of stack, the file or database to copy
        self.folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="exports-benchmark-")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stack(self, name: str) -> Stack:
        """Return an empty stack with account and partners, a copy of the first of its kind; raises MissingServer."""
        folder = self.make_folder()
        prepared = self._prepared.get(name)
        if name == EMBEDDED:
            database_url, broker_url = f"sqlite:///{folder / 'exports.db'}", "memory://"
            if prepared:
                shutil.copy(prepared, folder / "exports.db")
        else:
            database_url = self.start(PostgreSQL).fresh_url(prepared or "template0", owner=OWNER)
            broker_url = self.start(Redis).fresh_url()
        stack = Stack(name, database_url, broker_url, f"file:{folder / 'artifacts'}")
        if prepared:
            return stack
        with closing(open_runtime(stack.settings)) as runtime:
            upgrade_database(runtime.db)
            create_account(runtime, factories.ACCOUNT)
        self._prepared[name] = str(folder / "exports.db") if name == EMBEDDED else database_url.rsplit("/", 1)[1]
        return self.stack(name)

    def connect(self, stack: Stack) -> psycopg.Connection[Any]:
        """Return an administrator's connection to the stack's PostgreSQL; each statement is its own transaction."""
        url = self.start(PostgreSQL).database_url(stack.database_url.rsplit("/", 1)[1])
        return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def make_folder(self) -> Path:
        """Return an empty folder."""
        folder = self.folder / new_id("room")
        folder.mkdir()
        return folder

    def start(self, kind: type[S]) -> S:
        """Return the only server of the kind, started at the first call; raises MissingServer."""
        if kind not in self._servers:
            self._servers[kind] = self._open.enter_context(kind())
        return cast("S", self._servers[kind])


def create_account(runtime: Runtime, account_id: str) -> None:
    """Open an account with its partners, all on the queue channel."""
    service.create_account(runtime, account_id, "Maple Goods Ltd", gs1_prefix="0614141")
    broker = NewPartner(id=factories.BROKER, kind="customs_broker", name="Demo broker", path="byob", live=True)
    warehouse = NewPartner(id=factories.WAREHOUSE, kind="warehouse", name="Demo warehouse", live=True)
    operator = NewPartner(id=factories.OPERATOR, kind="operator", name="Export desk", live=True)
    for partner in (broker, warehouse, operator):
        partners.create_partner(runtime, account_id, partner)


def create_key(settings: Settings) -> str:
    """Return a new key of the account that may execute."""
    runtime = open_runtime(settings)
    try:
        return api_keys.create_key(runtime, factories.ACCOUNT, "bench", mode="live", roles=[api_keys.EXECUTE]).bearer
    finally:
        runtime.close()
