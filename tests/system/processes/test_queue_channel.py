"""The queue channel while its message broker restarts, hangs or loses its connections."""

import json
import time

import pytest
import redis

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelUnavailable
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from tests.conftest import OwnServer
from tests.support.servers import RabbitMQ, Redis, poll

TARGET = Target("acc_demo", "wh_demo", test=False)


def message(number: int, key: str = "warehouse.wh_demo.package.recorded.v1") -> OutgoingMessage:
    body = json.dumps({"id": f"msg-{number}", "data": {"name": "Überseecontainer"}}).encode()
    return OutgoingMessage(f"msg-{number}", "exports.package.recorded.v1", key, body)


def open_channel(url: str) -> QueueChannel:
    return QueueChannel(Settings.model_validate({"broker_url": url, "delivery_timeout_seconds": 3}))


def send(channel: QueueChannel, *messages: OutgoingMessage) -> list[DeliveryReceipt]:
    return list(channel.send(messages, TARGET))


def is_taken(channel: QueueChannel, number: int) -> bool:
    """Return whether the message is taken. A message broker that just started may need more than one attempt's time."""
    try:
        return len(send(channel, message(number))) == 1
    except ChannelUnavailable:
        return False


def close_connections(server: Redis | RabbitMQ) -> None:
    """Close every connection at the message broker, as a restart or a firewall does."""
    if isinstance(server, RabbitMQ):
        server.control("close_all_connections", "test")
        return
    with redis.Redis.from_url(server.url) as client:
        client.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_lost_connection_is_replaced_in_the_same_attempt(own_server: OwnServer, kind: type[Redis | RabbitMQ]) -> None:
    server = own_server(kind)
    channel = open_channel(server.url)
    poll(lambda: is_taken(channel, 1), 60, "the message broker takes no message")
    close_connections(server)
    assert len(send(channel, message(2), message(3))) == 2


@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_message_broker_down_fails_fast_and_is_used_again_when_back(
    own_server: OwnServer, kind: type[Redis | RabbitMQ]
) -> None:
    server = own_server(kind)
    channel = open_channel(server.url)
    poll(lambda: is_taken(channel, 1), 60, "the message broker takes no message")
    server.kill()
    began = time.monotonic()
    with pytest.raises(ChannelUnavailable):
        send(channel, message(2))
    assert time.monotonic() - began < 60
    server.start()
    poll(lambda: is_taken(channel, 3), 60, "the message broker is not used again")


@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_hanging_message_broker_fails_within_total_time(own_server: OwnServer, kind: type[Redis | RabbitMQ]) -> None:
    server = own_server(kind)
    channel = open_channel(server.url)
    poll(lambda: is_taken(channel, 1), 60, "the message broker takes no message")
    server.freeze()
    began = time.monotonic()
    with pytest.raises(ChannelUnavailable):
        send(channel, message(2))
    assert time.monotonic() - began < 60
    server.thaw()
    poll(lambda: is_taken(channel, 3), 60, "the message broker is not used again")
