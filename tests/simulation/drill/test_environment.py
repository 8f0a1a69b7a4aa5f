"""A drill uses only databases and message brokers that nothing else uses, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kombu import Connection
from pydantic import SecretStr

from config.settings import Settings
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.message_broker import make_connection
from pipeline.simulation.drill import environment
from pipeline.simulation.drill.processes import DrillFailed
from tests.conftest import OWNER
from tests.support.servers import PostgreSQL, RabbitMQ, Redis


def databases(server: PostgreSQL) -> set[str]:
    with server.connection() as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def publish_message(url: str, queue: str) -> None:
    with Connection(url) as connection:
        connection.SimpleQueue(queue, serializer="json").put({})


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty message broker of either kind."""
    server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    return server.fresh_url()


def test_server_environment_has_own_database_and_leaves_nothing(broker_url: str, postgres_server: PostgreSQL) -> None:
    before = databases(postgres_server)
    created = environment.server_environment(postgres_server.url, broker_url)
    (name,) = databases(postgres_server) - before
    assert name.startswith("exports_drill_")
    assert created.database_url.endswith(f"/{name}")
    assert created.stack in {"PostgreSQL, Redis", "PostgreSQL, RabbitMQ"}
    publish_message(broker_url, "exports.steps")
    created.remove()
    assert databases(postgres_server) == before
    assert not created.folder.exists()
    assert not environment.broker_in_use(Settings(broker_url=SecretStr(broker_url)))


def test_server_environment_with_used_broker_is_refused(broker_url: str, postgres_server: PostgreSQL) -> None:
    publish_message(broker_url, "exports.steps")
    before = databases(postgres_server)
    with pytest.raises(DrillFailed, match="in use; give an empty one"):
        environment.server_environment(postgres_server.url, broker_url)
    assert databases(postgres_server) == before
    with Connection(broker_url) as connection:
        assert connection.SimpleQueue("exports.steps").qsize() == 1


NOWHERE = "postgresql://nobody@127.0.0.1:9/postgres"


def connect_at_once(settings: Settings) -> Connection:
    """Return an open connection; kombu would pause for two seconds before its second attempt."""
    connection = make_connection(settings)
    connection.ensure_connection(max_retries=1, interval_start=0)
    return connection


@pytest.mark.parametrize(
    ("database_url", "broker_url", "error", "says"),
    [
        ("nonsense", "nonsense", DrillFailed, "--database-url must name a PostgreSQL server"),
        (
            "postgresql://host:port/postgres",
            "redis://127.0.0.1:9/0",
            DrillFailed,
            "--database-url must name a PostgreSQL server",
        ),
        (NOWHERE, "redis://127.0.0.1:port/0", DrillFailed, "--broker-url must name a message broker"),
        (NOWHERE, "amqp://[", DrillFailed, "--broker-url must name a message broker"),
        ("sqlite:///here.db", "redis://127.0.0.1:9/0", DrillFailed, "--database-url must name a PostgreSQL server"),
        (NOWHERE, "memory://", DrillFailed, "--broker-url must name a message broker"),
        (NOWHERE, "kafka://127.0.0.1:9", DrillFailed, "--broker-url must name a message broker"),
        (NOWHERE, "redis://127.0.0.1:9/0", MessageBrokerDown, "did not answer"),
        (NOWHERE, "amqp://drill:1@127.0.0.1:9/", MessageBrokerDown, "did not answer"),
    ],
)
def test_server_environment_with_invalid_address_is_refused(
    database_url: str, broker_url: str, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "make_connection", connect_at_once)
    with pytest.raises(error, match=says):
        environment.server_environment(database_url, broker_url)


def test_server_environment_without_database_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unused: Callable[[Settings], bool] = lambda _: False  # noqa: E731 - it replaces a server
    monkeypatch.setattr(environment, "broker_in_use", unused)
    for address in (NOWHERE, f"{NOWHERE}?nonsense=1"):
        with pytest.raises(DrillFailed, match="PostgreSQL does not answer"):
            environment.server_environment(address, "redis://127.0.0.1:9/0")


def test_server_environment_without_right_to_create_database_is_refused(
    postgres_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused: Callable[[Settings], bool] = lambda _: False  # noqa: E731 - it replaces a server
    monkeypatch.setattr(environment, "broker_in_use", unused)
    theirs = postgres_server.fresh_url(owner=OWNER)
    with pytest.raises(DrillFailed, match="PostgreSQL cannot create a database: permission denied"):
        environment.server_environment(theirs, "redis://127.0.0.1:9/0")


def test_kept_notice_names_all_places_without_password(tmp_path: Path) -> None:
    here = environment.DrillEnvironment(tmp_path, f"sqlite:///{tmp_path / 'exports.db'}")
    assert here.kept_notice == f"Its database, documents and logs are kept in {tmp_path}."
    there = environment.DrillEnvironment(
        tmp_path, "postgresql://me:canary@host/exports_drill_1", "redis://:canary@host/0"
    )
    assert "Its database exports_drill_1 and its queues are kept on their servers" in there.kept_notice
    assert "canary" not in there.kept_notice


def test_embedded_environment_needs_no_server() -> None:
    created = environment.embedded_environment()
    assert created.stack == "SQLite, embedded"
    assert created.folder.is_dir()
    created.remove()
    assert not created.folder.exists()
