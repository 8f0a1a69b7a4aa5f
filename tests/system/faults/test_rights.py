"""A message broker user with the rights of docs/security.md: the service works, and everything else is denied."""

import re
import secrets
import shlex
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from amqp.exceptions import AccessRefused
from kombu import Connection, Producer, Queue
from redis.exceptions import NoPermissionError

from config import queues
from tests.conftest import SERVERS
from tests.support.fork_server import ROOT
from tests.support.servers import RabbitMQ, Redis, poll
from tests.system.faults.case import Case, open_case
from tests.system.faults.matrix import REDIS, SERVED
from tests.system.faults.site import PARTNERS, Site

DOCUMENT: Final = (ROOT / "docs/security.md").read_text(encoding="utf-8")
REPLIES: Final = "exports.replies-of-a-test"


def build_user_url(site: Site, password: str) -> str:
    """Return the message broker's address for the service's user."""
    url = urlsplit(site.stack.broker_url)
    return urlunsplit(url._replace(netloc=f"exports:{password}@{url.hostname}:{url.port}"))


def make_user(site: Site) -> str:
    """Create the documented user; return the message broker's address for it."""
    password = secrets.token_hex(16)
    if isinstance(site.message_broker, Redis):
        (line,) = re.findall(r"^ACL SETUSER exports .*$", DOCUMENT, re.MULTILINE)
        with site.message_broker.client() as client:
            client.execute_command(*shlex.split(line.replace("PASSWORD", password)))
        return build_user_url(site, password)
    assert isinstance(site.message_broker, RabbitMQ)
    (line,) = re.findall(r"^rabbitmqctl set_permissions .*$", DOCUMENT, re.MULTILINE)
    configure, write, read = shlex.split(line)[-3:]
    vhost = site.stack.broker_url.rsplit("/", 1)[1]
    site.message_broker.manage("PUT", "users/exports", {"password": password, "tags": ""})
    rights = {"configure": configure, "write": write, "read": read}
    site.message_broker.manage("PUT", f"permissions/{vhost}/exports", rights)
    return build_user_url(site, password)


def send_command(one: Case, url: str) -> None:
    """Send a plan by queue, and wait for the answer."""
    plan = one.client.plan()
    body = {"accountId": one.client.account, "batchId": plan["batchId"], "idempotencyKey": "command-1", "plan": plan}
    replies = Queue(REPLIES, queue_arguments=queues.queue_arguments(one.site.stack.settings))
    with Connection(url) as connection:
        channel = connection.default_channel
        for queue in queues.contract_queues(one.site.stack.settings):
            queue.bind(channel).declare()
        bound = replies.bind(channel)
        bound.declare()
        Producer(channel).publish(
            body,
            exchange=queues.exchange,
            routing_key="execute",
            reply_to=REPLIES,
            correlation_id="c-1",
            serializer="json",
        )
        poll(lambda: bound.get(no_ack=True) is not None, 60, f"there was no answer\n{one.site.logs_end()}")


@SERVERS
@pytest.mark.parametrize("own_site", SERVED, indirect=True)
def test_documented_rights_are_sufficient_and_minimal(own_site: Site, tmp_path: Path) -> None:
    url = make_user(own_site)
    own_site.environment = {**own_site.environment, "EXPORTS_BROKER_URL": url}
    with open_case(own_site, tmp_path, by_queue=tuple(str(partner["id"]) for partner in PARTNERS)) as one:
        own_site.start("worker", "prefork", "intake")
        send_command(one, url)
        exports = [one.accepted(one.client.plan(units=2)) for _ in range(2)]
        one.wait_until_finished(exports)
        assert one.list_states() == ["executed"] * 3
        history = one.check()
        assert {receipt.partner_id for receipt in history.receipts} == {str(partner["id"]) for partner in PARTNERS}
        for name, log in own_site.logs().items():
            assert "NoPermission" not in log, name
            assert "ACCESS_REFUSED" not in log, name
    check_nothing_else(own_site, url)


def check_nothing_else(site: Site, url: str) -> None:
    if site.stack.name == REDIS:
        with redis.Redis.from_url(url) as client:
            for command in (("GET", "sessions"), ("SET", "sessions", "1"), ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"),
                            ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("SHUTDOWN",), ("REPLICAOF", "no", "one")):  # fmt: skip
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command)
        return
    with Connection(url) as connection, pytest.raises(AccessRefused):
        Queue("sessions").bind(connection.default_channel).declare()
    with Connection(url) as connection, pytest.raises(AccessRefused):
        connection.default_channel.basic_get("amq.gen-sessions")
