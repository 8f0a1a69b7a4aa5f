"""The header with the sender's open transactions is right, by webhook and by queue, for its own thread only."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kombu import Connection, Producer, Queue
from sqlalchemy import text

from pipeline.core.db import Database
from pipeline.core.errors import DatabaseBusy
from pipeline.deliveries.channels.http_client import open_http_session
from tests.system.faults import open_transactions
from tests.system.faults.partner_stub import PartnerStub, start_partner_stub


@pytest.fixture(autouse=True)
def report_transactions() -> Iterator[None]:
    """Make this process send the header."""
    end = open_transactions.start_reporting()
    yield
    end()


def post_webhook(to: PartnerStub) -> int | None:
    """Return the number in a webhook that this thread sends now."""
    body = json.dumps({"subject": "exp_1"}).encode()
    with open_http_session(private=True, seconds=10) as poster:
        poster.post(to.address("br_1"), body, {"webhook-id": "msg_1"})
    return to.receipts[-1].open_transactions


def publish_message(**headers: str) -> Any:
    """Return the number in a queue message that this thread sends now."""
    with Connection("memory://open-transactions") as connection:
        queue = Queue("counts")(connection.default_channel)
        queue.declare()
        Producer(connection).publish({}, routing_key="counts", headers=headers)
        message = queue.get(no_ack=True)
        assert message is not None
        return open_transactions.read_count(message.headers)


@pytest.fixture
def opened(database_url: str) -> Iterator[Database]:
    """A migrated database."""
    made = Database(database_url, timeout_seconds=5)
    yield made
    made.dispose()


@pytest.mark.parametrize("how", ["read", "write"])
def test_message_states_the_open_transactions_of_its_sender(opened: Database, how: str) -> None:
    begun: Callable[[], Any] = getattr(opened, how)
    with start_partner_stub() as kept, ThreadPoolExecutor(1) as another:
        assert (post_webhook(kept), publish_message()) == (0, 0)
        with begun() as session:
            session.execute(text("SELECT 1"))
            assert (post_webhook(kept), publish_message()) == (1, 1)
            assert another.submit(lambda: (post_webhook(kept), publish_message())).result() == (0, 0)
            with opened.read() as other:
                other.execute(text("SELECT 1"))
                assert post_webhook(kept) == 2
        assert (post_webhook(kept), publish_message()) == (0, 0)


def test_refused_transaction_is_not_reported_afterwards(sqlite_url: str) -> None:
    """SQLite refuses a second writer at its start."""
    first, second = (Database(sqlite_url, timeout_seconds=0.1) for _ in range(2))

    def write(database: Database) -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))

    with start_partner_stub() as kept, first.write() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseBusy):
            write(second)
        assert post_webhook(kept) == 1
    first.dispose()
    second.dispose()


def test_task_messages_have_no_count() -> None:
    assert publish_message(task="exports.deliver") is None


def test_missing_count_is_none() -> None:
    assert open_transactions.read_count({}) is None
