"""A changed plan takes an export's place: one new revision, whatever is repeated, and whoever was told hears of it."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.errors import (
    AlreadyExecuted,
    IdempotencyKeyReused,
    InsufficientRole,
    InvalidState,
    NotFound,
    PlanNotApproved,
    PlanNotExecutable,
    PreconditionFailed,
    RendererCrashed,
    ValidationFailed,
)
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow.interventions import cancel_export, retry_export
from tests.support import factories
from tests.workflow.conftest import House
from tests.workflow.revisions import OTHER_PLAN, amended, deliver_all, executed, fail, owed, read, said, units, view


def test_an_amended_plan_is_a_new_revision_that_supersedes_the_old(house: House) -> None:
    old = executed(house)
    new = amended(house, old)
    shown = view(new)
    assert (shown.revision, shown.supersedes, shown.superseded_by, shown.state) == (2, old, None, "accepted")
    assert shown.plan_hash == factories.plan_hash(OTHER_PLAN)
    assert new.created
    assert house.state(old) == "superseded"
    house.finish(new.export_id)
    assert house.state(new.export_id) == "executed"
    assert house.events(old)[-1] == "EXPORT_AMENDED"
    assert house.events(new.export_id)[:2] == ["EXPORT_ACCEPTED", "EXPORT_AMENDED"]


def test_both_logs_name_the_other_export_and_the_batch_is_the_newest(house: House) -> None:
    old = executed(house)
    new = amended(house, factories.BATCH).export_id
    shown = {name: read(house, name) for name in (old, new)}
    data = shown[old].events[-1].data
    assert (data["supersededBy"], data["revision"]) == (new, 2)
    assert data.keys() == {"supersededBy", "revision", "notifications", "deliveries", "messagesDigest"}
    assert shown[new].events[1].data == {"supersedes": old, "revision": 2}
    assert (shown[old].superseded_by, shown[new].supersedes) == (new, old)
    assert read(house, factories.BATCH).export_id == new
    assert shown[old].status == "Superseded by a newer revision"


def test_the_answer_is_what_inspect_says(house: House) -> None:
    new = amended(house, executed(house))
    assert read(house, new.export_id).model_dump_json(by_alias=True) == new.body


def test_whoever_was_told_hears_at_once_which_revision_follows(house: House) -> None:
    old = executed(house, factories.plan(packages=3))
    (ready,) = said(house, old, MessageType.HANDOFF_READY)
    recorded = said(house, old, MessageType.PACKAGE_RECORDED)
    new = amended(house, old, factories.plan(packages=2))
    follows = {"exportId": new.export_id, "revision": 2}

    (told,) = said(house, old, MessageType.HANDOFF_SUPERSEDED)
    assert told["submissionId"] == ready["submissionId"]
    assert told["notificationIds"] == [ready["id"]]
    assert told["supersededBy"] == follows
    assert (told["exportId"], told["revision"]) == (old, 1)
    assert [each["packageNumber"] for each in told["customsPackages"]] == ["CP-000001"]

    gone = said(house, old, MessageType.PACKAGE_SUPERSEDED)
    assert [each["packageRef"] for each in gone] == ["P1", "P2", "P3"]
    assert [each["notificationIds"] for each in gone] == [[each["id"]] for each in recorded]
    assert [each["sscc"] for each in gone] == [each["sscc"] for each in recorded]
    assert [each["supersededBy"] for each in gone] == [follows] * 3
    assert [each["dropped"] for each in gone] == [False, False, True]

    later = owed(house, old)[5:]
    assert [(each.audience, each.state) for each in later] == [
        ("customs_broker", "pending"),
        *[("warehouse", "pending")] * 3,
    ]
    assert {(stream.export_id, stream.partner_id) for stream in new.streams} == {
        (old, factories.BROKER),
        (old, factories.WAREHOUSE),
    }
    deliver_all(house, old)
    assert {each.state for each in owed(house, old) if each.audience != "operator"} == {"delivered"}


def test_the_warehouse_hears_of_no_price_and_no_customs_fact(house: House) -> None:
    old = executed(house)
    amended(house, old)
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
    assert [set(each) for each in said(house, old, MessageType.PACKAGE_SUPERSEDED)] == [allowed] * 2


def test_what_was_never_sent_is_let_go_of_and_nobody_hears_of_it(house: House) -> None:
    old = executed(house, told=False)
    new = amended(house, old)
    assert {each.state for each in owed(house, old)} == {"cancelled"}
    assert new.streams == ()
    assert said(house, old, MessageType.HANDOFF_SUPERSEDED) == said(house, old, MessageType.PACKAGE_SUPERSEDED) == []
    deliver_all(house, old)
    assert {each.attempts for each in owed(house, old)} == {0}


def test_only_packages_that_were_told_are_said_to_be_superseded(house: House) -> None:
    old = executed(house, factories.plan(packages=3), told=False)
    first = next(each for each in owed(house, old) if each.audience == "warehouse")
    with house.runtime.db.write() as session:
        session.execute(update(Delivery).where(col(Delivery.id) == first.id).values(attempts=1, error="no answer"))
    amended(house, old, factories.plan(packages=2))
    assert [each["packageRef"] for each in said(house, old, MessageType.PACKAGE_SUPERSEDED)] == ["P1"]
    assert said(house, old, MessageType.HANDOFF_SUPERSEDED) == []


def test_a_send_that_is_under_way_is_told_of_but_records_nothing(house: House) -> None:
    old = executed(house, told=False)
    with house.runtime.db.write() as session:
        session.execute(
            update(Delivery)
            .where(col(Delivery.export_id) == old, col(Delivery.audience) == "customs_broker")
            .values(fence=1, lease_until=house.clock.now.replace(hour=23))
        )
    amended(house, old)
    (told,) = said(house, old, MessageType.HANDOFF_SUPERSEDED)
    (ready,) = said(house, old, MessageType.HANDOFF_READY)
    assert told["notificationIds"] == [ready["id"]]
    assert [(each.state, each.lease_until) for each in owed(house, old) if each.notification_id == ready["id"]] == [
        ("cancelled", None)
    ]


def test_telling_that_a_handoff_is_superseded_is_no_status_of_it(house: House) -> None:
    old = executed(house, told=False)
    with house.runtime.db.write() as session:
        session.execute(
            update(Delivery).where(col(Delivery.audience) == "customs_broker").values(state="dead", attempts=3)
        )
        session.execute(update(BrokerSubmission).values(state="failed"))
    amended(house, old)
    deliver_all(house, old)
    assert [each.state for each in owed(house, old) if each.audience == "customs_broker"] == ["dead", "delivered"]
    with house.runtime.db.read() as session:
        row = session.scalars(select(BrokerSubmission)).one()
    assert (row.state, row.deadline_at) == ("failed", None)


def test_the_new_handoff_says_what_it_supersedes(house: House) -> None:
    old = executed(house)
    (first,) = said(house, old, MessageType.HANDOFF_READY)
    assert first["supersedes"] is None
    new = amended(house, old).export_id
    house.finish(new)
    (ready,) = said(house, new, MessageType.HANDOFF_READY)
    assert ready["supersedes"] == {"exportId": old, "revision": 1, "submissionId": first["submissionId"]}
    assert ready["submissionId"] != first["submissionId"]
    assert ready["id"] != first["id"]


def test_a_revision_that_failed_before_its_handoff_is_no_link_for_the_broker(house: House) -> None:
    old = executed(house)
    (first,) = said(house, old, MessageType.HANDOFF_READY)
    failed = amended(house, old).export_id
    fail(house, failed)
    newest = amended(house, failed, factories.plan(lines=5)).export_id
    house.finish(newest)
    (ready,) = said(house, newest, MessageType.HANDOFF_READY)
    assert ready["supersedes"] == {"exportId": old, "revision": 1, "submissionId": first["submissionId"]}
    assert read(house, newest).revision == 3


def test_a_failed_export_is_amended_and_its_steps_are_over(house: House) -> None:
    failed = house.accept(factories.plan(units=2)).export_id
    house.step(failed, 1, "record_packages")
    house.store.breaks_with = RendererCrashed("the PDF engine died")
    for _ in range(house.runtime.settings.step_max_attempts):
        house.clock.pass_seconds(3600)
        house.step(failed, 1, "render_documents")
    house.store.breaks_with = None
    new = amended(house, failed, factories.plan(units=2, lines=4)).export_id
    assert house.state(failed) == "superseded"
    assert set(house.step_states(failed).values()) == {"done", "failed", "cancelled"}
    with pytest.raises(InvalidState):
        retry_export(house.runtime, factories.ACCOUNT, failed, "key_test")
    house.finish(new)
    assert house.state(new) == "executed"
    assert units(house, new) == [("U1", "CP-000001", False), ("U2", "CP-000002", False)]


@pytest.mark.parametrize("state", ["accepted", "executing"])
def test_an_export_under_way_is_waited_for_or_cancelled_not_amended(house: House, state: str) -> None:
    export_id = house.accept().export_id
    if state == "executing":
        house.step(export_id, 1, "record_packages")
    with pytest.raises(InvalidState, match=f"is {state}; wait until it has ended, or cancel it"):
        amended(house, export_id)
    assert house.state(export_id) == state
    assert house.count(Export) == 1


def test_after_a_cancelled_export_nothing_follows(house: House) -> None:
    export_id = house.accept().export_id
    cancel_export(house.runtime, factories.ACCOUNT, export_id, "key_test")
    with pytest.raises(InvalidState, match="give the plan a batch id of its own"):
        amended(house, export_id)


def test_only_the_newest_revision_is_amended(house: House) -> None:
    old = executed(house)
    new = amended(house, old).export_id
    with pytest.raises(InvalidState, match=f"the newest revision of its batch is {new}") as refused:
        amended(house, old, factories.plan(lines=5))
    assert refused.value.details == {"exportId": new, "revision": 2}


def test_the_plan_of_the_newest_revision_answers_with_it(house: House) -> None:
    old = executed(house)
    assert amended(house, old, factories.plan()).export_id == old
    new = amended(house, old)
    for again in (amended(house, old), amended(house, factories.BATCH), house.accept(OTHER_PLAN)):
        assert (again.export_id, again.created, again.streams) == (new.export_id, False, ())
    assert house.count(Export) == 2
    with pytest.raises(AlreadyExecuted, match=f"/api/exports/{new.export_id}/amend"):
        house.accept(factories.plan())


def test_a_key_replays_its_first_answer_and_is_of_one_request(house: House) -> None:
    old = executed(house)
    first = amended(house, old, idempotency_key="k")
    house.finish(first.export_id)
    again = amended(house, old, idempotency_key="k", precondition=never)
    assert (again.replayed, again.body, again.created) == (True, first.body, False)
    with pytest.raises(IdempotencyKeyReused):
        amended(house, first.export_id, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        house.accept(OTHER_PLAN, key="k")


def never(_: ExportView) -> None:
    raise PreconditionFailed("it has changed")


def test_an_unexpected_version_is_refused_and_nothing_is_written(house: House) -> None:
    old = executed(house)
    before = house.events(old)
    with pytest.raises(PreconditionFailed):
        amended(house, old, precondition=never)
    assert (house.events(old), house.state(old), house.count(Export)) == (before, "executed", 1)


def test_a_change_between_the_check_and_the_commit_is_noticed(house: House) -> None:
    old = executed(house)
    looks: list[int] = []

    def unchanged(shown: ExportView) -> None:
        looks.append(len(shown.events))
        if len(looks) > 1:
            never(shown)

    with pytest.raises(PreconditionFailed):
        amended(house, old, precondition=unchanged)
    assert len(looks) == 2
    assert house.state(old) == "executed"


def test_an_amended_plan_is_checked_like_any_other(house: House) -> None:
    old = executed(house)
    with pytest.raises(PlanNotApproved):
        amended(house, old, OTHER_PLAN | {"approval": None})
    short = factories.changed(OTHER_PLAN, "/units/0/packages/0/contents/0/quantity", "1")
    with pytest.raises(PlanNotExecutable):
        amended(house, old, short)
    with pytest.raises(ValidationFailed) as refused:
        amended(house, old, factories.plan(batch="batch_other"))
    assert refused.value.field == "/batchId"
    with pytest.raises(NotFound):
        amended(house, "exp_unknown")
    test = house.caller.__class__(factories.ACCOUNT, "key_test", "test", house.caller.roles)
    house.caller, live = test, house.caller
    with pytest.raises(InsufficientRole, match="amend it with a live key"):
        amended(house, old)
    house.caller = live
    assert (house.state(old), house.count(Export)) == ("executed", 1)
