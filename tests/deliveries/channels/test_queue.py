"""The queues of the contract on each message broker: messages arrive once, or the failure is reported."""

import json
import time
from collections.abc import Sequence

import pytest
from kombu import Connection, Consumer, Exchange, Message, Queue

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelUnavailable
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from tests.conftest import SERVERS, OwnServer
from tests.deliveries.conftest import empty_queues
from tests.support.servers import RabbitMQ, Redis
from tests.system.faults.matrix import mark_own_stack

TARGET = Target("acc_demo", "wh_demo", test=False)


def message(number: int, key: str = "warehouse.wh_demo.package.recorded.v1") -> OutgoingMessage:
    body = json.dumps({"id": f"msg-{number}", "data": {"name": "Überseecontainer"}}).encode()
    return OutgoingMessage(f"msg-{number}", "exports.package.recorded.v1", key, body)


@pytest.fixture(params=["memory", pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)])
def broker_url(request: pytest.FixtureRequest) -> str:
    """The URL of each message broker, without declared queues."""
    if request.param == "memory":
        empty_queues()
        return "memory://"
    server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    return server.fresh_url()


def open_channel(url: str) -> QueueChannel:
    return QueueChannel(Settings.model_validate({"broker_url": url, "delivery_timeout_seconds": 3}))


def send(channel: QueueChannel, *messages: OutgoingMessage) -> list[DeliveryReceipt]:
    return list(channel.send(messages, TARGET))


def take_messages(url: str, name: str, count: int, seconds: float = 10) -> list[Message]:
    """Take `count` messages from the queue, or as many as come in time."""
    taken: list[Message] = []

    def take(each: Message) -> None:
        taken.append(each)
        each.ack()

    until = time.monotonic() + seconds
    with Connection(url) as connection, Consumer(connection, [Queue(name, no_declare=True)], on_message=take):
        while len(taken) < count and time.monotonic() < until:
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
    return taken


def ids(messages: Sequence[Message]) -> list[str]:
    return [json.loads(each.body)["id"] for each in messages]


def test_messages_wait_in_their_queue_in_order_without_consumers(broker_url: str) -> None:
    channel = open_channel(broker_url)
    receipts = send(channel, *(message(number) for number in range(5)))
    assert len(receipts) == 5
    taken = take_messages(broker_url, "exports.warehouse", 5)
    assert ids(taken) == [f"msg-{number}" for number in range(5)]


def test_message_has_its_properties_and_exact_bytes(broker_url: str) -> None:
    sent = message(1)
    send(open_channel(broker_url), sent)
    (taken,) = take_messages(broker_url, "exports.warehouse", 1)
    body = taken.body if isinstance(taken.body, bytes) else taken.body.encode()
    assert body == sent.body
    assert taken.content_type == "application/cloudevents+json"
    assert taken.properties["message_id"] == "msg-1"
    assert taken.properties["delivery_mode"] == 2


def test_each_audience_has_its_own_queue(broker_url: str) -> None:
    send(
        open_channel(broker_url),
        message(1, "broker.br_1.handoff.ready.v1"),
        message(2, "warehouse.wh_1.package.recorded.v1"),
        message(3, "operator.acc_1.export.executed.v1"),
    )
    for number, name in enumerate(("exports.broker", "exports.warehouse", "exports.operator"), start=1):
        assert ids(take_messages(broker_url, name, 1)) == [f"msg-{number}"]


def test_partner_with_own_queue_gets_only_its_messages(broker_url: str) -> None:
    channel = open_channel(broker_url)
    send(channel, message(0))
    own = Queue(
        "own-of-wh_demo",
        Exchange("exports", type="topic", durable=True),
        routing_key="warehouse.wh_demo.#",
        durable=True,
    )
    with Connection(broker_url) as connection:
        own(connection.default_channel).declare()
    send(channel, message(1), message(2, "warehouse.wh_other.package.recorded.v1"), message(3))
    # In order: another partner's message would come before the last one.
    assert ids(take_messages(broker_url, "own-of-wh_demo", 2, seconds=30)) == ["msg-1", "msg-3"]


@pytest.mark.parametrize(
    "broker_url", [pytest.param(each, marks=SERVERS) for each in ("redis", "rabbitmq")], indirect=True
)
def test_unacknowledged_message_returns_although_another_queue_acknowledged_its_copy(broker_url: str) -> None:
    channel = open_channel(broker_url)
    own = Queue(
        "own-of-wh_demo",
        Exchange("exports", type="topic", durable=True),
        routing_key="warehouse.wh_demo.#",
        durable=True,
    )
    with Connection(broker_url) as reader:
        held = own(reader.default_channel)
        held.declare()
        send(channel, message(1))
        taken = held.get()
        assert taken is not None
        assert ids([taken]) == ["msg-1"]
        assert ids(take_messages(broker_url, "exports.warehouse", 1)) == ["msg-1"]
    assert ids(take_messages(broker_url, "own-of-wh_demo", 1)) == ["msg-1"]


def test_rabbitmq_message_is_confirmed(rabbitmq_server: RabbitMQ) -> None:
    assert send(open_channel(rabbitmq_server.fresh_url()), message(1)) == [DeliveryReceipt("confirmed")]


@mark_own_stack("F25")
def test_rabbitmq_unroutable_message_fails_and_the_next_is_taken(rabbitmq_server: RabbitMQ) -> None:
    url = rabbitmq_server.fresh_url()
    channel = open_channel(url)
    taken = channel.send([message(1), message(2, "nobody.listens"), message(3)], TARGET)
    assert next(taken) == DeliveryReceipt("confirmed")
    with pytest.raises(ChannelUnavailable):
        next(taken)
    assert send(channel, message(4)) == [DeliveryReceipt("confirmed")]
    assert ids(take_messages(url, "exports.warehouse", 2)) == ["msg-1", "msg-4"]


@mark_own_stack("F25")
def test_rabbitmq_message_rejected_by_full_queue_fails_and_is_taken_later(rabbitmq_server: RabbitMQ) -> None:
    url = rabbitmq_server.fresh_url()
    channel = open_channel(url)
    send(channel, message(0))
    full = Queue(
        "full",
        Exchange("exports", type="topic", durable=True),
        routing_key="warehouse.wh_demo.#",
        durable=True,
        queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
    )
    with Connection(url) as connection:
        full(connection.default_channel).declare()
    # RabbitMQ rejects messages when the queue has more than its limit.
    assert send(channel, message(1), message(2)) == [DeliveryReceipt("confirmed")] * 2
    with pytest.raises(ChannelUnavailable, match="MessageNacked"):
        send(channel, message(3))
    assert ids(take_messages(url, "full", 2)) == ["msg-1", "msg-2"]
    assert send(channel, message(3)) == [DeliveryReceipt("confirmed")]
    assert ids(take_messages(url, "full", 1)) == ["msg-3"]


def test_redis_flush_loses_no_message_sent_afterwards(own_server: OwnServer) -> None:
    server = own_server(Redis)
    channel = open_channel(server.url)
    send(channel, message(1))
    server.flush()
    send(channel, message(2))
    assert ids(take_messages(server.url, "exports.warehouse", 1)) == ["msg-2"]
