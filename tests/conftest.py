"""Fixtures for all tests: servers, a migrated database, a whole stack. A guard keeps the tests on this machine."""

import gc
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
import kombu.transport.redis
import pytest
import structlog
from argon2 import PasswordHasher
from kombu.transport import TRANSPORT_ALIASES, memory
from psycopg import sql

from config.settings import Settings
from pipeline.accounts import credentials
from pipeline.core import tenancy
from pipeline.core.db import Database
from pipeline.core.outbound import GuardedNetwork
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.ops.migrations.runner import upgrade_database
from tests.interfaces.contracts import sent
from tests.support import compiled_statements, fake_pdf, parsed_rules
from tests.support.pooler import PgBouncer
from tests.support.servers import MissingServer, PostgreSQL, RabbitMQ, Redis, Server

S = TypeVar("S", bound=Server)

SERVER_FIXTURES: Final = frozenset(
    {"redis_server", "rabbitmq_server", "postgres_server", "pgbouncer_server", "own_server"}
)
SERVERS = pytest.mark.servers

#: The fixtures that run a test on each supported database. Its parameters other than those on SQLite make twins.
DATABASE_FIXTURES: Final = frozenset({"database_url", "bare_database_url", "stack"})
ON_SQLITE: Final = frozenset({"sqlite", "sqlite-memory"})

#: Parameters of tests on RabbitMQ, which takes seconds of processor to start in each process.
RABBITMQ: Final = frozenset({"rabbitmq", "rabbitmq_server", "postgres-rabbitmq"})

#: Finds test modules that read the clock directly. Tests of code that reads it carry the mark themselves.
_CLOCK: Final = re.compile(r"\b(datetime\.now|utc_now|time\.time)\(")

#: The folders whose tests use the real PDF engine; other tests ask for it with the mark `pdf_engine`.
PDF_ENGINE_FOLDERS: Final = [
    Path(__file__).parent / name
    for name in "documents ops/verification system/acceptance system/benchmarks system/model system/processes system/soak".split()
]

#: The role that owns a stack's tables.
OWNER: Final = "exports"

#: The key that encrypts partners' secrets in every process of a stack.
SECRET_KEY: Final = "the tests' own secret key, known to all"  # noqa: S105 - it protects nothing


def pytest_configure() -> None:
    """Give the tests their own settings and keep them on this machine."""
    gc.disable()  # until the tests are collected
    for name in [*os.environ]:
        if name.startswith("EXPORTS_") or name in {"DATABASE_URL", "BROKER_URL", "ARTIFACTS_URL"}:
            del os.environ[name]
    Settings.model_config["env_file"] = None
    # A shell that starts the tests in the background makes them and all their processes ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(_loopback_only)
    # The tests' own connections in memory must not look for messages only once a second.
    TRANSPORT_ALIASES["memory"] = "pipeline.core.memory_transport:MemoryTransport"
    # A consumer ends only after Redis has answered its last wait for a message.
    kombu.transport.redis.Transport.brpop_timeout = 0.05  # type: ignore[assignment]
    compiled_statements.share()
    parsed_rules.share()
    # A hash of the product takes a tenth of a second; a test of its own holds its cost.
    credentials._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # type: ignore[misc]
    credentials._NOBODYS_HASH = credentials.hash_password("nobody's password")  # type: ignore[misc]
    # A thread that outlives its test must not write into output that another test reads as a command's answer.
    *processors, _ = structlog.get_config()["processors"]
    # rich would take a second of processor time for each traceback.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure([*processors, console], logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    # The duration of an example shows how busy the machine is, not whether the code is right.
    hypothesis.settings.register_profile("project", deadline=None, print_blob=True, derandomize="CI" in os.environ)
    hypothesis.settings.load_profile("project")


