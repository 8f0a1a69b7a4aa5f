"""How many task messages a sweep adds to a queue while the message broker is down, and after its restart."""

import pytest
from kombu import Connection, Exchange, Producer, Queue
from structlog.testing import capture_logs

from pipeline.workflow import dispatch
from tests.conftest import OwnServer
from tests.support.servers import RabbitMQ, Redis
from tests.workflow.test_sweeper_backlog import LEAST, MOST, use_broker

QUEUE = ("exports.room",)


@pytest.mark.servers
@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_queue_capacity_is_the_minimum_while_the_broker_is_down(
    kind: type[Redis | RabbitMQ], own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server(kind)
    url = server.fresh_url()
    with use_broker(url, monkeypatch):
        assert dispatch.queue_capacity(MOST, LEAST, QUEUE) == [MOST]
        server.kill()
        with capture_logs() as logs:
            assert dispatch.queue_capacity(MOST, LEAST, QUEUE) == [LEAST]
        assert [line["event"] for line in logs] == ["queue_depth_unknown"]
        server.start()
        with Connection(url, transport_options={"confirm_publish": True}) as connection:
            queue = Queue(*QUEUE, Exchange(""), routing_key=QUEUE[0])
            Producer(connection).publish("{}", exchange="", routing_key=queue.name, declare=[queue])
        assert dispatch.queue_capacity(MOST, LEAST, QUEUE) == [MOST - 1]
