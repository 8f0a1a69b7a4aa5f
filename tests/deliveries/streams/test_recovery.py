"""What waits for a partner is sent once the partner can take it: after each act that repairs it, and after a success."""

from collections.abc import Callable

import pytest

from pipeline.accounts import partners
from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries import connection_tests, resend
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import due_streams, recovery, sender, streams
from pipeline.deliveries.streams.attempts import SendResult, record_attempts
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import deliver, hand_off_by_webhook, states, stream_of
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script

Start = Callable[..., Endpoint]

#: A page of maintenance that lasts a day.
CLOSED = Script(503, headers={"Retry-After": "86400"})


def pause_and_resume(runtime: Runtime, partner_id: str, _: Delivery | None = None) -> None:
    partners.pause_partner(runtime, factories.ACCOUNT, partner_id)
    recovery.resume_partner(runtime, factories.ACCOUNT, partner_id)


def save_the_address(runtime: Runtime, partner_id: str, _: Delivery) -> None:
    channels = partners.get_partner(runtime, factories.ACCOUNT, partner_id).channels
    recovery.update_partner(runtime, factories.ACCOUNT, partner_id, PartnerChanges(channels=channels))


def pass_the_test(runtime: Runtime, partner_id: str, _: Delivery) -> None:
    tested = connection_tests.run_connection_test(runtime, factories.ACCOUNT, partner_id, tested_by="key_1")
    assert tested.passed, tested


def send_the_last_now(runtime: Runtime, _: str, last: Delivery) -> None:
    view, stream = resend.resend_delivery(runtime, factories.ACCOUNT, last.id, "key_1")
    assert view.state == "pending"
    assert stream == DeliveryStream(last.subject_id, last.partner_id, last.channel)


def send_another_export(runtime: Runtime, partner_id: str, _: Delivery) -> None:
    other = exports.prepare_export(runtime, factories.plan(warehouse=partner_id, batch="other"))
    exports.hand_off(runtime, other)
    assert deliver(runtime, other).delivered == 2


ACTS = (pause_and_resume, save_the_address, pass_the_test, send_the_last_now, send_another_export)


@pytest.mark.parametrize("act", ACTS)
def test_repaired_partner_gets_what_waits(
    make_runtime: OpenRuntime,
    endpoint: Start,
    clock: Clock,
    database_url: str,
    act: Callable[[Runtime, str, Delivery], None],
) -> None:
    runtime = make_runtime(database_url=database_url)
    hook = endpoint(CLOSED, *((Script(), Script(401)) if act is pass_the_test else ()), Script())
    export = hand_off_by_webhook(runtime, hook.url)
    assert deliver(runtime, export).retried == 1
    clock.pass_seconds(60)
    assert deliver(runtime, export) == sender.DeliveryReport(), "it waits for a day"
    last = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)[-1]
    with runtime.db.write() as session:
        assert recovery.make_partner_due(session, runtime.settings, "acc_other", last.partner_id) == 0
    act(runtime, last.partner_id, last)
    with runtime.db.write() as session:
        assert stream_of(export) in due_streams.take_due_streams(session, runtime.settings, 10)
    assert deliver(runtime, export).delivered == 3
    assert states(runtime, export) == [("delivered", 2), ("delivered", 1), ("delivered", 1)]


def test_first_success_of_a_queue_after_failures_makes_its_retries_due(runtime: Runtime, clock: Clock) -> None:
    """A queue has no circuit breaker, but the message broker was away."""
    first, second = (exports.prepare_export(runtime, factories.plan(batch=name)) for name in ("first", "second"))
    exports.hand_off(runtime, first)
    stream = DeliveryStream(first.export_id, factories.BROKER, "queue")
    claimed = streams.claim_stream(runtime, stream)
    assert claimed is not None
    away = ChannelUnavailable("the message broker is away", retry_after_seconds=86_400)
    assert record_attempts(runtime, claimed, SendResult([], [1], away)).retried
    exports.hand_off(runtime, second)
    assert sender.deliver_stream(runtime, second.export_id, factories.BROKER, "queue").delivered == 1
    clock.pass_seconds(1)
    assert sender.deliver_stream(runtime, first.export_id, factories.BROKER, "queue").delivered == 1


def test_delivery_that_is_being_sent_stays_its_senders(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)
    claimed = streams.claim_stream(runtime, stream_of(export))
    assert claimed is not None
    pause_and_resume(runtime, claimed.stream.partner_id)
    with runtime.db.write() as session:
        assert stream_of(export) not in due_streams.take_due_streams(session, runtime.settings, 10)
    assert deliver(runtime, export) == sender.DeliveryReport()