def _loopback_only(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not str(address[0]).startswith("127.") and address[0] not in {"localhost", "::1"}:
        raise PermissionError(f"a test may not connect to {address[0]}: the tests stay on this machine")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that need a server or a service, read the clock, open a browser or repeat a test on another database, for `-m`."""
    if _opens_browser(item.path):
        item.add_marker(pytest.mark.pages)
    # They start RabbitMQ, or a service.
    if {"rabbitmq_server", "service"} & {*getattr(item, "fixturenames", ())} or RABBITMQ & {
        str(each) for each in _params(item).values()
    }:
        item.add_marker(pytest.mark.system)
    if _is_twin(item) and item.get_closest_marker("databases") is None:
        item.add_marker(pytest.mark.twins)
    if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker(SERVERS)
    # PostgreSQL has the machine's clock, also in a test that has a clock of its own.
    if _reads_the_clock(item.path) or item.get_closest_marker("servers"):
        item.add_marker(pytest.mark.clock)


@cache
def _reads_the_clock(path: Path) -> bool:
    return _CLOCK.search(path.read_text(encoding="utf-8")) is not None


@cache
def _opens_browser(path: Path) -> bool:
    return "tests.support.browser" in path.read_text(encoding="utf-8")


def _is_twin(item: pytest.Item) -> bool:
    """Return whether the same test also runs on SQLite."""
    own = {each.args[0] for each in item.iter_markers("parametrize")}  # a test that chooses its database has no twin
    params = _params(item)
    return any(params[each] not in ON_SQLITE for each in DATABASE_FIXTURES - own if each in params)


def _params(item: pytest.Item) -> Mapping[str, object]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that take minutes, unless `-m` asks for them."""
    if "long" in str(config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking again and again at a million objects that live until the end."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 50)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures and seeds that tests noted with `record_property`, also those of passed tests."""
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
    """Show each test all rows. The visible account belongs to the thread: without this it would reach the next test."""
    with tenancy.account_scope(tenancy.ALL_ACCOUNTS):
        yield


@pytest.fixture(autouse=True)
def fake_pdf_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set all PDFs of this process without the PDF engine, except where documents are the subject."""
    real = any(request.path.is_relative_to(folder) for folder in PDF_ENGINE_FOLDERS)
    with pytest.MonkeyPatch.context() as patch:
        if not real and request.node.get_closest_marker("pdf_engine") is None:
            patch.setattr(RENDERER, "_request", fake_pdf.answer_request)
        yield


@pytest.fixture(autouse=True)
def check_messages() -> Iterator[None]:
    """Fail a test that makes a message which does not match its published schema."""
    with sent.watch_messages():
        yield


def skip_or_fail(what: str) -> NoReturn:
    """Skip the test if a program is not installed here. In CI, which has them all, fail it."""
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
        """Return the running server; it stops after the test."""


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """Servers only for this test, to kill, freeze and flush."""
    with ExitStack() as servers:

        def start(kind: type[S], *given: Any, **settings: Any) -> S:
            return servers.enter_context(_start_own_server(kind, *given, **settings))

        yield start


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis that all tests share; to break one, use `own_server`."""
    with _start_own_server(Redis) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQ]:
    """A RabbitMQ that all tests share."""
    with _start_own_server(RabbitMQ) as server:
        yield server


class SharedPostgreSQL(PostgreSQL):
    """Holds a database for each test that asked for one by itself; autovacuum would look through them again and again."""

    autovacuum = "off"
    stop_signal = signal.SIGQUIT  # its data ends with it: no checkpoint


@contextmanager
def _new_database(server: PostgreSQL, template: str = "template0", *, owner: str = "postgres") -> Iterator[str]:
    """The URL of a new database, which is dropped at the end: to delete all of them at once takes minutes."""
    url = server.fresh_url(template, owner=owner)
    yield url
    with server.connection() as connection:
        name = sql.Identifier(url.rsplit("/", 1)[1])
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgreSQL]:
    """A PostgreSQL that all tests share."""
    with _start_own_server(SharedPostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: PostgreSQL) -> Iterator[PgBouncer]:
    """A PgBouncer that pools transactions in front of the shared PostgreSQL."""
    with _start_own_server(PgBouncer, postgres_server) as server:
        yield server


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade_database(database)
    database.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "exports.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgreSQL) -> str:
    """The name of a migrated PostgreSQL database to copy; the owner of its tables is not a superuser."""
    url = postgres_server.fresh_url(owner=OWNER)
    _migrate(url)
    return url.rsplit("/", 1)[1]


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite database for this test."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'exports.db')}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=SERVERS)])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated, empty database for this test, on each supported database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server: PostgreSQL = request.getfixturevalue("postgres_server")
    with _new_database(server, request.getfixturevalue("postgres_template")) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=SERVERS)])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, on each supported database: the start of the migrations."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgres_server")
    with _new_database(server) as url:
        yield url


@dataclass(frozen=True)
class Stack:
    """A migrated database, a message broker and an artifact folder, all empty and for one test."""

    name: str
    database_url: str
    broker_url: str
    artifacts_url: str

    @property
    def embedded(self) -> bool:
        """Whether the message broker lives inside the process, so that one process must do everything."""
        return self.broker_url.startswith("memory:")

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment variables that a process needs to run on this stack."""
        return {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker_url,
            "ARTIFACTS_URL": self.artifacts_url,
            "EXPORTS_SECRET_KEY": SECRET_KEY,
        }

    @property
    def settings(self) -> Settings:
        """Return the same settings for code in this process."""
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
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """Each of the three supported stacks."""
    artifacts_url = f"file:{tmp_path / 'artifacts'}"
    if request.param == "sqlite-memory":
        # State in this process outlives a test; clear it as for a fresh process.
        memory.Channel.queues.clear()
        memory.Transport.global_state.clear()
        yield Stack(request.param, request.getfixturevalue("sqlite_url"), "memory://", artifacts_url)
        return
    message_broker: Redis | RabbitMQ = request.getfixturevalue(f"{request.param.removeprefix('postgres-')}_server")
    postgres: PostgreSQL = request.getfixturevalue("postgres_server")
    # As in an installation the owner is not a superuser: row-level security does not hold a superuser.
    with _new_database(postgres, request.getfixturevalue("postgres_template"), owner=OWNER) as database_url:
        yield Stack(request.param, database_url, message_broker.fresh_url(), artifacts_url)


@pytest.fixture
def treat_as_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the endpoints of this machine as internet endpoints, so that parts of their answers are kept."""
    monkeypatch.setattr(GuardedNetwork, "is_internal", False)
