"""The example consumers, run as their readers would run them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import httpx

from config.settings import Settings
from pipeline import delivery, notifications
from pipeline.channels.channel import OutgoingMessage, Target
from pipeline.channels.queue import QueueChannel
from pipeline.channels.webhook import WebhookChannel, signed
from pipeline.schemas.channels import WebhookWay
from pipeline.signing import new_secret
from tests import builders
from tests.deliveries import exports
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.endpoint import poll
from tests.servers import LOOPBACK, Redis, accepts, free_port

CONSUMERS = Path(__file__).resolve().parents[2] / "examples" / "consumers"


@contextmanager
def running(program: str, *arguments: str) -> Iterator[Queue[str]]:
    """Run an example; give the lines that it prints."""
    lines: Queue[str] = Queue()
    with subprocess.Popen(
        [sys.executable, str(CONSUMERS / program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        output = process.stdout
        assert output is not None

        def read() -> None:
            for line in output:
                lines.put(line.strip())

        reader = Thread(target=read, daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.kill()
            reader.join(5)


def test_the_warehouse_consumer_prints_a_package_that_comes_twice_once(
    opened: OpenRuntime, redis_server: Redis
) -> None:
    url = redis_server.fresh_url()
    runtime = opened(broker_url=url)
    exports.register(runtime, builders.BROKER, "customs_broker")
    exports.register(runtime, builders.WAREHOUSE, "warehouse")
    export = exports.ready(runtime)
    exports.hand_off(runtime, export)
    delivery.tell(runtime, export.context, notifications.WAREHOUSE)
    first = exports.deliveries(runtime, export.export_id, builders.WAREHOUSE)[0]
    delivery.resend(runtime, builders.ACCOUNT, first.id, "key_1")
    delivery.tell(runtime, export.context, notifications.WAREHOUSE)
    last = OutgoingMessage("end", "t", "warehouse.end.package.recorded.v1", END)
    list(QueueChannel(runtime.settings).send([last], Target("acc_demo", "end", test=False)))
    with running("warehouse_consumer.py", url) as lines:
        printed = [lines.get(timeout=20) for _ in range(3)]
    assert printed == [
        "P1 LPN-001-00001 Demo Housewares Inc, Dock 4",
        "P2 LPN-001-00002 Demo Housewares Inc, Dock 4",
        "END END end",
    ]


END = b'{"id": "end", "data": {"packageRef": "END", "sscc": null, "lpn": "END", "shipTo": {"name": "end"}}}'


def test_the_webhook_receiver_takes_a_signed_message_once_and_refuses_a_forged_one() -> None:
    port, secret = free_port(), new_secret()
    url = f"http://{LOOPBACK}:{port}"
    body = b'{"id": "msg-1", "type": "exports.package.recorded.v1", "subject": "exp_1"}'
    other = body.replace(b"msg-1", b"msg-2").replace(b"exp_1", b"exp_2")
    channel = WebhookChannel(Settings.model_validate({"allow_private_destinations": True}))
    target = Target("acc_demo", "wh_demo", test=False, way=WebhookWay(address=url), secrets=(secret,))
    messages = [
        OutgoingMessage(name, "t", "k", said) for name, said in (("msg-1", body), ("msg-1", body), ("msg-2", other))
    ]
    with running("webhook_receiver.py", str(port), secret) as lines:
        poll(lambda: accepts(port), 10)
        forged = httpx.post(url, content=body, headers=signed("msg-1", body, new_secret()), trust_env=False)
        receipts = list(channel.send(messages, target))
        printed = [lines.get(timeout=10) for _ in range(2)]
    assert forged.status_code == 401
    assert [receipt.status for receipt in receipts] == ["204"] * 3
    assert printed == ["exports.package.recorded.v1 exp_1", "exports.package.recorded.v1 exp_2"]
