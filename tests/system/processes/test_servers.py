"""The test servers: a killed one comes back on its port, a closed one leaves nothing, a foreign one is rejected."""

import socket

import psutil
import pytest

from tests.conftest import OwnServer
from tests.support.ports import LOOPBACK, listens
from tests.support.servers import ForeignServer, PostgreSQL, RabbitMQ, Redis, Server


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


def test_foreign_server_on_the_port_is_rejected(own_server: OwnServer) -> None:
    server = own_server(Redis)
    server.kill()
    with socket.create_server((LOOPBACK, server.port)), pytest.raises((ForeignServer, RuntimeError)):
        server.start()
