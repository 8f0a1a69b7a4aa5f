"""The service on each of the three stacks: started once, used by every test under the test's own account."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest

from config import queues
from tests.conftest import SERVERS, _start_own_server
from tests.interfaces.contracts import sent
from tests.support.client_package import client_package, client_wheel  # noqa: F401 - fixtures of others
from tests.support.fork_server import ForkServer, start_fork_server
from tests.support.servers import PostgreSQL, RabbitMQ, Redis
from tests.system.acceptance.account import AccountClient, open_account
from tests.system.acceptance.installation import Distributed, Embedded, Service, open_distributed, open_embedded

STACKS = (
    "sqlite-memory",
    pytest.param("postgres-redis", marks=SERVERS),
    pytest.param("postgres-rabbitmq", marks=SERVERS),
)

SERVICE = pytest.StashKey[Service]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that need a part which their stack does not have."""
    left_out = [item for item in items if not fits_stack(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def fits_stack(item: pytest.Item) -> bool:
    """Return whether the test's stack is of the kind that the test asks for."""
    fixtures = set(getattr(item, "fixturenames", ()))
    if any(f"on_{broker}" in fixtures and broker not in item.name for broker in ("redis", "rabbitmq")):
        return False
    asked = {"distributed", "embedded"} & fixtures
    in_process = "sqlite-memory" in item.name
    return not asked or asked == {"embedded" if in_process else "distributed"}


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The parent of the service's processes."""
    with start_fork_server(tmp_path_factory.mktemp("fork-server")) as running:
        yield running


@pytest.fixture(scope="session", params=STACKS)
def running_service(
    request: pytest.FixtureRequest, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The service on one stack. No other test uses its message broker, so tests may break it."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as end:
        if request.param == "sqlite-memory":
            service = end.enter_context(open_embedded(f"sqlite:///{folder / 'exports.db'}", folder, fork_server))
        else:
            kind: type[Redis | RabbitMQ] = Redis if request.param == "postgres-redis" else RabbitMQ
            postgres: PostgreSQL = request.getfixturevalue("postgres_server")
            message_broker = end.enter_context(_start_own_server(kind))
            url = postgres.fresh_url(owner="exports")
            service = end.enter_context(open_distributed(url, message_broker, folder, fork_server))
        yield service
        for message in service.files.received_messages():
            if message.queue == queues.REFUSED:
                sent.check_refusal(message.body)
            elif message.queue != queues.DEAD:
                sent.check(message.body)


@pytest.fixture
def service(request: pytest.FixtureRequest, running_service: Service) -> Service:
    """The service with all processes running, whatever the test before did."""
    request.node.stash[SERVICE] = running_service
    running_service.start()
    return running_service


@pytest.fixture
def distributed(service: Service) -> Distributed:
    """The service with its message broker and workers in processes of their own."""
    assert isinstance(service, Distributed)
    return service


@pytest.fixture
def on_redis(distributed: Distributed) -> Distributed:
    """The same with Redis as its message broker."""
    return distributed


@pytest.fixture
def on_rabbitmq(distributed: Distributed) -> Distributed:
    """The same with RabbitMQ as its message broker."""
    return distributed


@pytest.fixture
def embedded(service: Service) -> Embedded:
    """The service as one process."""
    assert isinstance(service, Embedded)
    return service


@pytest.fixture
def account(service: Service) -> Iterator[AccountClient]:
    """A new account for the test."""
    with open_account(service) as account:
        yield account


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop a service that no test of this process needs next: its processes sweep all the time."""
    service = item.stash.get(SERVICE, None)
    if service is not None and (nextitem is None or find_group(nextitem) != find_group(item)):
        service.stop()


def find_group(item: pytest.Item) -> object:
    """Return what keeps a test with others in one process; None if nothing does."""
    marker = item.get_closest_marker("xdist_group")
    return None if marker is None else marker.args


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of the service to a failure."""
    report = yield
    service = item.stash.get(SERVICE, None)
    if report.failed and service is not None:
        report.sections.append(("logs of the service", service.logs()))
    return report
