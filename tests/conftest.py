"""What every test may ask for: servers, a migrated database, a whole stack; and what none may do: leave this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeVar

import hypothesis
import pytest
import structlog
from kombu.transport import memory

from config.settings import Settings
from pipeline.core import tenancy
from pipeline.core.db import Database
from pipeline.core.outbound import GuardedNetwork
from pipeline.ops.migrations.runner import upgrade_database
from tests.interfaces.contracts import sent
from tests.support.pooler import PgBouncer
from tests.support.servers import MissingServer, PostgreSQL, RabbitMQ, Redis, Server

S = TypeVar("S", bound=Server)

SERVER_FIXTURES: Final = frozenset(
    {"redis_server", "rabbitmq_server", "postgres_server", "pgbouncer_server", "own_server"}
)
SERVERS = pytest.mark.servers

#: A module of tests that reads the machine's clock by itself. What reads it by the code under test is marked there.
_CLOCK: Final = re.compile(r"\b(datetime\.now|utc_now|time\.time)\(")

#: The role that owns the tables of a stack.
OWNER: Final = "exports"

#: What every process of a stack seals partners' secrets under.
SECRET_KEY: Final = "the tests' own secret key, known to all"  # noqa: S105 - it guards nothing


def pytest_configure() -> None:
    """Give the tests settings of their own and keep them on this machine."""
    for name in [*os.environ]:
        if name.startswith("EXPORTS_") or name in {"DATABASE_URL", "BROKER_URL", "ARTIFACTS_URL"}:
            del os.environ[name]
    Settings.model_config["env_file"] = None
    # A shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(_loopback_only)
    # A thread that outlives its test must not write into what another test reads as a command's answer.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    # How long one example takes says how busy the machine is, not whether the code is right.
    hypothesis.settings.register_profile("project", deadline=None, print_blob=True, derandomize="CI" in os.environ)
    hypothesis.settings.load_profile("project")


def _loopback_only(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not str(address[0]).startswith("127.") and address[0] not in {"localhost", "::1"}:
        raise PermissionError(f"a test may not connect to {address[0]}: the tests stay on this machine")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs a server and what reads the clock, so that `-m "not servers"` and `-m clock` find it."""
    if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker(SERVERS)
    if _reads_the_clock(item.path):
        item.add_marker(pytest.mark.clock)


@cache
def _reads_the_clock(path: Path) -> bool:
    return _CLOCK.search(path.read_text(encoding="utf-8")) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for by its mark."""
    if "long" in str(config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures and seeds that tests noted with `record_property`, of those that passed as well."""
    reports = [
        each for found in terminalreporter.stats.values() for each in found if isinstance(each, pytest.TestReport)
    ]
    noted = {(each.nodeid, name): value for each in reports for name, value in each.user_properties}
    if noted:
        terminalreporter.section("noted")
    for (test, name), value in sorted(noted.items(), key=lambda one: one[0]):
        terminalreporter.line(f"{test.rsplit('/', 1)[-1]}  {name}: {value}")


@pytest.fixture(autouse=True)
def see_all_rows() -> Iterator[None]:
    """Whose rows are seen is known to the thread: a test that acts for one account leaves that to no other test."""
    with tenancy.account_scope(tenancy.ALL_ACCOUNTS):
        yield


@pytest.fixture(autouse=True)
def check_messages() -> Iterator[None]:
    """Fail the test that makes a message which its published schema does not describe."""
    with sent.watch_messages():
        yield


def skip_or_fail(what: str) -> NoReturn:
    """Skip the test for want of what is not installed here; in CI, where all of it is, fail it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@contextmanager
def _start_own_server(kind: type[S], *given: Any, **settings: Any) -> Iterator[S]:
    try:
        server = kind(*given, **settings)
    except MissingServer as missing:
        skip_or_fail(str(missing))
    with server:
        yield server


class OwnServer(Protocol):
    """Starts a server that no other test sees."""

    def __call__(self, kind: type[S], *given: Any, **settings: Any) -> S:
        """Return the running server; it ends with the test."""


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """Servers for this test alone: to kill, freeze and flush."""
    with ExitStack() as servers:

        def start(kind: type[S], *given: Any, **settings: Any) -> S:
            return servers.enter_context(_start_own_server(kind, *given, **settings))

        yield start


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis of the tests' own, shared by all; to break one, ask for `own_server`."""
    with _start_own_server(Redis) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQ]:
    """A RabbitMQ of the tests' own, shared by all."""
    with _start_own_server(RabbitMQ) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgreSQL]:
    """A PostgreSQL of the tests' own, shared by all."""
    with _start_own_server(PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: PostgreSQL) -> Iterator[PgBouncer]:
    """A PgBouncer of the tests' own, which pools transactions before the shared PostgreSQL."""
    with _start_own_server(PgBouncer, postgres_server) as server:
        yield server


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade_database(database)
    database.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "exports.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgreSQL) -> str:
    """The name of a migrated PostgreSQL database, to be copied; its tables are owned by a role that is no superuser."""
    url = postgres_server.fresh_url(owner=OWNER)
    _migrate(url)
    return url.rsplit("/", 1)[1]


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite database of this test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'exports.db')}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=SERVERS)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database of this test's own, on each database that we promise."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    server: PostgreSQL = request.getfixturevalue("postgres_server")
    return server.fresh_url(request.getfixturevalue("postgres_template"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=SERVERS)])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a single table, on each database that we promise: what the migrations start from."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bare.db'}"
    server: PostgreSQL = request.getfixturevalue("postgres_server")
    return server.fresh_url()


@dataclass(frozen=True)
class Stack:
    """A migrated database, a message broker and an artifact folder, all empty and of one test's own."""

    name: str
    database_url: str
    broker_url: str
    artifacts_url: str

    @property
    def embedded(self) -> bool:
        """Whether the message broker lives inside the process, so that one process must be everything."""
        return self.broker_url.startswith("memory:")

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process of ours needs in its environment to run on this stack."""
        return {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker_url,
            "ARTIFACTS_URL": self.artifacts_url,
            "EXPORTS_SECRET_KEY": SECRET_KEY,
        }

    @property
    def settings(self) -> Settings:
        """The same for code in this process."""
        return Settings.model_validate(
            {
                "database_url": self.database_url,
                "broker_url": self.broker_url,
                "artifacts_url": self.artifacts_url,
                "secret_key": SECRET_KEY,
            }
        )


@pytest.fixture(
    params=[
        "sqlite-memory",
        pytest.param("postgres-redis", marks=SERVERS),
        pytest.param("postgres-rabbitmq", marks=SERVERS),
    ]
)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Stack:
    """Each of the three stacks that we promise."""
    artifacts_url = f"file:{tmp_path / 'artifacts'}"
    if request.param == "sqlite-memory":
        # What lives in this process outlives a test: here is what a fresh process would see.
        memory.Channel.queues.clear()
        memory.Transport.global_state.clear()
        return Stack(request.param, request.getfixturevalue("sqlite_url"), "memory://", artifacts_url)
    message_broker: Redis | RabbitMQ = request.getfixturevalue(f"{request.param.removeprefix('postgres-')}_server")
    postgres: PostgreSQL = request.getfixturevalue("postgres_server")
    # As an installation has it: no superuser, who would walk through the walls between accounts.
    database_url = postgres.fresh_url(request.getfixturevalue("postgres_template"), owner=OWNER)
    return Stack(request.param, database_url, message_broker.fresh_url(), artifacts_url)


@pytest.fixture
def treat_as_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the endpoints of this machine for ones of the internet, of whose answers something is kept."""
    monkeypatch.setattr(GuardedNetwork, "is_internal", False)
