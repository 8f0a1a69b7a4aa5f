"""The three stacks, with servers only for these tests, which kill, freeze and disconnect them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from celery import Celery

from config import queues
from config.settings import Settings
from pipeline.core.db import Database
from pipeline.core.message_broker import make_connection
from pipeline.ops.migrations.runner import upgrade_database
from tests.conftest import Stack, _start_own_server
from tests.support.fork_server import ForkServer, start_fork_server
from tests.support.servers import PostgreSQL, RabbitMQ, Redis
from tests.system.faults.case import Case, open_case
from tests.system.faults.fork_server import ENGINE, MODULE, QUICK
from tests.system.faults.matrix import EMBEDDED, REDIS, read_rows
from tests.system.faults.site import Site

HERE = Path(__file__).parent
TEST_SECONDS = 900
#: The fixtures that yield a stack.
STACKED = {"site", "own_site", "durable_site"}

OpenCase = Callable[..., AbstractContextManager[Case]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that break a stack the time that a busy machine needs."""
    for item in items:
        if HERE in item.path.parents and STACKED & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The process from which all others are forked."""
    with start_fork_server(tmp_path_factory.mktemp("fork-server"), module=MODULE) as running:
        yield running


@pytest.fixture(scope="session")
def database() -> Iterator[PostgreSQL]:
    """A PostgreSQL that tests may kill."""
    with _start_own_server(PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def site(
    request: pytest.FixtureRequest, parent: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The stack that the test's row of the matrix names; its API runs, whatever the test before did to it."""
    with _stack(request, parent, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def own_site(request: pytest.FixtureRequest, parent: ForkServer, tmp_path: Path) -> Iterator[Site]:
    """A stack for this test only, because of what the test would leave on it."""
    with _stack(request, parent, tmp_path) as made:
        yield made


class Durable(PostgreSQL):
    """A PostgreSQL that waits for the disk before it confirms a write, as in production."""

    fsync = "on"


@pytest.fixture
def durable_site(request: pytest.FixtureRequest, parent: ForkServer, tmp_path: Path) -> Iterator[Site]:
    """A stack for this test only, whose database is as durable as in production."""
    with _start_own_server(Durable) as server, _stack(request, parent, tmp_path, server) as made:
        yield made


@contextmanager
def _stack(
    request: pytest.FixtureRequest, parent: ForkServer, folder: Path, database: PostgreSQL | None = None
) -> Iterator[Site]:
    name: str = request.param
    artifacts = f"file:{folder / 'artifacts'}"
    with ExitStack() as end:
        if name == EMBEDDED:
            stack = Stack(name, f"sqlite:///{folder / 'exports.db'}", "memory://", artifacts)
            made = Site(stack, folder, parent)
        else:
            postgres: PostgreSQL = database or request.getfixturevalue("database")
            kind: type[Redis | RabbitMQ] = Redis if name == REDIS else RabbitMQ
            message_broker = end.enter_context(_start_own_server(kind))
            stack = Stack(name, postgres.fresh_url(), message_broker.fresh_url(), artifacts)
            made = Site(stack, folder, parent, message_broker=message_broker, database=postgres)
            declare_queues(made.runtime.settings)
        migrated = Database(stack.database_url)
        upgrade_database(migrated)
        migrated.dispose()
        end.callback(made.close)
        yield made


def declare_queues(settings: Settings) -> None:
    """Declare every queue, as the service does: a RabbitMQ that is killed while it declares a queue can lose that queue."""
    celery = Celery(set_as_current=False)
    celery.conf.update(queues.celery_options(settings))
    tasks = (celery.amqp.queues[name] for name in queues.TASK_QUEUES)
    with make_connection(settings) as connection:
        for queue in (*queues.contract_queues(settings), queues.heartbeat_queue(settings), *tasks):
            queue.bind(connection.default_channel).declare()


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, record_property: Callable[[str, object], None]) -> OpenCase:
    """Opens the test's account on its stack, with the bounds of its rows.

    Only a test with the mark `pdf_engine` has documents of the real engine.
    """
    (on,) = STACKED & {*request.fixturenames}
    site: Site = request.getfixturevalue(on)
    site.environment |= QUICK
    if request.node.get_closest_marker("pdf_engine"):
        del site.environment[ENGINE]
    return partial(open_case, site, tmp_path, rows=read_rows(request.node), note=record_property)
