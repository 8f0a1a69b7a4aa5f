"""An amendment creates one new revision, however often it is repeated, and notifies the old export's recipients."""

from dataclasses import replace

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.accounts import partners
from pipeline.accounts.api_keys import Mode
from pipeline.accounts.schemas import NewPartner
from pipeline.core.errors import (
    AlreadyExecuted,
    EntryFiled,
    IdempotencyKeyReused,
    InsufficientRole,
    InvalidState,
    NotFound,
    PlanNotApproved,
    PlanNotExecutable,
    PreconditionFailed,
    ValidationFailed,
)
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow.interventions import cancel_export, retry_export
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import (
    OTHER_PLAN,
    deliver_all,
    execute_export,
    fail,
    list_pending,
    make_amendment,
    read,
    read_messages,
    units,
    view,
)


def test_amendment_creates_revision_that_supersedes_the_old(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old)
    shown = view(new)
    assert (shown.revision, shown.supersedes, shown.superseded_by, shown.state) == (2, old, None, "accepted")
    assert shown.plan_hash == factories.plan_hash(OTHER_PLAN)
    assert new.created
    assert workflow.state(old) == "superseded"
    workflow.finish(new.export_id)
    assert workflow.state(new.export_id) == "executed"
    assert workflow.events(old)[-1] == "EXPORT_AMENDED"
    assert workflow.events(new.export_id)[:2] == ["EXPORT_ACCEPTED", "EXPORT_AMENDED"]


def test_amendment_logs_name_each_other_and_batch_is_the_newest(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, factories.BATCH).export_id
    shown = {name: read(workflow, name) for name in (old, new)}
    data = shown[old].events[-1].data
    assert (data["supersededBy"], data["revision"]) == (new, 2)
    assert data.keys() == {"supersededBy", "revision", "notifications", "deliveries", "messagesDigest"}
    assert shown[new].events[1].data == {"supersedes": old, "revision": 2}
    assert (shown[old].superseded_by, shown[new].supersedes) == (new, old)
    assert read(workflow, factories.BATCH).export_id == new
    assert shown[old].status == "Superseded by a newer revision"


def test_amendment_response_equals_inspect(workflow: WorkflowHarness) -> None:
    new = make_amendment(workflow, execute_export(workflow))
    assert read(workflow, new.export_id).model_dump_json(by_alias=True) == new.body


def test_amendment_notifies_recipients_of_the_new_revision(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, factories.plan(packages=3))
    (ready,) = read_messages(workflow, old, MessageType.HANDOFF_READY)
    recorded = read_messages(workflow, old, MessageType.PACKAGE_RECORDED)
    new = make_amendment(workflow, old, factories.plan(packages=2))
    follows = {"exportId": new.export_id, "revision": 2}

    (notice,) = read_messages(workflow, old, MessageType.HANDOFF_SUPERSEDED)
    assert notice["submissionId"] == ready["submissionId"]
    assert notice["notificationIds"] == [ready["id"]]
    assert notice["supersededBy"] == follows
    assert (notice["exportId"], notice["revision"]) == (old, 1)
    assert [each["packageNumber"] for each in notice["customsPackages"]] == ["CP-000001"]

    gone = read_messages(workflow, old, MessageType.PACKAGE_SUPERSEDED)
    assert [each["packageRef"] for each in gone] == ["P1", "P2", "P3"]
    assert [each["notificationIds"] for each in gone] == [[each["id"]] for each in recorded]
    assert [each["sscc"] for each in gone] == [each["sscc"] for each in recorded]
    assert [each["supersededBy"] for each in gone] == [follows] * 3
    assert [each["dropped"] for each in gone] == [False, False, True]

    later = list_pending(workflow, old)[5:]
    assert [(each.audience, each.state) for each in later] == [
        ("customs_broker", "pending"),
        *[("warehouse", "pending")] * 3,
    ]
    assert {(stream.subject_id, stream.partner_id) for stream in new.streams} == {
        (old, factories.BROKER),
        (old, factories.WAREHOUSE),
    }
    deliver_all(workflow, old)
    assert {each.state for each in list_pending(workflow, old) if each.audience != "operator"} == {"delivered"}


