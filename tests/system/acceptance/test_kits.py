"""The consumer kits against the running service: killed and restarted midway, with repeated and forged messages."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from kombu import Connection

from config import queues
from pipeline.accounts.secrets import generate_secret
from pipeline.core.ids import new_id
from pipeline.deliveries.submissions.signature import build_signature_headers
from tests.support.http_endpoint import Endpoint, Script
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import Redis, poll
from tests.system.acceptance.account import PARTNERS, AccountClient, open_account
from tests.system.acceptance.installation import Distributed
from tests.system.acceptance.kits import KITS, Kit, kit

Json = dict[str, Any]

AMQP_KITS = ("python/queue_amqp.py", "node/queue.mjs")
WEBHOOK_KITS = ("python/webhook.py", "node/webhook.mjs")


def test_kombu_kit_counts_once_on_every_message_broker(distributed: Distributed, tmp_path: Path) -> None:
    check_counts_once(distributed, "python/queue_kombu.py", tmp_path)


@pytest.mark.parametrize("program", AMQP_KITS)
def test_amqp_kits_count_once(on_rabbitmq: Distributed, program: str, tmp_path: Path) -> None:
    check_counts_once(on_rabbitmq, program, tmp_path)


def check_counts_once(service: Distributed, program: str, folder: Path) -> None:
    """Assert that a warehouse kit stores each package once, though killed with messages in hand and notified twice."""
    warehouse = new_id("wh")
    partner = {"id": warehouse, "kind": "warehouse", "name": "A warehouse", "test": True, "live": True}
    key = f"warehouse.{warehouse}.#"
    options = ["--queue", warehouse, "--bind", key]
    if program == "python/queue_kombu.py":
        options += ["--hold-seconds", "1"]
    with (
        open_account(service, (PARTNERS[0], partner)) as account,
        kit(program, service.stack.broker_url, *options, folder=folder) as reader,
    ):
        reader.start()
        first = execute_two_units(account, warehouse)
        reader.wait_until(lambda: len(reader.lines_with(first)) == 4, "the packages did not arrive")
        with hold_messages(reader):
            second = execute_two_units(account, warehouse)
            poll(lambda: holds_messages(service, warehouse), 30, "the kit took no message")
            reader.kill()
        replay(account, warehouse, first, second)
        foreign = {"foreign": warehouse}
        publish(service, warehouse, foreign)
        reader.start()
        reader.wait_until(
            lambda: len(reader.lines_with(second)) == 4, "the kit's unacknowledged messages did not come again"
        )
        last = execute_two_units(account, warehouse)
        reader.wait_until(
            lambda: len(reader.lines_with(last)) == 4, "the kit does not continue after a repeated message"
        )
        poll(lambda: is_dead_letter(service, foreign), 30, "the unreadable message is not a dead letter")
        assert reader.count_stored() == Counter(ids(account, warehouse))
        assert reader.count_stored().total() == 12
        for export_id in (first, second, last):
            assert sorted(reader.lines_with(export_id)) == list_packages(account, export_id)
        # On Redis the killed kit's messages come back after a second, together with the copies that were sent again.
        poll(
            lambda: count_left(service, warehouse) == 0,
            30,
            "the kit's messages did not come back, or are not acknowledged",
        )
        reader.stop()
        assert count_left(service, warehouse) == 0, "the kit ended with an unacknowledged message"
        assert reader.count_stored().total() == 12


def execute_two_units(account: AccountClient, warehouse: str) -> str:
    """Execute two units of two packages each; return the export's id when all partners are notified."""
    export_id = account.execute_accepted(account.plan(units=2, packages=2, warehouse=warehouse))
    account.wait_executed(export_id)
    return export_id


def list_packages(account: AccountClient, export_id: str) -> list[str]:
    """Return the lines that a kit prints for the packages of the export."""
    found = []
    for unit in account.inspect(export_id)["units"]:
        held = account.get(f"/api/customs-packages/{unit['customs_package_id']}")["packages"]
        found += [
            f"{export_id} {unit['unitRef']} {each['packageRef']} {each['sscc'] or each['lpn']} Demo Housewares Inc, Dock 4"
            for each in held
        ]
    assert len(found) == 4
    return sorted(found)


def ids(account: AccountClient, warehouse: str) -> list[str]:
    """Return the ids of all messages sent to the warehouse."""
    return [each["notificationId"] for each in account.get(f"/api/deliveries?partnerId={warehouse}&limit=200")["items"]]


