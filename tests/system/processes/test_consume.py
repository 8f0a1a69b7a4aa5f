"""`exports consume` in its own process: its end and the end of the message broker lose no message."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest
from kombu import Connection

from config import queues
from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.conftest import SERVERS, OwnServer
from tests.support.command_line import Commands, exports
from tests.support.servers import RabbitMQ, Redis, poll

EVENT = read_example("exports.package.recorded.v1")


TARGET = Target("acc_demo", "wh_demo", test=False)


@pytest.fixture(params=[pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each message broker that another process can read, without a declared queue."""
    server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    return server.fresh_url()


def send(url: str, *names: str, body: bytes | None = None) -> None:
    """Publish packages to the warehouse, each with its name as id."""
    channel = QueueChannel(Settings.model_validate({"broker_url": url}))
    result = [
        OutgoingMessage(
            name,
            EVENT["type"],
            "warehouse.wh_demo.package.recorded.v1",
            body or json.dumps({**EVENT, "id": name}).encode(),
        )
        for name in names
    ]
    assert len(list(channel.send(result, TARGET))) == len(names)


def count_messages(url: str, name: str = queues.WAREHOUSE) -> int:
    """Return how many messages are in the queue."""
    with Connection(url) as connection:
        try:
            return int(connection.default_channel.queue_declare(name, passive=True).message_count)
        except connection.channel_errors:
            # On Redis an empty list does not exist.
            assert url.startswith("redis")
            return 0


def wait_for_count(url: str, count: int) -> None:
    """Wait until the queue holds `count` messages: released ones are back a moment later."""
    poll(lambda: count_messages(url) == count, 60, f"not {count} messages but {count_messages(url)}")


class Consume:
    """The command on one message broker."""

    def __init__(self, commands: Commands, url: str) -> None:
        self._commands, self._url = commands, url

    def __call__(self, *arguments: str) -> Any:
        """Run it."""
        return self._commands("consume", "warehouse", *arguments, BROKER_URL=self._url)

    def ids(self, *arguments: str) -> Sequence[str]:
        """Run it with --json, and return the ids that it prints, one a line."""
        result = self("--json", *arguments)
        assert result.exit_code == 0, result.output
        return [json.loads(line)["id"] for line in result.stdout.splitlines()]


@pytest.fixture
def consume(commands: Commands, broker_url: str) -> Consume:
    """The command on each message broker."""
    return Consume(commands, broker_url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_terminated_command_loses_no_message(
    consume: Consume, broker_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    send(broker_url, "m-1")
    process = exports(["consume", "warehouse", "--follow", "--json"], {"BROKER_URL": broker_url}, tmp_path)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "m-1"
    wait_for_count(broker_url, 0)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    send(broker_url, "m-2")
    # A message that was shown but not removed at the end is in the queue again.
    again = consume.ids("--timeout", "0")
    assert again in (["m-2"], ["m-1", "m-2"])


def test_followed_peek_and_a_consumer_see_the_same_messages(consume: Consume, broker_url: str, tmp_path: Path) -> None:
    send(broker_url, "m-0")
    assert consume.ids("--timeout", "0") == ["m-0"]
    process = exports(["consume", "warehouse", "--peek", "--follow", "--json"], {"BROKER_URL": broker_url}, tmp_path)
    assert process.stdout is not None
    lines: SimpleQueue[str] = SimpleQueue()
    output = process.stdout

    def read() -> None:
        for line in output:
            lines.put(line)

    reader = Thread(target=read)
    reader.start()
    sent = 0

    def shown() -> bool:
        nonlocal sent
        sent += 1
        send(broker_url, f"m-{sent}")
        return not lines.empty()

    try:
        # On RabbitMQ only messages published after the start are copied.
        poll(shown, 60, "nobody looks")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        reader.join(60)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    assert {json.loads(lines.get())["id"] for _ in range(lines.qsize())} <= {f"m-{n}" for n in range(1, sent + 1)}
    assert consume.ids("--timeout", "0") == [f"m-{n}" for n in range(1, sent + 1)]


@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_message_broker_that_stops_is_reported(
    own_server: OwnServer, kind: type[Redis | RabbitMQ], tmp_path: Path
) -> None:
    server = own_server(kind)
    url = server.fresh_url()
    send(url, "m-1")
    process = exports(["consume", "warehouse", "--follow", "--json"], {"BROKER_URL": url}, tmp_path)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "m-1"
    server.kill()
    body_text, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(body_text)["errorCode"]) == (4, "UNREACHABLE")
