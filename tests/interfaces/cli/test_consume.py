"""`exports consume` on real message brokers: shown first and taken then, or only looked at; nothing is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, cast

import pytest
from kombu import Connection, Queue

from config import queues
from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.conftest import SERVERS, OwnServer
from tests.interfaces.cli.conftest import Commands, exports
from tests.support.ports import free_port
from tests.support.servers import RabbitMQ, Redis, poll

EVENT = read_example("exports.package.recorded.v1")
TARGET = Target("acc_demo", "wh_demo", test=False)


@pytest.fixture(params=[pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each message broker that another process can read, without a queue declared."""
    server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    return server.fresh_url()


def send(url: str, *names: str, body: bytes | None = None) -> None:
    """Publish packages to the warehouse, each under the id of its name."""
    channel = QueueChannel(Settings.model_validate({"broker_url": url}))
    made = [
        OutgoingMessage(
            name,
            EVENT["type"],
            "warehouse.wh_demo.package.recorded.v1",
            body or json.dumps({**EVENT, "id": name}).encode(),
        )
        for name in names
    ]
    assert len(list(channel.send(made, TARGET))) == len(names)


def count_messages(url: str, name: str = queues.WAREHOUSE) -> int:
    """Return how many messages lie in the queue."""
    with Connection(url) as connection:
        try:
            return int(connection.default_channel.queue_declare(name, passive=True).message_count)
        except connection.channel_errors:
            # On Redis a list that is empty is not there.
            assert url.startswith("redis")
            return 0


def wait_for_count(url: str, count: int) -> None:
    """Wait until the queue holds so many: what is handed back is there a moment later."""
    poll(lambda: count_messages(url) == count, 60, f"not {count} messages but {count_messages(url)}")


class Consume:
    """The command on one message broker."""

    def __init__(self, commands: Commands, url: str) -> None:
        self._commands, self._url = commands, url

    def __call__(self, *arguments: str) -> Any:
        """Run it."""
        return self._commands("consume", "warehouse", *arguments, BROKER_URL=self._url)

    def ids(self, *arguments: str) -> Sequence[str]:
        """Run it with --json, and return the ids that it shows, a line each."""
        made = self("--json", *arguments)
        assert made.exit_code == 0, made.output
        return [json.loads(line)["id"] for line in made.stdout.splitlines()]


@pytest.fixture
def consume(commands: Commands, broker_url: str) -> Consume:
    """The command on each message broker."""
    return Consume(commands, broker_url)


