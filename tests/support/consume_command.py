"""The command `exports consume` on each message broker that another process can read."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from config import queues
from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.conftest import SERVERS
from tests.support.command_line import Commands
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
    return queue_reader.count_messages(Settings.model_validate({"broker_url": url}), [name])[name]


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
