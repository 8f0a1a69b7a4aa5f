"""Tests that kombu and amqp still have the bugs that pipeline/core/message_broker.py and redis_transport.py work around.

If a test fails after an update of a library, the bug may be fixed: remove the workaround, or change it.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
from amqp.transport import TCPTransport
from kombu import Connection
from kombu.simple import SimpleQueue
from kombu.transport import memory, redis, virtual

from pipeline.core import memory_transport, message_broker, redis_transport

METADATA_SERVICE = "169.254.169.254"


class _Recorder(redis.Channel):
    """Kombu's channel to Redis with lists in place of a server."""

    def __init__(self) -> None:
        with Connection("redis://") as connection:
            connection.transport.state = virtual.BrokerState()
            virtual.Channel.__init__(self, connection.transport)
        self.bound: list[tuple[Any, ...]] = []
        self.put: list[tuple[str, dict[str, Any]]] = []

    def _queue_bind(self, *binding: Any) -> None:
        self.bound.append(binding)

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.put.append((queue, message))

    def _new_queue(self, queue: str, auto_delete: object = False, **_: Any) -> None:  # noqa: FBT002
        """Create nothing."""

    def get_table(self, _: str) -> list[tuple[Any, ...]]:
        return [binding[1:] for binding in self.bound]


class _OwnRecorder(redis_transport._Channel, _Recorder):
    """Our channel with the same lists."""


def bind(channel: Any, queue: str) -> None:
    channel.queue_bind(queue, exchange="exports", routing_key="broker.#")


@pytest.fixture(params=[_Recorder, _OwnRecorder])
def channel(request: pytest.FixtureRequest) -> Any:
    """A channel of kombu's class, then of ours."""
    channel = request.param()
    channel.exchange_declare("exports", type="topic")
    return channel


def is_own(channel: Any) -> bool:
    return isinstance(channel, redis_transport._Channel)


def test_amqp_connects_to_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def connect(_: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(message_broker.ForbiddenMessageBroker):
        message_broker._PlainTransport(METADATA_SERVICE, connect_timeout=1).connect()
    assert tried == []
    with pytest.raises(ConnectionRefusedError):
        TCPTransport(METADATA_SERVICE, connect_timeout=1).connect()
    assert tried == [METADATA_SERVICE]


def test_kombu_binds_a_queue_once_in_a_connection(channel: Any) -> None:
    for _ in range(2):
        bind(channel, "exports.broker")
    assert len(channel.bound) == (2 if is_own(channel) else 1)


def test_kombu_gives_all_copies_of_a_message_one_delivery_tag(channel: Any) -> None:
    for queue in ("exports.broker", "copy"):
        bind(channel, queue)
    channel.basic_publish(channel.prepare_message("{}"), exchange="exports", routing_key="broker.handoff")
    assert sorted(queue for queue, _ in channel.put) == ["copy", "exports.broker"]
    tags = {message["properties"]["delivery_tag"] for _, message in channel.put}
    assert len(tags) == (2 if is_own(channel) else 1)


def test_kombu_reader_of_redis_raises_on_unreadable_bytes(channel: Any) -> None:
    popped = [b"exports.execute", b"unreadable"]
    filtered = channel._filter_popped(popped) if is_own(channel) else popped
    channel.client = Mock(parse_response=Mock(return_value=filtered))
    channel._in_poll, channel._queue_cycle = None, Mock()
    if is_own(channel):
        with pytest.raises(redis.Empty):
            channel._brpop_read()
        assert [queue for queue, _ in channel.put] == ["exports.dead"]
    else:
        with pytest.raises(ValueError, match="Expecting value"):
            channel._brpop_read()


@pytest.mark.parametrize("transport", [memory.Transport, memory_transport.MemoryTransport])
def test_kombu_reader_of_memory_looks_for_messages_at_an_interval(
    monkeypatch: pytest.MonkeyPatch, transport: type[memory.Transport]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(virtual.base, "sleep", slept.append)
    with (
        Connection("memory://", transport=transport) as connection,
        connection.SimpleQueue("empty"),
        pytest.raises(TimeoutError),
    ):
        connection.drain_events(timeout=0.01)
    assert bool(slept) == (transport is memory.Transport)


def test_reader_of_memory_wakes_when_a_message_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, real = threading.Event(), memory_transport._ARRIVALS.wait

    def wait(seen: int, timeout: float | None) -> bool:
        waiting.set()
        return real(seen, timeout)

    monkeypatch.setattr(memory_transport._ARRIVALS, "wait", wait)
    found: list[Any] = []

    @contextmanager
    def open_queue() -> Iterator[SimpleQueue]:
        with (
            Connection("memory://", transport=memory_transport.MemoryTransport) as connection,
            connection.SimpleQueue("some") as queue,
        ):
            yield queue

    def read() -> None:
        with open_queue() as queue:
            found.append(queue.get(timeout=60).payload)

    reader = threading.Thread(target=read)
    reader.start()
    assert waiting.wait(10)
    with open_queue() as queue:
        queue.put("hello")
    reader.join(30)
    assert found == ["hello"]
