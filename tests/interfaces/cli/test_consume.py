"""`exports consume` on real message brokers: shown first and then removed, or only shown; nothing is lost."""

import json
from typing import Any, cast

import pytest
from kombu import Connection, Queue

from config import queues
from config.settings import Settings
from pipeline.deliveries.channels import queue_reader
from tests.conftest import SERVERS
from tests.support.command_line import Commands
from tests.support.consume_command import EVENT, Consume, count_messages, send, wait_for_count
from tests.support.ports import free_port
from tests.support.servers import RabbitMQ, Redis


def test_messages_are_shown_in_order_and_removed(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1", "m-2", "m-3")
    assert consume.ids("--count", "2") == ["m-1", "m-2"]
    wait_for_count(broker_url, 1)
    assert consume.ids("--timeout", "0") == ["m-3"]
    assert consume.ids("--timeout", "0") == []
    wait_for_count(broker_url, 0)


def test_json_prints_one_event_a_line(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1")
    assert json.loads(consume("--json", "--timeout", "0").stdout) == {**EVENT, "id": "m-1"}


def test_message_is_shown_for_a_person(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1")
    shown = consume("--timeout", "0")
    head, body_text = shown.stdout.splitlines()
    assert head.split()[2:] == [EVENT["type"], "m-1", EVENT["subject"], "warehouse.wh_demo.package.recorded.v1"]
    assert (
        json.loads(body_text.strip().rstrip("…") + ("" if "…" not in body_text else '"}'))["packageRef"] == "P1"
        or "P1" in body_text
    )
    assert "1 message removed" in shown.stderr


def test_repeated_message_is_shown_once_and_removed(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1", "m-1", "m-2")
    shown = consume("--json", "--timeout", "0")
    assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == ["m-1", "m-2"]
    assert "2 messages removed; 1 repeated" in shown.stderr
    wait_for_count(broker_url, 0)


def test_peek_on_redis_removes_nothing(commands: Commands, redis_server: Redis) -> None:
    url = redis_server.fresh_url()
    consume = Consume(commands, url)
    names = [f"m-{number}" for number in range(250)]
    send(url, *names)
    assert consume.ids("--peek") == names
    assert consume.ids("--peek", "--count", "3") == names[:3]
    assert count_messages(url) == 250
    assert consume.ids("--timeout", "0") == names


def test_peek_on_rabbitmq_leaves_the_queue_untouched(commands: Commands, rabbitmq_server: RabbitMQ) -> None:
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


def test_message_whose_output_fails_is_not_removed(
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


def test_missing_messages_are_reported_after_the_timeout(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1")
    shown = consume("--count", "2", "--timeout", "0.1")
    assert shown.exit_code == 5
    assert "1 of 2 messages arrived in time" in shown.stderr


def test_foreign_message_is_shown_and_does_not_block(consume: Consume, broker_url: str) -> None:
    send(broker_url, "m-1", body=b"[bold]not json")
    send(broker_url, "m-2", body=b'{"id": "m-2", "note": "[red]of another service"}')
    shown = consume("--timeout", "0")
    assert shown.stdout.count("not a message of the service") == 2
    assert "[bold]not json" in shown.stdout
    send(broker_url, "m-1", body=b"\xff\x00")
    assert json.loads(consume("--json", "--timeout", "0").stdout) == {"unreadable": "\ufffd\x00"}


def test_queue_of_a_partner_is_read_by_name(consume: Consume, broker_url: str) -> None:
    send(broker_url)
    with Connection(broker_url) as connection:
        own = Queue("wh_demo.inbox", queues.exchange, routing_key="warehouse.wh_demo.#", durable=True)
        own(connection.default_channel).declare()
    assert consume.ids("--queue", "wh_demo.inbox", "--timeout", "0") == []
    send(broker_url, "m-1")
    assert consume.ids("--queue", "wh_demo.inbox", "--timeout", "0") == ["m-1"]
    wait_for_count(broker_url, 1)


def test_unknown_queue_is_reported_and_not_created(consume: Consume, broker_url: str) -> None:
    missing = consume("--queue", "nobodys", "--json")
    assert missing.stderr == ""
    assert (missing.exit_code, json.loads(missing.stdout)["errorCode"]) == (3, "NOT_FOUND")
    with Connection(broker_url) as connection, pytest.raises(connection.channel_errors):
        connection.default_channel.queue_declare("nobodys", passive=True)


@SERVERS
def test_interrupted_reader_sends_no_further_command(
    rabbitmq_server: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it sent a command to the server")

    settings = Settings.model_validate({"broker_url": rabbitmq_server.fresh_url()})
    block = queue_reader.open_queue(settings, queues.WAREHOUSE)
    reader = block.__enter__()
    assert reader.take() is None
    connection = cast("Any", reader)._channel.connection
    for each in (connection, *connection.channels.values()):
        monkeypatch.setattr(each, "send_method", never)
    assert not block.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not connection.connected


def test_missing_message_broker_is_unreachable(commands: Commands) -> None:
    for scheme in ("redis", "amqp"):
        result = commands("consume", "broker", "--json", BROKER_URL=f"{scheme}://127.0.0.1:{free_port()}/")
        assert (result.exit_code, json.loads(result.stdout)["errorCode"]) == (4, "UNREACHABLE")


def test_queues_of_an_embedded_broker_are_reported(commands: Commands) -> None:
    result = commands("consume", "operator")
    assert result.exit_code == 2
    assert "only the serving process can read its queues" in result.stderr
    assert "exports trace MESSAGE_ID" in result.stderr
