"""Failures before the partner is reached, and deaths of the sender: recorded as attempts, with an end.

Each message is delivered or becomes a visible dead letter, and blocks others of its stream only for a limited time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core import installation
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries, resend
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.streams import messages, sender, streams
from pipeline.ops import readiness
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts, deliver, hand_off_by_webhook, states, stream_of
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint
from tests.system.faults.matrix import mark_own_stack

Start = Callable[..., Endpoint]

LEASE_SECONDS = 30


class Crash(BaseException):
    """The death of the process."""


def reopen_with_another_key(runtime: Runtime) -> Runtime:
    """Return a runtime with another secret key, without the previous one."""
    changed = runtime.settings.model_copy(update={"secret_key": SecretStr("another secret key, of forty characters")})
    return replace(runtime, settings=changed)


def test_unreadable_secret_is_a_failed_attempt_with_remedy(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    assert deliver(reopen_with_another_key(runtime), export).retried == 1
    assert hook.requests == []
    assert states(runtime, export) == [("pending", 1), ("pending", 0), ("pending", 0)]
    assert [(each.outcome, each.status) for each in attempts(runtime)] == [("failed", "SecretUnreadable")]
    (first, *_) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    view = queries.get_delivery(runtime, factories.ACCOUNT, first.id)
    assert "EXPORTS_SECRET_KEYS_PREVIOUS" in str(view.error)
    assert "EXPORTS_SECRET_KEYS_PREVIOUS" in str(view.remedy)


def test_permanently_unreadable_secret_makes_the_stream_dead(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(delivery_schedule_seconds=(1, 1)), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    for _ in range(3):
        deliver(reopen_with_another_key(runtime), export)
        clock.pass_seconds(1)
    assert states(runtime, export) == [("dead", 3), ("dead", 1), ("dead", 1)]
    assert exports.read_event_types(runtime, export.export_id).count("DELIVERY_DEAD") == 3


def test_restored_key_delivers_all(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    deliver(reopen_with_another_key(runtime), export)
    clock.pass_seconds(5)
    assert deliver(runtime, export).delivered == 3


def test_queue_delivery_needs_no_readable_secret(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    assert sender.notify_audience(reopen_with_another_key(runtime), export.context, outbox.WAREHOUSE) == []
    assert [each.state for each in exports.list_deliveries(runtime, export.export_id, factories.WAREHOUSE)] == [
        "delivered"
    ] * 2


def make_unmakeable(monkeypatch: pytest.MonkeyPatch, notification_id: str) -> None:
    """Make the building of the message with this id fail."""
    make = messages.build_cloud_event

    def made(settings: Any, notification: Notification, *rest: Any, **named: Any) -> bytes:
        if notification.id == notification_id:
            raise RuntimeError("cannot be written")
        return make(settings, notification, *rest, **named)

    monkeypatch.setattr(messages, "build_cloud_event", made)


def test_unbuildable_message_is_a_failed_attempt_and_delays_only_later_ones(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, hook = make_runtime(delivery_schedule_seconds=(1, 1)), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    (_, bad, _) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    make_unmakeable(monkeypatch, bad.notification_id)
    report = deliver(runtime, export)
    assert (report.delivered, report.retried) == (1, 1)
    clock.pass_seconds(1)
    deliver(runtime, export)
    clock.pass_seconds(1)
    assert deliver(runtime, export).dead == 1
    assert states(runtime, export) == [("delivered", 1), ("dead", 3), ("delivered", 1)]
    tried = queries.get_delivery(runtime, factories.ACCOUNT, bad.id)
    assert [(each.outcome, each.status) for each in tried.tries] == [("failed", "MessageNotBuilt")] * 3
    assert tried.error == "building the message failed: RuntimeError", "what it says may be a fact of the plan"


def crash_on_send(monkeypatch: pytest.MonkeyPatch, poison: str | None = None, *, times: int = 1_000) -> list[list[str]]:
    """Crash the sender at the message with this id, or at any. Return the messages of each claim, in order."""
    sent: list[list[str]] = []
    left = [times]

    def send(_: object, messages: Sequence[OutgoingMessage], __: object) -> Iterator[DeliveryReceipt]:
        sent.append([])
        for message in messages:
            sent[-1].append(message.id)
            if poison in (None, message.id) and left[0]:
                left[0] -= 1
                raise Crash
            yield DeliveryReceipt("204")

    monkeypatch.setattr("pipeline.deliveries.channels.webhook.WebhookChannel.send", send)
    return sent


def run_lives(runtime: Runtime, export: exports.PreparedExport, clock: Clock, *, deaths: int) -> None:
    """Send the stream with `deaths` senders that die, one after another, and a last one that finishes."""
    for _ in range(deaths):
        with pytest.raises(Crash):
            deliver(runtime, export)
        clock.pass_seconds(LEASE_SECONDS)
    deliver(runtime, export)


@mark_own_stack("F3")
def test_message_after_six_lost_workers_is_delivered(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)
    crash_on_send(monkeypatch, times=6)
    run_lives(runtime, export, clock, deaths=6)
    assert states(runtime, export) == [("delivered", 1)] * 3
    assert [each.outcome for each in attempts(runtime)] == ["delivered"] * 3, "a lost attempt has no row"
    assert [
        each.error for each in exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    ] == [None] * 3


@mark_own_stack("F3")
def test_poison_message_becomes_dead_and_the_others_are_delivered(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    runtime = make_runtime(database_url=database_url, delivery_schedule_seconds=(1, 1))
    export = hand_off_by_webhook(runtime, endpoint().url, packages=5)
    ids = [
        each.notification_id
        for each in exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    ]
    sent = crash_on_send(monkeypatch, ids[2])
    for _ in range(4):
        with pytest.raises(Crash):
            deliver(runtime, export)
        stored.change(
            runtime, update(Delivery).values(lease_until=database_now(-1)).where(col(Delivery.lease_until).is_not(None))
        )
    deliver(runtime, export)
    # Together at first; then one by one, because the poison message is unknown.
    assert sent == [ids[:3], ids[:1], ids[1:2], *[ids[2:3]] * 3, ids[3:4], ids[4:5]]
    assert states(runtime, export) == [
        ("delivered", 1),
        ("delivered", 1),
        ("dead", 1),
        ("delivered", 1),
        ("delivered", 1),
    ]
    (given_up,) = (
        each
        for each in exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
        if each.state == "dead"
    )
    view = queries.get_delivery(runtime, factories.ACCOUNT, given_up.id)
    assert str(view.error).startswith(f"{streams.WORKER_LOST}, at the last of 4 attempts: it was killed, crashed")
    assert [(each.outcome, each.error_class) for each in view.tries] == [("failed", "WorkerLost")]
    assert str(view.remedy).startswith("see in the logs of the sending process")
    notices = stored.rows(
        runtime, select(Notification).where(col(Notification.event_type) == "exports.delivery.dead.v1")
    )
    assert len(notices) == 1


def test_lost_worker_error_is_shown_until_delivery(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)
    crash_on_send(monkeypatch, times=2)
    for _ in range(2):
        with pytest.raises(Crash):
            deliver(runtime, export)
        clock.pass_seconds(LEASE_SECONDS)
    rows = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    assert [each.error for each in rows] == [streams.WORKER_LOST, None, None]


def test_resent_poison_message_has_a_full_schedule_again(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime(delivery_schedule_seconds=(1,))
    export = hand_off_by_webhook(runtime, endpoint().url, packages=1)
    crash_on_send(monkeypatch, times=4)
    run_lives(runtime, export, clock, deaths=3)
    assert states(runtime, export) == [("dead", 1)]
    (dead,) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    resend.resend_delivery(runtime, factories.ACCOUNT, dead.id, "key_1")
    run_lives(runtime, export, clock, deaths=1)
    assert states(runtime, export) == [("delivered", 2)]


def test_failed_attempt_does_not_count_as_lost_worker(
    make_runtime: OpenRuntime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, "http://127.0.0.1:9/")
    for pause in runtime.settings.delivery_schedule_seconds:
        assert deliver(runtime, export).retried == 1
        clock.pass_seconds(pause)
    sent = crash_on_send(monkeypatch, "nobody's")
    assert deliver(runtime, export).delivered == 3
    assert [len(each) for each in sent] == [3], "together, as before"


@pytest.mark.parametrize(
    ("recorded", "given", "sends"),
    [(None, None, True), (None, "live", True), ("live", "live", True), ("live", "drill", False), ("live", None, False)],
)
def test_only_the_installation_of_the_database_sends(
    make_runtime: OpenRuntime,
    endpoint: Callable[..., Endpoint],
    recorded: str | None,
    given: str | None,
    *,
    sends: bool,
) -> None:
    runtime, hook = make_runtime(installation=given), endpoint()
    if recorded is not None:
        installation.adopt(runtime.db, recorded)
    export = hand_off_by_webhook(runtime, hook.url)
    assert deliver(runtime, export).delivered == len(hook.requests) == (3 if sends else 0)
    assert states(runtime, export) == [("delivered", 1) if sends else ("pending", 0)] * 3
    failing = [part.message for part in readiness.check_parts(runtime) if not part.ok]
    problem = f"the database belongs to the installation live, and EXPORTS_INSTALLATION is {given or 'not set'}: nothing is sent"
    assert failing == ([] if sends else [f"{problem}; {installation.REMEDY}"])