@pytest.mark.parametrize(("moved", "new_id"), [("warehouse", "wh_2"), ("broker", "br_2")])
def test_partner_that_loses_the_export_is_notified_that_nothing_follows(
    workflow: WorkflowHarness, moved: str, new_id: str
) -> None:
    kind = {"warehouse": {"kind": "warehouse"}, "broker": {"kind": "customs_broker", "path": "byob"}}[moved]
    partner = NewPartner.model_validate({"id": new_id, "name": "Another", "live": True, **kind})
    partners.create_partner(workflow.runtime, factories.ACCOUNT, partner)
    old = execute_export(workflow)
    plan = factories.plan()
    plan[moved]["id"] = new_id
    new = make_amendment(workflow, old, plan)
    (notice,) = read_messages(workflow, old, MessageType.HANDOFF_SUPERSEDED)
    assert notice["reassigned"] == (moved == "broker")
    dropped = {each["dropped"] for each in read_messages(workflow, old, MessageType.PACKAGE_SUPERSEDED)}
    assert dropped == {moved == "warehouse"}
    assert {stream.partner_id for stream in new.streams} == {factories.BROKER, factories.WAREHOUSE}


def answer(workflow: WorkflowHarness, export_id: str, status: str, entry_number: str | None = None) -> None:
    (found,) = workflow.rows(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id))
    given = {"id": f"{status}-1", "status": status, "entryNumber": entry_number}
    broker_answers.receive_answer(workflow.runtime, found.id, AcknowledgementBody.model_validate(given), "partner:br")


def test_filed_entry_is_replaced_only_by_a_correction_that_names_it(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    answer(workflow, old, "released", "ABC-1234567-8")
    log = workflow.events(old)
    with pytest.raises(EntryFiled, match=r"CP-000001 \(ABC-1234567-8\) is filed.*afterFiling=correction") as refused:
        make_amendment(workflow, old, idempotency_key="k-1")
    assert (refused.value.field, refused.value.details) == ("/query/afterFiling", {"entryNumbers": ["ABC-1234567-8"]})
    assert (workflow.events(old), workflow.state(old)) == (log, "executed")
    second = make_amendment(workflow, old, correct=True, idempotency_key="k-2").export_id
    with pytest.raises(IdempotencyKeyReused):
        make_amendment(workflow, old, idempotency_key="k-2")
    workflow.finish(second)
    (ready,) = read_messages(workflow, second, MessageType.HANDOFF_READY)
    (submission,) = workflow.rows(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == old))
    (corrected,) = ready["corrects"]
    changes = corrected.pop("changes")
    assert changes[0] == {
        "pointer": "/units/0/invoice/total",
        "field": "invoice total",
        "old": "228.00",
        "new": "281.00",
    }
    assert (changes[1]["pointer"], changes[1]["field"], changes[1]["old"]) == (None, "L4: whole entry", None)
    assert ready["corrects"] == [
        {
            "exportId": old,
            "revision": 1,
            "submissionId": submission.id,
            "unitRef": "U1",
            "customsPackageNumber": "CP-000001",
            "entryNumber": "ABC-1234567-8",
            "status": "released",
            "removed": False,
            "changesOmitted": 0,
        }
    ]
    # The entry of the first revision stands until it is cancelled, however many revisions follow.
    third = factories.plan(lines=5)
    with pytest.raises(EntryFiled):
        make_amendment(workflow, second, third)
    answer(workflow, old, "cancelled")
    assert make_amendment(workflow, second, third).created


