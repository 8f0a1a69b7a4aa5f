"""The test servers: each is shown to be ours, each test gets an empty part, a killed one comes back."""

from __future__ import annotations

import socket
from queue import Empty

import kombu
import psutil
import pytest
from sqlalchemy import func, select

from config.settings import get_settings
from pipeline.core.db import Database
from pipeline.exports.models import Account
from tests.conftest import OwnServer, Stack
from tests.support.ports import LOOPBACK, listens
from tests.support.servers import ForeignServer, PostgreSQL, RabbitMQ, Redis, Server, find


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


@pytest.mark.parametrize("kind", [Redis, PostgreSQL, RabbitMQ])
def test_killed_server_restarts_on_its_port(own_server: OwnServer, kind: type[Server]) -> None:
    server = own_server(kind)
    url, first = server.url, server.running().pid
    server.kill()
    server.start()
    second = server.running().pid
    assert first != second
    assert (server.url, listens(second, server.port)) == (url, True)


def test_closed_server_leaves_no_process(own_server: OwnServer) -> None:
    server = own_server(RabbitMQ)
    node = psutil.Process(server.running().pid)
    started = [node, *node.children(recursive=True), psutil.Process(server.epmd.pid if server.epmd else 0)]
    server.close()
    assert len(started) > 2
    _, alive = psutil.wait_procs(started, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert not server.folder.exists()


def test_flushed_redis_is_empty(own_server: OwnServer) -> None:
    server = own_server(Redis)
    with server.client() as client:
        client.set("wake-up", "1")
        server.flush()
        assert client.dbsize() == 0


def test_foreign_server_on_the_port_is_rejected(own_server: OwnServer) -> None:
    server = own_server(Redis)
    server.kill()
    with socket.create_server((LOOPBACK, server.port)), pytest.raises((ForeignServer, RuntimeError)):
        server.start()


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
