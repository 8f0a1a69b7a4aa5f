"""The result of sending is recorded once, while the lease is valid, even if the database often does not answer."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts import partners
from pipeline.core.errors import ChannelRefused, DatabaseBusy
from pipeline.core.leases import Lease
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.streams import attempts, sender, streams
from pipeline.deliveries.streams.attempts import RecordResult
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts as tried
from tests.deliveries.support.hooks import deliver, hand_off_by_webhook, states, stream_of
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script

Start = Callable[..., Endpoint]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry recording without a pause."""
    monkeypatch.setattr(sender, "RECORD_RETRY_SECONDS", 0)


def fail_database(monkeypatch: pytest.MonkeyPatch, *, refusals: int, written: bool = False) -> list[int]:
    """Make the database fail `refusals` times, before or after the write. Return the calls."""
    record, asked = attempts.record_attempts, [0]

    def recorded(*arguments: Any) -> RecordResult:
        asked[0] += 1
        if asked[0] > refusals:
            return record(*arguments)
        if written:
            record(*arguments)
        raise DatabaseBusy("the database did not answer")

    monkeypatch.setattr(attempts, "record_attempts", recorded)
    return asked


def test_sent_messages_are_recorded_after_database_recovers_and_not_resent(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    asked = fail_database(monkeypatch, refusals=3)
    assert deliver(runtime, export).delivered == 3
    assert asked == [4]
    assert len(hook.requests) == 3
    assert states(runtime, export) == [("delivered", 1)] * 3


def test_nothing_is_recorded_after_the_lease_ended(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)
    asked = fail_database(monkeypatch, refusals=100)
    monkeypatch.setattr(Lease, "is_valid", lambda _: asked[0] < 2)
    with pytest.raises(DatabaseBusy):
        deliver(runtime, export)
    assert asked == [2]
    assert states(runtime, export) == [("pending", 0)] * 3


def test_refused_message_leaves_its_partner_live(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime()
    stream = stream_of(hand_off_by_webhook(runtime, endpoint().url))
    claimed = streams.claim_stream(runtime, stream)
    assert claimed is not None
    refused = ChannelRefused("no such mailbox", status="550")
    assert attempts.record_attempts(runtime, claimed, attempts.SendResult([], [1], refused)).dead
    assert partners.get_partner(runtime, factories.ACCOUNT, stream.partner_id).state == "live"


def test_partner_is_notified_beside_a_cancelled_message(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)
    first = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)[0]
    stored.change(runtime, update(Delivery).where(col(Delivery.id) == first.id).values(state="cancelled"))
    assert deliver(runtime, export).delivered == 2
    assert exports.read_event_types(runtime, export.export_id).count("WAREHOUSE_NOTIFIED") == 1


@pytest.mark.parametrize(
    ("script", "ended"), [(Script(), "delivered"), (Script(500), "pending"), (Script(410), "dead")]
)
def test_lost_commit_reply_writes_nothing_twice(
    make_runtime: OpenRuntime,
    endpoint: Start,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    ended: str,
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint(script).url, packages=1)
    fail_database(monkeypatch, refusals=1, written=True)
    assert deliver(runtime, export) == sender.DeliveryReport()
    assert states(runtime, export) == [(ended, 1)]
    assert len(tried(runtime)) == 1
    assert exports.read_event_types(runtime, export.export_id).count("DELIVERY_FAILED") == (ended != "delivered")