def test_retraction_to_warehouse_has_no_price_and_no_customs_fact(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    make_amendment(workflow, old)
    allowed = {
        *("id", "exportId", "batchId", "revision", "test", "planHash", "treatmentDigest", "version", "notificationIds"),
        *(
            "unitRef",
            "customsPackageId",
            "customsPackageNumber",
            "packageRef",
            "sscc",
            "lpn",
            "supersededBy",
            "dropped",
        ),
    }
    assert [set(each) for each in read_messages(workflow, old, MessageType.PACKAGE_SUPERSEDED)] == [allowed] * 2


def test_amendment_of_unsent_export_cancels_deliveries_and_notifies_no_recipient(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, deliver=False)
    new = make_amendment(workflow, old)
    assert {each.state for each in list_pending(workflow, old)} == {"cancelled"}
    assert new.streams == ()
    assert (
        read_messages(workflow, old, MessageType.HANDOFF_SUPERSEDED)
        == read_messages(workflow, old, MessageType.PACKAGE_SUPERSEDED)
        == []
    )
    deliver_all(workflow, old)
    assert {each.attempts for each in list_pending(workflow, old)} == {0}


def test_amendment_retracts_only_attempted_packages(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, factories.plan(packages=3), deliver=False)
    first = next(each for each in list_pending(workflow, old) if each.audience == "warehouse")
    workflow.change(update(Delivery).where(col(Delivery.id) == first.id).values(attempts=1, error="no answer"))
    make_amendment(workflow, old, factories.plan(packages=2))
    assert [each["packageRef"] for each in read_messages(workflow, old, MessageType.PACKAGE_SUPERSEDED)] == ["P1"]
    assert read_messages(workflow, old, MessageType.HANDOFF_SUPERSEDED) == []


def test_amendment_during_send_retracts_and_cancels_the_delivery(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, deliver=False)
    workflow.change(
        update(Delivery)
        .where(col(Delivery.subject_id) == old, col(Delivery.audience) == "customs_broker")
        .values(fence=1, lease_until=workflow.clock.now.replace(hour=23))
    )
    make_amendment(workflow, old)
    (notice,) = read_messages(workflow, old, MessageType.HANDOFF_SUPERSEDED)
    (ready,) = read_messages(workflow, old, MessageType.HANDOFF_READY)
    assert notice["notificationIds"] == [ready["id"]]
    assert [
        (each.state, each.lease_until) for each in list_pending(workflow, old) if each.notification_id == ready["id"]
    ] == [("cancelled", None)]


def test_retraction_delivery_does_not_change_submission_status(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, deliver=False)
    workflow.change(
        update(Delivery).where(col(Delivery.audience) == "customs_broker").values(state="dead", attempts=3),
        update(BrokerSubmission).values(state="failed"),
    )
    make_amendment(workflow, old)
    deliver_all(workflow, old)
    assert [each.state for each in list_pending(workflow, old) if each.audience == "customs_broker"] == [
        "dead",
        "delivered",
    ]
    row = workflow.one(select(BrokerSubmission))
    assert (row.state, row.deadline_at) == ("failed", None)


def test_handoff_of_revision_names_superseded_submission(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    (first,) = read_messages(workflow, old, MessageType.HANDOFF_READY)
    assert first["supersedes"] is None
    new = make_amendment(workflow, old).export_id
    workflow.finish(new)
    (ready,) = read_messages(workflow, new, MessageType.HANDOFF_READY)
    assert ready["supersedes"] == {"exportId": old, "revision": 1, "submissionId": first["submissionId"]}
    assert ready["submissionId"] != first["submissionId"]
    assert ready["id"] != first["id"]


def test_handoff_after_failed_revision_names_last_handed_off_revision(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    (first,) = read_messages(workflow, old, MessageType.HANDOFF_READY)
    failed = make_amendment(workflow, old).export_id
    fail(workflow, failed)
    newest = make_amendment(workflow, failed, factories.plan(lines=5)).export_id
    workflow.finish(newest)
    (ready,) = read_messages(workflow, newest, MessageType.HANDOFF_READY)
    assert ready["supersedes"] == {"exportId": old, "revision": 1, "submissionId": first["submissionId"]}
    assert read(workflow, newest).revision == 3


def test_amendment_of_failed_export_cancels_its_steps(workflow: WorkflowHarness) -> None:
    failed = workflow.accept(factories.plan(units=2)).export_id
    workflow.fail_rendering(failed)
    new = make_amendment(workflow, failed, factories.plan(units=2, lines=4)).export_id
    assert workflow.state(failed) == "superseded"
    assert set(workflow.step_states(failed).values()) == {"done", "failed", "cancelled"}
    with pytest.raises(InvalidState):
        retry_export(workflow.runtime, factories.ACCOUNT, failed, "key_test")
    workflow.finish(new)
    assert workflow.state(new) == "executed"
    assert units(workflow, new) == [("U1", "CP-000001", False), ("U2", "CP-000002", False)]


@pytest.mark.parametrize("state", ["accepted", "executing"])
def test_amendment_of_active_export_is_refused(workflow: WorkflowHarness, state: str) -> None:
    export_id = workflow.accept().export_id
    if state == "executing":
        workflow.step(export_id, 1, "record_packages")
    with pytest.raises(InvalidState, match=f"is {state}; wait until it has ended, or cancel it"):
        make_amendment(workflow, export_id)
    assert workflow.state(export_id) == state
    assert workflow.count(Export) == 1


def test_amendment_of_cancelled_export_is_refused(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    with pytest.raises(InvalidState, match="send the plan with a new batch id"):
        make_amendment(workflow, export_id)


def test_amendment_of_superseded_export_names_newest_revision(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old).export_id
    with pytest.raises(InvalidState, match=f"the newest revision of its batch, {new}") as refused:
        make_amendment(workflow, old, factories.plan(lines=5))
    assert refused.value.details == {"exportId": new, "revision": 2}


def test_amendment_with_same_plan_returns_newest_revision(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    assert make_amendment(workflow, old, factories.plan()).export_id == old
    new = make_amendment(workflow, old)
    for again in (
        make_amendment(workflow, old),
        make_amendment(workflow, factories.BATCH),
        workflow.accept(OTHER_PLAN),
    ):
        assert (again.export_id, again.created, again.streams) == (new.export_id, False, ())
    assert workflow.count(Export) == 2
    with pytest.raises(AlreadyExecuted, match=f"/api/exports/{new.export_id}/amend"):
        workflow.accept(factories.plan())


def test_idempotency_key_replays_response_and_rejects_other_request(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    first = make_amendment(workflow, old, idempotency_key="k")
    workflow.finish(first.export_id)
    again = make_amendment(workflow, old, idempotency_key="k", precondition=never)
    assert (again.replayed, again.body, again.created) == (True, first.body, False)
    with pytest.raises(IdempotencyKeyReused):
        make_amendment(workflow, first.export_id, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        workflow.accept(OTHER_PLAN, key="k")


def never(_: ExportView) -> None:
    raise PreconditionFailed("it has changed")


def test_amendment_with_failed_precondition_writes_nothing(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    before = workflow.events(old)
    with pytest.raises(PreconditionFailed):
        make_amendment(workflow, old, precondition=never)
    assert (workflow.events(old), workflow.state(old), workflow.count(Export)) == (before, "executed", 1)


def test_amendment_checks_precondition_again_before_commit(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    looks: list[int] = []

    def unchanged(shown: ExportView) -> None:
        looks.append(len(shown.events))
        if len(looks) > 1:
            never(shown)

    with pytest.raises(PreconditionFailed):
        make_amendment(workflow, old, precondition=unchanged)
    assert len(looks) == 2
    assert workflow.state(old) == "executed"


def test_amendment_with_invalid_plan_is_refused(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    with pytest.raises(PlanNotApproved):
        make_amendment(workflow, old, OTHER_PLAN | {"approval": None})
    short = factories.change_plan(OTHER_PLAN, "/units/0/packages/0/contents/0/quantity", "1")
    with pytest.raises(PlanNotExecutable):
        make_amendment(workflow, old, short)
    with pytest.raises(ValidationFailed) as refused:
        make_amendment(workflow, old, factories.plan(batch="batch_other"))
    assert refused.value.field == "/batchId"
    with pytest.raises(NotFound):
        make_amendment(workflow, "exp_unknown")
    assert (workflow.state(old), workflow.count(Export)) == ("executed", 1)


@pytest.mark.parametrize(("mode", "other"), [("live", "test"), ("test", "live")])
def test_key_amends_only_exports_of_its_mode(workflow: WorkflowHarness, mode: Mode, other: Mode) -> None:
    old = execute_export(workflow)
    workflow.change(update(Export).values(test=mode == "test"))
    workflow.caller = replace(workflow.caller, mode=other)
    with pytest.raises(InsufficientRole, match=f"use a {mode} key"):
        make_amendment(workflow, old)
    assert (workflow.state(old), workflow.count(Export)) == ("executed", 1)
