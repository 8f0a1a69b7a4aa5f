"""Tests of deliveries after the handoff: the sweep, pauses, resending, and their list."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from celery.worker import WorkController
from celery.worker.components import Pool
from sqlalchemy import event, update
from sqlmodel import col, select

from config.celery import app
from config.settings import get_settings
from pipeline.accounts import partners
from pipeline.core.db import database_now
from pipeline.core.errors import InvalidState, NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries, resend
from pipeline.deliveries.models import Attempt, BrokerSubmission, Delivery
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import due_streams, recovery, sender, streams
from tasks.sweeper import Sweeper
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts, deliver, hand_off_by_webhook, stream_of
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script

Start = Callable[..., Endpoint]


def test_paused_partner_gets_no_messages_and_no_task_messages(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    partners.pause_partner(runtime, factories.ACCOUNT, stream_of(export).partner_id)
    clock.pass_seconds(60)
    assert deliver(runtime, export) == sender.DeliveryReport()
    assert stream_of(export) not in list_due(runtime)
    assert hook.requests == []


def list_due(runtime: Runtime) -> Sequence[DeliveryStream]:
    with runtime.db.write() as session:
        return due_streams.take_due_streams(session, runtime.settings, runtime.settings.sweep_limit)


def test_concurrent_sweeps_publish_a_stream_once(make_runtime: OpenRuntime, endpoint: Start, database_url: str) -> None:
    runtime = make_runtime(database_url=database_url, stalled_seconds=0.001)
    hand_off_by_webhook(runtime, endpoint().url)
    long_stalled = replace(runtime, settings=runtime.settings.model_copy(update={"stalled_seconds": 60.0}))
    stored.change(runtime, update(Delivery).where(col(Delivery.state) == "pending").values(due_at=database_now(-1)))
    found: list[DeliveryStream] = []
    threads = [threading.Thread(target=lambda: found.extend(list_due(long_stalled))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 2


def test_sweep_finds_a_due_stream_again_after_a_pause(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime = make_runtime(stalled_seconds=15)
    export = hand_off_by_webhook(runtime, endpoint().url)
    assert list_due(runtime) == [], "the step after the handoff must send first"
    clock.pass_seconds(15)
    found = list_due(runtime)
    assert sorted(stream.partner_id for stream in found) == [factories.BROKER, stream_of(export).partner_id]
    assert list_due(runtime) == []
    clock.pass_seconds(15)
    assert len(list_due(runtime)) == 2


def list_due_instants(runtime: Runtime, export: exports.PreparedExport) -> list[datetime | None]:
    return [each.due_at for each in exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)]


def test_stream_under_lease_is_not_due(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, database_url: str
) -> None:
    runtime = make_runtime(database_url=database_url, delivery_batch=1, stalled_seconds=0.001)
    export = hand_off_by_webhook(runtime, endpoint().url)
    clock.pass_seconds(1)
    assert stream_of(export) in list_due(runtime)
    clock.pass_seconds(1)
    claimed = streams.claim_stream(runtime, stream_of(export))
    assert claimed is not None
    before = list_due_instants(runtime, export)
    assert stream_of(export) not in list_due(runtime)
    due = [each for each in list_due_instants(runtime, export) if each is not None]
    assert len(due) == 3, "the others are due again when the lease ends"
    assert max(due) - min(due) < timedelta(milliseconds=50), "PostgreSQL reads its clock for each row"
    assert before[0] in due
    stored.change(runtime, update(Delivery).values(lease_until=database_now(-1), due_at=database_now(-1)))
    assert stream_of(export) in list_due(runtime), "the lease has expired"


def test_stream_is_not_due_until_its_first_messages_retry(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime = make_runtime(delivery_batch=1, stalled_seconds=15, delivery_schedule_seconds=(300,))
    export = hand_off_by_webhook(runtime, endpoint(Script(500), Script()).url)
    assert deliver(runtime, export).retried == 1
    before = list_due_instants(runtime, export)
    assert before == [clock.now + timedelta(seconds=300)] * 3, "the messages behind it must not be due earlier"
    clock.pass_seconds(299)
    assert stream_of(export) not in list_due(runtime)
    assert list_due_instants(runtime, export) == before
    clock.pass_seconds(1)
    assert stream_of(export) in list_due(runtime)
    assert deliver(runtime, export).delivered == 3


def test_deliveries_that_cannot_be_sent_hide_no_others(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    """A sweep reads few of the oldest due deliveries, and here those are of a paused partner."""
    runtime, hook = make_runtime(sweep_limit=2), endpoint()
    export = hand_off_by_webhook(runtime, hook.url, packages=45)
    partners.pause_partner(runtime, factories.ACCOUNT, stream_of(export).partner_id)
    with runtime.db.write() as session:
        oldest = col(Delivery.partner_id) == stream_of(export).partner_id
        session.execute(update(Delivery).where(oldest).values(due_at=database_now(-60)))
    clock.pass_seconds(60)
    found = [list_due(runtime) for _ in range(4)]
    assert [[stream.partner_id for stream in each] for each in found] == [[], [], [factories.BROKER], []]
    recovery.resume_partner(runtime, factories.ACCOUNT, stream_of(export).partner_id)
    assert list_due(runtime) == [stream_of(export)]


def test_operator_is_notified_after_the_export_has_ended(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    operator = (export.export_id, factories.OPERATOR, "queue")
    assert sender.deliver_stream(runtime, *operator).delivered == 0
    with runtime.db.write() as session:
        to_publish, claimed = streams.release_and_claim(session, runtime.settings, export.export_id)
        assert (to_publish, claimed) == ([DeliveryStream(*operator)], [])
    assert sender.deliver_stream(runtime, *operator).delivered == 1
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF", "OPERATOR_NOTIFIED"]


def test_submission_status_follows_the_primary_channel(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(delivery_schedule_seconds=(1,)), endpoint(Script(500), Script(500), Script())
    exports.register(
        runtime, factories.BROKER, "customs_broker", channels=[{"channel": "webhook", "address": hook.url}]
    )
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)

    def status() -> str:
        return stored.one(runtime, select(BrokerSubmission.state))

    assert status() == "pending"
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    assert status() == "sent"
    clock.pass_seconds(1)
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    assert status() == "failed"
    (dead,) = [each for each in exports.list_deliveries(runtime, export.export_id) if each.state == "dead"]
    resend.resend_delivery(runtime, factories.ACCOUNT, dead.id, "key_1")
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    assert status() == "delivered"


def test_resend_keeps_the_id_and_restarts_the_schedule(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(delivery_schedule_seconds=(1,)), endpoint(Script(500))
    export = hand_off_by_webhook(runtime, hook.url, packages=1)
    deliver(runtime, export)
    clock.pass_seconds(1)
    deliver(runtime, export)
    (dead,) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    view, stream = resend.resend_delivery(runtime, factories.ACCOUNT, dead.id, "key_1")
    assert (view.state, view.attempts, stream) == ("pending", 2, stream_of(export))
    assert deliver(runtime, export).retried == 1, "a failure must be retried again, not dead at once"
    assert {request.headers["webhook-id"] for request in hook.requests} == {dead.notification_id}
    assert [each.number for each in attempts(runtime)] == [1, 2, 3]


def test_resend_of_a_waiting_or_foreign_delivery_is_refused(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url, packages=1)
    (waiting,) = exports.list_deliveries(runtime, export.export_id, factories.OPERATOR)
    with pytest.raises(InvalidState, match="is waiting; only a delivered, dead or pending one"):
        resend.resend_delivery(runtime, factories.ACCOUNT, waiting.id, "key_1")
    (pending,) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    with pytest.raises(NotFound):
        resend.resend_delivery(runtime, "acc_other", pending.id, "key_1")
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF"]


def test_resent_delivered_message_writes_no_second_notified_event(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url, packages=1)
    deliver(runtime, export)
    (done,) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    resend.resend_delivery(runtime, factories.ACCOUNT, done.id, "key_1")
    deliver(runtime, export)
    assert [request.headers["webhook-id"] for request in hook.requests] == [done.notification_id] * 2
    assert exports.read_event_types(runtime, export.export_id) == [
        "HANDED_OFF",
        "WAREHOUSE_NOTIFIED",
        "DELIVERY_RESENT",
    ]


def test_list_pages_through_every_delivery_once(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url, packages=5)
    seen: list[str] = []
    after = None
    while True:
        page = queries.list_deliveries(runtime, factories.ACCOUNT, export_id=export.export_id, after=after, limit=2)
        seen += [each.id for each in page.items]
        after = page.next_cursor
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, reverse=True)
    assert queries.list_deliveries(runtime, "acc_other").items == []


def test_list_reads_only_the_newest_attempts(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url, packages=2)
    deliver(runtime, export)
    (first, second) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    for _ in range(22):
        resend.resend_delivery(runtime, factories.ACCOUNT, first.id, "key_1")
        deliver(runtime, export)
    read: list[int] = []

    def loaded(attempt: Attempt, _: object) -> None:
        read.append(attempt.number)

    event.listen(Attempt, "load", loaded)
    try:
        page = queries.list_deliveries(runtime, factories.ACCOUNT, partner_id=stream_of(export).partner_id)
    finally:
        event.remove(Attempt, "load", loaded)
    shown = {each.id: [tried.number for tried in each.tries] for each in page.items}
    assert shown == {first.id: [*range(23, 3, -1)], second.id: [1]}
    assert len(read) == 21


def test_cancelled_delivery_is_not_sent(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    stored.change(runtime, update(Delivery).values(state="cancelled"))
    assert deliver(runtime, export) == sender.DeliveryReport()
    assert hook.requests == []


def test_sweep_begins_after_the_pool_has_forked() -> None:
    blueprint = WorkController.Blueprint(steps=app.steps["worker"])
    order = list(blueprint._finalize_steps(blueprint.claim_steps()))
    assert order.index(Sweeper) > order.index(Pool)


def test_process_is_not_forked_during_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked meanwhile would wait for locks of the sweep, such as a module's."""
    sweeping, may_end = threading.Event(), threading.Event()

    def sweep(_: float) -> None:
        sweeping.set()
        may_end.wait(20)

    monkeypatch.setattr("tasks.sweeper.sweep_in_turn", sweep)
    settings = get_settings().model_copy(update={"sweep_seconds": 0.01})
    monkeypatch.setattr("tasks.sweeper.get_settings", lambda: settings)
    sweeper = Sweeper(None)
    sweeper.start(None)
    assert sweeping.wait(20)
    forked = threading.Event()

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        forked.set()

    forking = threading.Thread(target=fork)
    forking.start()
    assert not forked.wait(0.3), "the fork did not wait for the end of the sweep"
    sweeper.stop(None)
    may_end.set()
    assert forked.wait(20)
    forking.join()
