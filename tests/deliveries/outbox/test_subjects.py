"""A message about a registered plan is delivered, retried, resent, replayed and purged as one about an export is."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import literal, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from pipeline.core.errors import InsufficientRole, InvalidState, NotFound, Purged
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.deliveries import history, portal, queries, replay, resend
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import ChangedFindings
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.schemas.to_operator import PlanRechecked
from pipeline.deliveries.schemas.views import ReplayReport, ReplayRequest
from pipeline.deliveries.streams import due_streams, sender, streams
from pipeline.exports.event_models import Act
from pipeline.exports.models import PlanSnapshot
from pipeline.exports.schemas.inbox import Cause, Remedy
from pipeline.exports.states import DeliveryState
from pipeline.ops import retention
from pipeline.workflow.acknowledgements import acknowledge_letter, reopen_letter
from pipeline.workflow.inbox import load_inbox, open_items
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.test_portal import visitor_of
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script

Start = Callable[..., Endpoint]
DESK = "desk"
PLAN_ID = "pln_registered"
APPEARED = Finding(rule="V11", severity="warn", pointer="/units/0", message="the rate changed", remedy="correct it")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def open_desk(runtime: Runtime, hook: Endpoint) -> Runtime:
    """Register an operator who receives webhooks, and a plan that is not executed."""
    exports.register(runtime, DESK, "operator", channels=[{"channel": "webhook", "address": hook.url}])
    register_plan(runtime, PLAN_ID)
    return runtime


def register_plan(runtime: Runtime, plan_id: str, *, test: bool = False) -> None:
    document = json.dumps(factories.plan(batch=plan_id))
    facts: dict[str, Any] = {
        "account_id": factories.ACCOUNT,
        "batch_id": plan_id,
        "plan_hash": "sha256:01",
        "test": test,
    }
    with runtime.db.write() as session:
        session.add(PlanSnapshot(id=plan_id, document=document, **facts))


def notify(runtime: Runtime, plan_id: str = PLAN_ID, ruleset: str = "us-new") -> None:
    with runtime.db.write() as session:
        change = ChangedFindings("us-old", ruleset, [APPEARED], [])
        operator_messages.enqueue_plan_rechecked(session, plan_id, change)


def deliver(runtime: Runtime, plan_id: str = PLAN_ID) -> sender.DeliveryReport:
    return sender.deliver_stream(runtime, plan_id, DESK, "webhook")


def read_one(runtime: Runtime, plan_id: str = PLAN_ID) -> Delivery:
    return stored.one(runtime, select(Delivery).where(col(Delivery.subject_id) == plan_id))


def replay_to_desk(runtime: Runtime, **wanted: Any) -> tuple[ReplayReport, list[DeliveryStream]]:
    test_only = wanted.pop("test_only", False)
    request = ReplayRequest.model_validate({"since": LONG_AGO.isoformat()} | wanted)
    return replay.replay_messages(runtime, factories.ACCOUNT, DESK, request, "key_op", test_only=test_only)


def test_message_about_a_plan_is_delivered_in_order(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    hook = endpoint()
    runtime = open_desk(make_runtime(database_url=database_url), hook)
    notify(runtime)
    notify(runtime, ruleset="us-newer")
    with runtime.db.write() as session:
        assert due_streams.take_due_streams(session, runtime.settings, 10) == [DeliveryStream(PLAN_ID, DESK, "webhook")]
    assert deliver(runtime).delivered == 2
    assert deliver(runtime).delivered == 0
    first, second = (json.loads(request.body) for request in hook.requests)
    assert (first["type"], first["subject"]) == ("exports.plan.rechecked.v1", PLAN_ID)
    assert first["id"] == hook.requests[0].headers["webhook-id"] != second["id"]
    message = PlanRechecked.model_validate(first["data"])
    assert (message.plan_id, message.batch_id, message.ruleset, message.ruleset_before) == (
        PLAN_ID,
        PLAN_ID,
        "us-new",
        "us-old",
    )
    assert message.appeared == [APPEARED]
    assert second["data"]["ruleset"] == "us-newer"
    (view, _) = queries.list_deliveries(runtime, factories.ACCOUNT, partner_id=DESK).items
    assert (view.export_id, view.plan_id, view.batch_id, view.state) == ("", PLAN_ID, PLAN_ID, "delivered")
    trace = queries.trace_notification(runtime, factories.ACCOUNT, view.notification_id)
    assert (trace.export_id, trace.plan_id, trace.revision, len(trace.deliveries)) == ("", PLAN_ID, 0, 1)


def test_failed_message_is_retried_by_the_schedule(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    hook = endpoint(Script(500), Script())
    runtime = open_desk(make_runtime(delivery_schedule_seconds=(5,)), hook)
    for ruleset in ("us-new", "us-newer"):
        notify(runtime, ruleset=ruleset)
    assert deliver(runtime).retried == 1
    clock.pass_seconds(4.999)
    assert deliver(runtime) == sender.DeliveryReport(), "no message overtakes one that waits for its retry"
    clock.pass_seconds(0.001)
    assert deliver(runtime).delivered == 2
    ids = [request.headers["webhook-id"] for request in hook.requests]
    assert (len(ids), ids[0]) == (3, ids[1])


def test_dead_letter_about_a_plan_is_in_the_inbox_and_resent(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    hook = endpoint(Script(500), Script())
    runtime = open_desk(make_runtime(database_url=database_url, delivery_schedule_seconds=()), hook)
    exports.register(runtime, "second_desk", "operator")
    notify(runtime)
    report = deliver(runtime)
    assert (report.dead, report.pending_streams) == (1, ()), "no message about the operators' own dead letters"
    (dead,) = load_inbox(runtime, factories.ACCOUNT).items
    assert (dead.cause, dead.export_id, dead.batch_id) == (Cause.DEAD_LETTER, None, PLAN_ID)
    assert dead.remedies == (Remedy.RESEND, Remedy.TEST, Remedy.ACKNOWLEDGE)
    assert count_open(runtime) == 1
    delivery_id = str(dead.delivery_id)
    resent, stream = resend.resend_delivery(runtime, factories.ACCOUNT, delivery_id, "key_op")
    assert (resent.state, stream) == (DeliveryState.PENDING, DeliveryStream(PLAN_ID, DESK, "webhook"))
    assert deliver(runtime).delivered == 1
    assert load_inbox(runtime, factories.ACCOUNT).items == []
    assert len({request.body for request in hook.requests}) == 1, "the same bytes on every attempt"
    with runtime.db.read() as session:
        assert [each.outcome for each in session.exec(select(Attempt).order_by(col(Attempt.number)))] == [
            "failed",
            "delivered",
        ]
        assert session.exec(select(Act.action, Act.subject).order_by(col(Act.seq).desc())).first() == (
            "delivery_resent",
            delivery_id,
        )


def test_dead_letter_about_a_plan_is_acknowledged_until_it_is_resent(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    runtime = open_desk(make_runtime(database_url=database_url, delivery_schedule_seconds=()), endpoint(Script(500)))
    notify(runtime)
    notify(runtime)
    deliver(runtime)
    deliver(runtime)
    first, second = (str(each.delivery_id) for each in load_inbox(runtime, factories.ACCOUNT).items)
    who = runtime, factories.ACCOUNT
    for _ in range(2):  # a repeat changes nothing
        acknowledge_letter(*who, first, "key_op", "The desk has it.")
    assert [each.delivery_id for each in load_inbox(*who).items] == [second]
    assert count_open(runtime) == 1
    (seen,) = load_inbox(*who, acknowledged=True).items
    assert (seen.delivery_id, seen.remedies) == (first, (Remedy.REOPEN,))
    assert seen.acknowledged is not None
    noted = seen.acknowledged
    assert (noted.by, noted.note, noted.outcome) == ("key_op", "The desk has it.", "undeliverable")
    assert stored.get(runtime, Act, (factories.ACCOUNT, noted.seq)).action == "delivery_acknowledged"
    reopen_letter(*who, first, "key_op")
    assert (len(load_inbox(*who).items), load_inbox(*who, acknowledged=True).items) == (2, [])
    with pytest.raises(InvalidState, match="nothing to undo"):
        reopen_letter(*who, first, "key_op")
    acknowledge_letter(*who, first, "key_op")
    resend.resend_delivery(*who, first, "key_op")
    with pytest.raises(InvalidState, match="only a dead one"):
        acknowledge_letter(*who, first, "key_op")
    deliver(runtime)
    assert (len(load_inbox(*who).items), load_inbox(*who, acknowledged=True).items) == (2, [])


def test_only_letters_about_own_plans_are_acknowledged(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = open_desk(make_runtime(delivery_schedule_seconds=()), endpoint(Script(500)))
    notify(runtime)
    deliver(runtime)
    (dead,) = load_inbox(runtime, factories.ACCOUNT).items
    delivery_id = str(dead.delivery_id)
    with pytest.raises(NotFound):
        acknowledge_letter(runtime, "acc_other", delivery_id, "key_op")
    with pytest.raises(InsufficientRole):
        acknowledge_letter(runtime, factories.ACCOUNT, delivery_id, "key_op", test_only=True)
    assert len(load_inbox(runtime, factories.ACCOUNT).items) == 1


def count_open(runtime: Runtime) -> int:
    with runtime.db.read() as session:
        return sum(len(session.execute(query).all()) for query in open_items(literal(factories.ACCOUNT)))


def test_lost_sender_is_fenced(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime = open_desk(make_runtime(), endpoint())
    notify(runtime)
    claimed = streams.claim_stream(runtime, DeliveryStream(PLAN_ID, DESK, "webhook"))
    assert claimed is not None
    assert deliver(runtime).delivered == 0
    clock.pass_seconds(runtime.settings.lease_seconds + 1)
    assert deliver(runtime).delivered == 1
    assert read_one(runtime).attempts == 1


def test_replay_sends_messages_about_exports_and_plans_again(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    hook = endpoint()
    runtime = open_desk(make_runtime(database_url=database_url), hook)
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    stored.change(runtime, update(Delivery).where(col(Delivery.partner_id) == DESK).values(state="delivered"))
    register_plan(runtime, "pln_test", test=True)
    for plan_id in (PLAN_ID, "pln_test"):
        notify(runtime, plan_id)
    with runtime.db.write() as session:
        of_desk = col(Delivery.partner_id) == DESK
        at = runtime.clock()
        session.execute(update(Delivery).where(of_desk).values(state="delivered", delivered_at=at, due_at=None))
    report, found = replay_to_desk(runtime, test_only=True)
    assert (report.messages, report.exports, found) == (1, 0, [DeliveryStream("pln_test", DESK, "webhook")])
    report, found = replay_to_desk(runtime)
    assert (report.messages, report.exports) == (2, 1)
    assert found == [DeliveryStream(export.export_id, DESK, "webhook"), DeliveryStream(PLAN_ID, DESK, "webhook")]
    assert exports.read_event_types(runtime, export.export_id).count("DELIVERY_RESENT") == 1
    listed = [each.plan_id for each in list_pages(runtime)]
    assert listed == ["pln_test", PLAN_ID, None], "in the order of their exports and plans"


def list_pages(runtime: Runtime) -> list[Any]:
    """Return the deliveries to the desk, read by pages of one."""
    found: list[Any] = []
    cursor = None
    while True:
        page = queries.list_deliveries(runtime, factories.ACCOUNT, partner_id=DESK, after=cursor, limit=1)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_live_partner_does_not_see_a_message_about_a_test_plan(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    runtime = open_desk(make_runtime(database_url=database_url), endpoint())
    register_plan(runtime, "pln_test", test=True)
    for plan_id in (PLAN_ID, "pln_test"):
        notify(runtime, plan_id)
    seen = portal.list_deliveries(runtime, visitor_of(DESK), state=None, after=None, limit=50).items
    assert [each.plan_id for each in seen] == [PLAN_ID]
    shown = portal.read_message(runtime, visitor_of(DESK), seen[0].id)
    assert shown.body is not None
    assert json.loads(shown.body)["subject"] == PLAN_ID
    both = portal.list_deliveries(runtime, visitor_of(DESK, test=True), state=None, after=None, limit=50).items
    assert [each.plan_id for each in both] == ["pln_test", PLAN_ID]
    assert portal.list_deliveries(runtime, visitor_of(factories.BROKER), state=None, after=None, limit=50).items == []
    live = read_one(runtime).id
    with pytest.raises(InsufficientRole, match="live plan"):
        queries.read_payload(runtime, factories.ACCOUNT, live, test_only=True)
    with pytest.raises(InsufficientRole, match="live plan"):
        resend.resend_delivery(runtime, factories.ACCOUNT, live, "key_op", test_only=True)
    assert queries.read_payload(runtime, factories.ACCOUNT, read_one(runtime, "pln_test").id, test_only=True)


def test_purge_of_the_plan_removes_its_messages(make_runtime: OpenRuntime, endpoint: Start, database_url: str) -> None:
    hook = endpoint(Script(500))
    runtime = open_desk(make_runtime(database_url=database_url, delivery_schedule_seconds=()), hook)
    notify(runtime)
    assert deliver(runtime).dead == 1
    notify(runtime, ruleset="us-newer")
    result = retention.purge_expired(runtime, datetime(2040, 1, 1, tzinfo=UTC).date())
    assert (result.exports, result.plans) == (0, 1)
    with runtime.db.read() as session:
        assert {*session.exec(select(Notification.data))} == {"{}"}
        rows = session.exec(select(Delivery).order_by(col(Delivery.position))).all()
    assert [(each.state, each.inbox, each.error) for each in rows] == [
        ("dead", "closed", None),
        ("cancelled", "open", None),
    ]
    assert load_inbox(runtime, factories.ACCOUNT).items == []
    assert deliver(runtime).delivered == 0
    assert replay_to_desk(runtime)[0].messages == 0
    assert history.load_sent_message(runtime, factories.ACCOUNT, rows[0].id).body is None
    for refused in (
        lambda: queries.read_payload(runtime, factories.ACCOUNT, rows[0].id, test_only=False),
        lambda: resend.resend_delivery(runtime, factories.ACCOUNT, rows[0].id, "key_op"),
    ):
        with pytest.raises(Purged, match=f"plan {PLAN_ID} was purged"):
            refused()
    with pytest.raises(NotFound, match=f"plan {PLAN_ID}"):
        queries.trace_notification(runtime, factories.ACCOUNT, rows[0].notification_id)
    # Not even if a row is pending, as after a restore of older rows.
    stored.change(runtime, update(Delivery).values(state="pending"))
    assert streams.claim_stream(runtime, DeliveryStream(PLAN_ID, DESK, "webhook")) is None


@pytest.mark.parametrize("about", [{}, {"export_id": "exp", "plan_id": PLAN_ID}])
def test_notification_is_about_one_export_or_one_plan(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str, about: dict[str, str]
) -> None:
    runtime = open_desk(make_runtime(database_url=database_url), endpoint())
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    given: dict[str, Any] = about and about | {"export_id": exports.prepare_export(runtime).export_id}
    facts: dict[str, Any] = {
        "audience": "operator",
        "event_type": "exports.plan.rechecked.v1",
        "position": 1,
        "data": "{}",
    }
    with pytest.raises(IntegrityError), runtime.db.write() as session:
        session.add(Notification(id="n-1", account_id=factories.ACCOUNT, **facts, **given))
