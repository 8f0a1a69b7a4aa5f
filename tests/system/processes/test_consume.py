"""`exports consume` in its own process: its end and the end of the message broker lose no message."""

import json
import signal
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import pytest

from tests.conftest import OwnServer
from tests.support.command_line import exports
from tests.support.consume_command import Consume, send, wait_for_count
from tests.support.servers import RabbitMQ, Redis, poll


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
