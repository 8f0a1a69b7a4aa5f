"""Two accounts whose partners have the same ids and their own queues: neither reads the other's messages."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Queue

from config import queues
from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.core.tenancy import account_scope
from pipeline.deliveries import connection_tests
from pipeline.deliveries.streams import sender
from pipeline.exports.models import Account
from tests.conftest import Stack
from tests.deliveries.channels.test_queue import take_messages
from tests.deliveries.support import exports
from tests.support import factories

ACCOUNTS = ("acc_first", "acc_second")
PARTNERS = {factories.BROKER: "customs_broker", factories.WAREHOUSE: "warehouse", "op_desk": "operator"}


@pytest.fixture
def runtime(stack: Stack) -> Iterator[Runtime]:
    """A runtime on the stack. Both accounts have registered the same partners."""
    opened = open_runtime(stack.settings)
    for account in ACCOUNTS:
        with opened.db.write() as session:
            session.add(Account(id=account, name=account))
        with account_scope(account):
            for name, kind in PARTNERS.items():
                new = NewPartner.model_validate({"id": name, "kind": kind, "name": name, "live": True})
                partners.create_partner(opened, account, new)
    yield opened
    opened.close()


def bindings(runtime: Runtime, account: str) -> dict[str, str]:
    return {each.id: each.queue_binding for each in partners.list_partners(runtime, account)}


def test_own_queue_has_only_messages_of_its_account(stack: Stack, runtime: Runtime) -> None:
    own = {(account, name): key for account in ACCOUNTS for name, key in bindings(runtime, account).items()}
    with Connection(stack.broker_url) as connection:
        for (account, name), key in own.items():
            queue = Queue(f"{account}.{name}", queues.exchange, routing_key=key, durable=True)
            queue(connection.default_channel).declare()
    counts: dict[str, int] = {}
    for account in ACCOUNTS:
        export = exports.prepare_export(runtime, factories.plan(account=account))
        exports.hand_off(runtime, export)
        streams = {(each.partner_id, each.channel) for each in exports.list_deliveries(runtime, export.export_id)}
        counts |= {
            f"{account}.{name}": find_sent(runtime, export.export_id, name, channel) for name, channel in streams
        }
        for name in PARTNERS:
            assert connection_tests.run_connection_test(runtime, account, name, tested_by="cli").passed
    assert counts == {
        f"{account}.{name}": count
        for account in ACCOUNTS
        for name, count in {factories.BROKER: 1, factories.WAREHOUSE: 2, "op_desk": 0}.items()  # not executed yet
    }
    for account, name in own:
        count = counts[f"{account}.{name}"] + 1
        taken = events(stack, f"{account}.{name}", count)
        assert [each["source"] for each in taken] == [f"/accounts/{account}"] * count
        assert len(taken) == count, f"{account}.{name}"
    with Connection(stack.broker_url) as connection:
        for account, name in own:
            assert Queue(f"{account}.{name}", no_declare=True)(connection.default_channel).get() is None


def find_sent(runtime: Runtime, export_id: str, partner_id: str, channel: str) -> int:
    return sender.deliver_stream(runtime, export_id, partner_id, channel).delivered


def events(stack: Stack, queue: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in take_messages(stack.broker_url, queue, count)]


def test_first_partner_keeps_plain_key_and_operators_use_account(runtime: Runtime) -> None:
    assert [bindings(runtime, account) for account in ACCOUNTS] == [
        {
            factories.BROKER: f"broker.{factories.BROKER}.#",
            factories.WAREHOUSE: f"warehouse.{factories.WAREHOUSE}.#",
            "op_desk": "operator.acc_first.#",
        },
        {
            factories.BROKER: f"broker.acc_second:{factories.BROKER}.#",
            factories.WAREHOUSE: f"warehouse.acc_second:{factories.WAREHOUSE}.#",
            "op_desk": "operator.acc_second.#",
        },
    ]