@contextmanager
def hold_messages(reader: Kit) -> Iterator[None]:
    """Make the kit take messages and not finish any."""
    if reader.store.suffix == ".jsonl":
        reader.freeze()
        yield
        return
    with closing(sqlite3.connect(reader.store, isolation_level=None)) as store:
        store.execute("BEGIN EXCLUSIVE")
        yield


def holds_messages(service: Distributed, warehouse: str) -> bool:
    """Return whether the running kit holds unacknowledged messages; all were sent before."""
    if isinstance(service.message_broker, Redis):
        return count_unacknowledged(service, warehouse) > 0
    return service.count_waiting(warehouse) == 0


def count_left(service: Distributed, warehouse: str) -> int:
    """Return the number of messages in the queue, or taken and not acknowledged."""
    return count_unacknowledged(service, warehouse) + service.count_waiting(warehouse)


def count_unacknowledged(service: Distributed, warehouse: str) -> int:
    """Return the number of the kit's unacknowledged messages in Redis. RabbitMQ puts them back into the queue."""
    if not isinstance(service.message_broker, Redis):
        return 0
    with redis.Redis.from_url(service.stack.broker_url) as client:
        return int(client.hlen(f"unacked.{warehouse}"))


def publish(service: Distributed, queue: str, body: Json) -> None:
    """Put a foreign message into the queue."""
    with Connection(service.stack.broker_url) as connection:
        connection.Producer().publish(
            json.dumps(body), routing_key=queue, content_type="application/json", content_encoding="utf-8"
        )


def is_dead_letter(service: Distributed, body: Json) -> bool:
    """Return whether the message is a dead letter."""
    return any(each.queue == queues.DEAD and each.body == body for each in service.files.received_messages())


@pytest.mark.parametrize("program", WEBHOOK_KITS)
def test_webhook_kits_count_once_answer_and_reject_forged_messages(
    distributed: Distributed, program: str, tmp_path: Path
) -> None:
    broker, port = new_id("br"), free_port()
    url = f"http://{LOOPBACK}:{port}/handoffs"
    partner = {
        "id": broker,
        "kind": "customs_broker",
        "name": "A customs broker",
        "test": True,
        "channels": [{"channel": "webhook", "address": url}],
    }
    with open_account(distributed, PARTNERS[1:]) as account:
        secret = account.http.post("/api/partners", json=partner).json()["secret"]
        options = ["--port", str(port), "--retry-seconds", "1"]
        with kit(program, *options, folder=tmp_path, EXPORTS_WEBHOOK_SECRETS=secret) as receiver:
            receiver.start()
            assert list_passed_stages(account, broker) == {
                "resolve": True,
                "connect": True,
                "TLS": True,
                "signed event": True,
                "wrongly signed event": True,
                "old event": True,
            }
            first = hand_off(account, broker, receiver)
            for lie, headers, body in forge_messages(secret):
                answer = httpx.post(url, content=body, headers=headers, trust_env=False)
                assert answer.status_code == 401, lie
            assert receiver.count_stored() == Counter(ids(account, broker))
            receiver.kill()
            rotated = account.http.post(f"/api/partners/{broker}/rotate-secret", json={}).json()["secret"]
            receiver.start()  # it knows only the older secret; both are valid for a day
            replay(account, broker, first)
            second = hand_off(account, broker, receiver)
            receiver.kill()
            receiver.environment = {"EXPORTS_WEBHOOK_SECRETS": f"{rotated} {secret}"}
            receiver.start()
            replay(account, broker, first, second)
            assert list_passed_stages(account, broker)["newest secret only"]
            last = hand_off(account, broker, receiver)

            assert receiver.count_stored() == Counter(ids(account, broker))
            assert receiver.count_stored().total() == 3
            for export_id in (first, second, last):
                submission = account.inspect(export_id)["broker_submission"]
                assert [each["status"] for each in submission["acknowledgements"]] == ["received"]
                assert receiver.lines_with(submission["id"]) == [
                    f"{export_id} {submission['id']} to file",
                    f"{submission['id']} answered",
                ]
            receiver.stop()


def list_passed_stages(account: AccountClient, partner: str) -> dict[str, bool]:
    """Test the connection; return the passed stages."""
    answer = account.http.post(f"/api/partners/{partner}/test").json()
    assert answer["passed"], answer
    return {each["name"]: each["passed"] for endpoint in answer["endpoints"] for each in endpoint["stages"]}