def test_messages_are_shown_in_order_and_taken(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1", "m-2", "m-3")
    assert consume.ids("--count", "2") == ["m-1", "m-2"]
    wait_for_count(broker_url, 1)
    assert consume.ids("--timeout", "0") == ["m-3"]
    assert consume.ids("--timeout", "0") == []
    wait_for_count(broker_url, 0)


def test_whole_event_is_printed_a_line_each(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1")
    assert json.loads(consume("--json", "--timeout", "0").stdout) == {**EVENT, "id": "m-1"}


def test_person_reads_what_is_said(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1")
    shown = consume("--timeout", "0")
    head, body_text = shown.stdout.splitlines()
    assert head.split()[2:] == [EVENT["type"], "m-1", EVENT["subject"], "warehouse.wh_demo.package.recorded.v1"]
    assert (
        json.loads(body_text.strip().rstrip("…") + ("" if "…" not in body_text else '"}'))["packageRef"] == "P1"
        or "P1" in body_text
    )
    assert "1 message taken" in shown.stderr


def test_message_that_comes_twice_is_shown_once_and_taken_twice(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1", "m-1", "m-2")
    shown = consume("--json", "--timeout", "0")
    assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == ["m-1", "m-2"]
    assert "1 came again" in shown.stderr
    wait_for_count(broker_url, 0)


def test_look_into_redis_leaves_everything_in_its_place(commands: Commands, redis_server: Redis) -> None:
    url = redis_server.fresh_url()
    consume = Consume(commands, url)
    names = [f"m-{number}" for number in range(250)]
    send(url, *names)
    assert consume.ids("--peek") == names
    assert consume.ids("--peek", "--count", "3") == names[:3]
    assert count_messages(url) == 250
    assert consume.ids("--timeout", "0") == names


def test_look_into_rabbitmq_touches_nothing_that_lies_there(commands: Commands, rabbitmq_server: RabbitMQ) -> None:
    url = rabbitmq_server.fresh_url()
    consume = Consume(commands, url)
    names = [f"m-{number}" for number in range(40)]
    send(url, *names)
    for _ in range(12):
        assert consume.ids("--peek", "--timeout", "0") == []
    refused = consume("--peek", "--queue", "exports.warehouse")
    assert (refused.exit_code, "Leave --queue out" in refused.stderr) == (2, True)
    assert (count_messages(url), count_messages(url, queues.DEAD)) == (40, 0)
    assert consume.ids("--timeout", "0") == names


def test_message_whose_showing_is_broken_off_is_not_taken(
    consume: Consume, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(broker_url, "m-1", "m-2", "m-3")
    shown: list[str] = []

    def interrupt(text: str) -> None:
        if shown:
            raise KeyboardInterrupt
        shown.append(json.loads(text)["id"])

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.interfaces.cli.consume.print_json", interrupt)
        assert consume("--json").exit_code == 130
    assert shown == ["m-1"]
    wait_for_count(broker_url, 2)
    assert consume.ids("--timeout", "0") == ["m-2", "m-3"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_command_that_is_ended_has_lost_nothing(
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
    # A message that was shown and not yet taken when the end came is there again.
    again = consume.ids("--timeout", "0")
    assert again in (["m-2"], ["m-1", "m-2"])


def test_what_does_not_come_in_time_is_reported(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1")
    shown = consume("--count", "2", "--timeout", "0.1")
    assert shown.exit_code == 5
    assert "1 of 2 messages came in time" in shown.stderr


def test_what_is_no_message_of_ours_is_shown_as_it_is_and_does_not_block(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1", body=b"[bold]not json")
    send(broker_url, "m-2", body=b'{"id": "m-2", "note": "[red]of another service"}')
    shown = consume("--timeout", "0")
    assert shown.stdout.count("no message of the service") == 2
    assert "[bold]not json" in shown.stdout
    send(broker_url, "m-1", body=b"\xff\x00")
    assert json.loads(consume("--json", "--timeout", "0").stdout) == {"unreadable": "\ufffd\x00"}


def test_partners_own_queue_is_read_by_its_name(consume: Consume, broker_url: str) -> None:
    send(broker_url)
    with Connection(broker_url) as connection:
        own = Queue("wh_demo.inbox", queues.exchange, routing_key="warehouse.wh_demo.#", durable=True)
        own(connection.default_channel).declare()
    assert consume.ids("--queue", "wh_demo.inbox", "--timeout", "0") == []
    send(broker_url, "m-1")
    assert consume.ids("--queue", "wh_demo.inbox", "--timeout", "0") == ["m-1"]
    wait_for_count(broker_url, 1)


def test_queue_that_is_not_there_is_said_and_not_made(consume: Consume, broker_url: str) -> None:
    missing = consume("--queue", "nobodys", "--json")
    assert missing.stderr == ""
    assert (missing.exit_code, json.loads(missing.stdout)["errorCode"]) == (3, "NOT_FOUND")
    with Connection(broker_url) as connection, pytest.raises(connection.channel_errors):
        connection.default_channel.queue_declare("nobodys", passive=True)


def test_what_is_followed_without_taking_is_shown_to_both(consume: Consume, broker_url: str, tmp_path: Path) -> None:
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
        # On RabbitMQ a copy is made of what is published once somebody looks.
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


@SERVERS
def test_interrupted_reader_asks_nothing_whose_answer_it_could_not_read(
    rabbitmq_server: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it asks the server something")

    settings = Settings.model_validate({"broker_url": rabbitmq_server.fresh_url()})
    block = queue_reader.open_queue(settings, queues.WAREHOUSE)
    reader = block.__enter__()
    assert reader.take() is None
    connection = cast("Any", reader)._channel.connection
    for each in (connection, *connection.channels.values()):
        monkeypatch.setattr(each, "send_method", never)
    assert not block.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not connection.connected


def test_message_broker_that_is_not_there_is_unreachable(commands: Commands) -> None:
    for scheme in ("redis", "amqp"):
        made = commands("consume", "broker", "--json", BROKER_URL=f"{scheme}://127.0.0.1:{free_port()}/")
        assert (made.exit_code, json.loads(made.stdout)["errorCode"]) == (4, "UNREACHABLE")


@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_message_broker_that_ends_while_it_is_read_is_said(
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


def test_queues_inside_another_process_are_said_to_be_there(commands: Commands) -> None:
    made = commands("consume", "operator")
    assert made.exit_code == 2
    assert "live inside the process that serves" in made.stderr
    assert "exports trace MESSAGE_ID" in made.stderr
