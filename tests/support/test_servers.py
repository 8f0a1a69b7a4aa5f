"""The test servers: each test gets an empty part, and only servers of this machine."""

import socket
from queue import Empty

import kombu
import pytest
from sqlalchemy import func, select

from config.settings import get_settings
from pipeline.core.db import Database
from pipeline.exports.models import Account
from tests.conftest import OwnServer, Stack
from tests.support.servers import Redis, find

pytestmark = pytest.mark.system


def test_database_is_migrated_and_empty(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as session:
        assert session.scalar(select(func.count()).select_from(Account)) == 0
        session.add(Account(id="acc_left_behind", name="Maple Goods Ltd"))
    database.dispose()


def test_database_of_the_next_test_is_empty(database_url: str) -> None:
    test_database_is_migrated_and_empty(database_url)


def test_stack_carries_a_message(stack: Stack) -> None:
    with kombu.Connection(stack.broker_url) as connection:
        queue = connection.SimpleQueue("hello")
        with pytest.raises(Empty):
            queue.get(block=False)
        queue.put({"n": 1})
        queue.put({"n": 2})
        assert queue.get(timeout=10).payload == {"n": 1}


def test_stack_of_the_next_test_is_empty(stack: Stack) -> None:
    test_stack_carries_a_message(stack)


def test_stack_has_its_own_settings(stack: Stack) -> None:
    settings = stack.settings
    assert (settings.database_url, settings.artifacts_url) == (stack.database_url, stack.artifacts_url)
    assert settings.broker_url.get_secret_value() == stack.environment["BROKER_URL"]
    assert settings.embedded == stack.embedded == (stack.name == "sqlite-memory")
    assert get_settings().database_url == "sqlite:///var/exports.db"


def test_flushed_redis_is_empty(own_server: OwnServer) -> None:
    server = own_server(Redis)
    with server.client() as client:
        client.set("wake-up", "1")
        server.flush()
        assert client.dbsize() == 0


def test_connection_to_another_machine_is_rejected() -> None:
    with socket.socket() as outside, pytest.raises(PermissionError, match="stay on this machine"):
        outside.connect(("192.0.2.1", 443))


class Absent(Redis):
    """A server that is not installed anywhere."""

    def __init__(self) -> None:
        find("no-such-program", (), "no-such-package")


def test_missing_server_skips_outside_ci(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed; the package is no-such-package"):
        own_server(Absent)


def test_missing_server_fails_in_ci(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        own_server(Absent)