def hand_off(account: AccountClient, broker: str, receiver: Kit) -> str:
    """Execute an export; return its id when the broker's kit has sent the answer "received"."""
    export_id = account.execute_accepted(account.plan(broker=broker))
    receiver.wait_until(lambda: bool(receiver.lines_with(export_id, "to file")), "the handoff did not arrive")
    account.wait_until(export_id, lambda view: view["broker_submission"]["submission_status"] == "received")
    submission = account.inspect(export_id)["broker_submission"]["id"]
    receiver.wait_until(
        lambda: bool(receiver.lines_with(submission, "answered")), "the kit did not learn that its answer was accepted"
    )
    return export_id


def replay(account: AccountClient, partner: str, *export_ids: str) -> None:
    """Send all of the partner's messages again; return when they are sent."""
    since = {"since": "2026-01-01T00:00:00Z"}
    answer = account.http.post(f"/api/partners/{partner}/replay", json=since)
    assert answer.status_code == 202, answer.text
    assert answer.json()["exports"] == len(export_ids)
    for export_id in export_ids:
        account.wait_until(export_id, lambda view: not any(each["pending"] for each in view["notifications"]))


def forge_messages(secret: str) -> list[tuple[str, Json, bytes]]:
    """Return forged messages of a sender without the secret or with a recorded message: what it is, headers, body."""
    body = b'{"id": "msg-1", "type": "exports.handoff.ready.v1", "data": {}}'
    now = datetime.now(UTC)
    true = build_signature_headers("msg-1", body, secret)
    return [
        ("signed with another secret", build_signature_headers("msg-1", body, generate_secret()), body),
        ("another body", true, body.replace(b"msg-1", b"msg-2")),
        ("another id", true | {"webhook-id": "msg-2"}, body),
        ("another instant", true | {"webhook-timestamp": str(int(now.timestamp()) - 1)}, body),
        ("an hour old", build_signature_headers("msg-1", body, secret, at=now - timedelta(hours=1)), body),
        ("an hour ahead", build_signature_headers("msg-1", body, secret, at=now + timedelta(hours=1)), body),
        ("no instant", true | {"webhook-timestamp": "soon"}, body),
        ("no signature", {**true, "webhook-signature": ""}, body),
        ("another version", {**true, "webhook-signature": true["webhook-signature"].replace("v1,", "v9,")}, body),
        ("half a signature", {**true, "webhook-signature": true["webhook-signature"][:20]}, body),
        ("none of the headers", {}, body),
    ]


@pytest.mark.parametrize("program", WEBHOOK_KITS)
def test_rejected_answer_is_sent_again_after_a_restart(program: str, tmp_path: Path) -> None:
    secret, port = generate_secret(), free_port()
    with (
        Endpoint((Script(503), Script(200))) as service,
        kit(program, "--port", str(port), folder=tmp_path, EXPORTS_WEBHOOK_SECRETS=secret) as receiver,
    ):
        data = {"exportId": "exp_1", "submissionId": "sub_1", "acknowledgementUrl": f"{service.url}/answers"}
        body = json.dumps({"id": "msg-1", "type": "exports.handoff.ready.v1", "data": data}).encode()
        receiver.start()
        for _ in range(2):
            taken = httpx.post(
                f"http://{LOOPBACK}:{port}/",
                content=body,
                headers=build_signature_headers("msg-1", body, secret),
                trust_env=False,
            )
            assert taken.status_code == 204
        receiver.wait_until(
            lambda: "503" in "".join(receiver.error_lines), "the kit does not report the result of its answer"
        )
        receiver.kill()
        receiver.start()
        receiver.wait_until(
            lambda: bool(receiver.lines_with("sub_1", "answered")), "the kit does not send its answer again"
        )
        receiver.stop()
        assert receiver.lines == ["ready", "exp_1 sub_1 to file", "ready", "sub_1 answered"]
        assert [(each.headers["webhook-id"], each.body) for each in service.requests] == [
            ("msg-1:received", service.requests[0].body)
        ] * 2
        assert json.loads(service.requests[0].body) == {"id": "msg-1:received", "status": "received"}


def test_node_lock_names_installed_packages_and_no_registry() -> None:
    text = (KITS / "node" / "package-lock.json").read_text(encoding="utf-8")
    installed = {name: each for name, each in json.loads(text)["packages"].items() if name}
    assert installed.keys() == {"node_modules/amqplib"}
    assert all(each["integrity"].startswith("sha512-") for each in installed.values())
    assert "http" not in text
