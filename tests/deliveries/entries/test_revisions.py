"""An amendment works by entry: an unchanged unit keeps its entry, and a correction says what it changes."""

import pytest
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.errors import DatabaseBusy, EntryFiled
from pipeline.core.failpoints import hooks
from pipeline.deliveries.email.earlier import describe_earlier, describe_purpose, list_changes
from pipeline.deliveries.handoff import prepare_handoff, write_handoff
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady
from pipeline.exports.schemas.inbox import Cause
from pipeline.exports.schemas.submissions import BrokerSubmissionView
from pipeline.exports.step_context import load_context
from pipeline.workflow.acknowledgements import acknowledge_export
from tests.deliveries.entries.test_entries import answer, packages, read
from tests.ops.rebuild.test_rebuild import differences
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment, read_messages
from tests.workflow.test_acknowledgements import list_items

PLAN = factories.plan(units=2)


def change(*units: int) -> factories.Json:
    """Return the plan with other goods in these units."""
    plan = factories.plan(units=2)
    for unit in units:
        plan["units"][unit]["invoice"]["purchaseOrder"] = "PO-2"
    return plan


def same_in_other_words() -> factories.Json:
    """Return the plan with another hash and the same values."""
    plan = factories.plan(units=2)
    plan["units"][0]["entry"]["estimatedArrivalAt"] = "2026-11-26T13:00:00-05:00"
    return plan


def amend(workflow: WorkflowHarness, old: str, plan: factories.Json, *, correct: bool = False) -> str:
    """Execute an amendment up to its handoff; its messages are not sent yet."""
    new = make_amendment(workflow, old, plan, correct=correct).export_id
    for unit_no in range(1, len(plan["units"]) + 1):
        workflow.step(new, unit_no, "record_packages")
        workflow.step(new, unit_no, "render_documents")
    return new


def handoff(workflow: WorkflowHarness, export_id: str) -> BrokerSubmissionView:
    (submission,) = read(workflow, export_id).broker_submissions
    return submission


def headlines(workflow: WorkflowHarness, export_id: str) -> list[str]:
    return [each.headline for each in handoff(workflow, export_id).entries]


def test_unchanged_unit_keeps_its_entry_and_only_the_changed_one_goes_out_again(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    first, second = packages(workflow, old)
    answer(workflow, old, "a-1", "filed", first, entryNumber="ABC-1")
    answer(workflow, old, "a-2", "rejected", second)
    new = amend(workflow, old, change(1))
    (ready,) = read_messages(workflow, new, MessageType.HANDOFF_READY)
    kept = {"exportId": old, "revision": 1, "submissionId": handoff(workflow, old).id}
    assert ready["units"][0]["kept"] == kept | {"entryNumber": "ABC-1", "status": "filed"}
    assert ("kept" in ready["units"][1], ready["corrects"]) == (False, [])
    assert headlines(workflow, new) == ["filed", "awaiting"]
    assert handoff(workflow, new).submission_status == "pending"
    # Before it is sent, and after, an answer to the old handoff counts for the entry that goes on.
    answer(workflow, old, "a-3", "customs_accepted", first)
    assert (headlines(workflow, new), handoff(workflow, new).submission_status) == (
        ["customs_accepted", "awaiting"],
        "pending",
    )
    workflow.finish(new)
    assert handoff(workflow, new).submission_status == "delivered"
    answer(workflow, new, "a-1", "filed", second, entryNumber="ABC-2")
    answer(workflow, old, "a-4", "held", first, hold={"holder": "cbp"})
    view = read(workflow, new)
    assert (view.outcome, headlines(workflow, new)) == ("held", ["held", "filed"])
    answer(workflow, old, "a-5", "accepted", second, corrects="a-4")
    assert (read(workflow, new).outcome, headlines(workflow, new)) == ("filed", ["customs_accepted", "filed"])
    assert read_messages(workflow, new, MessageType.ENTRY_PROGRESSED)[-1]["answerStatus"] == "remark"
    assert [*differences(workflow, old), *differences(workflow, new)] == []


def test_only_a_changed_or_removed_filed_unit_needs_a_correction(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    first = packages(workflow, old)[0]
    answer(workflow, old, "a-1", "filed", first, entryNumber="ABC-1")
    removed = factories.plan(units=2)
    removed["units"] = removed["units"][1:]
    for plan in (change(0), removed):
        with pytest.raises(EntryFiled, match=rf"{first} \(ABC-1\)"):
            make_amendment(workflow, old, plan)
    another = NewPartner(id="br_2", name="Another", kind="customs_broker", path="byob", live=True)
    partners.create_partner(workflow.runtime, factories.ACCOUNT, another)
    with pytest.raises(EntryFiled):
        make_amendment(workflow, old, factories.plan(units=2, broker="br_2"))
    second_revision = amend(workflow, old, same_in_other_words())
    assert headlines(workflow, second_revision) == ["filed", "awaiting"]
    workflow.finish(second_revision)
    # The entry is the newest handoff's now: what it says about it counts.
    answer(workflow, second_revision, "b-1", "cancelled", first)
    third = amend(workflow, second_revision, change(0))
    assert headlines(workflow, third) == ["awaiting", "awaiting"]
    (ready,) = read_messages(workflow, third, MessageType.HANDOFF_READY)
    assert [each.get("kept", {}).get("revision") for each in ready["units"]] == [None, 2]


def test_removed_filed_unit_is_named_and_the_old_one_stays(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    answer(workflow, old, "a-1", "released", packages(workflow, old)[0], entryNumber="ABC-1")
    plan = factories.plan(units=2)
    plan["units"] = plan["units"][1:]
    new = amend(workflow, old, plan, correct=True)
    (ready,) = read_messages(workflow, new, MessageType.HANDOFF_READY)
    (corrected,) = ready["corrects"]
    assert (corrected["unitRef"], corrected["removed"], corrected["changes"]) == ("U1", True, [])


def test_kept_handoff_that_is_delivered_has_the_old_status_and_deadline(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    answer(workflow, old, "a-1", "filed", entryNumber="ABC-1")
    (before,) = workflow.rows(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == old))
    new = amend(workflow, old, same_in_other_words())
    assert handoff(workflow, new).submission_status == "pending"
    workflow.finish(new)
    shown = handoff(workflow, new)
    assert (read(workflow, new).outcome, shown.submission_status) == ("filed", "filed")
    assert shown.deadline_at is not None
    assert before.deadline_at is not None
    assert abs((shown.deadline_at - before.deadline_at).total_seconds()) < 1
    assert [*differences(workflow, old), *differences(workflow, new)] == []


def test_answer_that_comes_first_stops_the_amendment(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = execute_export(workflow, PLAN)
    first = packages(workflow, old)[0]
    monkeypatch.setitem(hooks, "amend.before", lambda: answer(workflow, old, "a-1", "filed", first))
    with pytest.raises(EntryFiled):
        make_amendment(workflow, old, change(0))
    assert workflow.state(old) == "executed"


def test_answer_during_the_handoff_is_in_it(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    first, second = packages(workflow, old)
    new = make_amendment(workflow, old, change(0)).export_id
    for unit_no in (1, 2):
        workflow.step(new, unit_no, "record_packages")
    with workflow.runtime.db.read() as session:
        context = load_context(session, new, unit_no=0, step="hand_off", fence=1, attempt=1)
    prepared = prepare_handoff(workflow.runtime, context)
    answer(workflow, old, "a-1", "filed", first, entryNumber="ABC-1")
    answer(workflow, old, "a-2", "accepted", second)
    with pytest.raises(DatabaseBusy), workflow.runtime.db.write() as session:
        write_handoff(session, context, prepared)
    workflow.finish(new)
    (ready,) = read_messages(workflow, new, MessageType.HANDOFF_READY)
    assert [each["entryNumber"] for each in ready["corrects"]] == ["ABC-1"]
    assert ready["units"][1]["kept"]["status"] == "accepted"


def left(workflow: WorkflowHarness) -> list[tuple[str | None, str]]:
    return [(each.partner_id, each.text.partition(": ")[2]) for each in list_items(workflow, cause=Cause.EARLIER_ENTRY)]


def test_late_answer_about_a_corrected_entry_needs_a_person(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    first, second = packages(workflow, old)
    answer(workflow, old, "a-1", "filed", entryNumber="ABC-1")
    new = amend(workflow, old, change(0), correct=True)
    answer(workflow, old, "a-2", "accepted", first)
    answer(workflow, old, "a-3", "released", second)
    assert left(workflow) == []
    answer(workflow, old, "a-4", "released", first)
    assert left(workflow) == [("br_sandbox", f"{first} (ABC-1): released")]
    acknowledge_export(workflow.runtime, factories.ACCOUNT, old, "key:k")
    assert left(workflow) == []
    answer(workflow, old, "a-5", "cancelled", first)
    assert left(workflow) == [("br_sandbox", f"{first} (ABC-1): cancelled")]
    assert [(each.entry_number, each.status) for each in read(workflow, new).earlier_entries] == [
        ("ABC-1", "cancelled")
    ]
    assert [*differences(workflow, old), *differences(workflow, new)] == []


def test_late_answer_follows_the_revisions_that_kept_the_entry(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    first = packages(workflow, old)[0]
    answer(workflow, old, "a-1", "filed", entryNumber="ABC-1")
    second = amend(workflow, old, same_in_other_words())
    workflow.finish(second)
    third = make_amendment(workflow, second, change(0), correct=True).export_id
    answer(workflow, old, "a-2", "released", first)
    assert headlines(workflow, second) == ["released", "filed"]
    assert left(workflow) == []  # the handoff of the third says it
    workflow.finish(third)
    (ready,) = read_messages(workflow, third, MessageType.HANDOFF_READY)
    assert [(each["revision"], each["status"]) for each in ready["corrects"]] == [(2, "released")]
    answer(workflow, old, "a-3", "held", first, hold={"holder": "cbp"})
    assert headlines(workflow, second) == ["held", "filed"]
    assert left(workflow) == [("br_sandbox", f"{first} (ABC-1): held")]
    assert [each for name in (old, second, third) for each in differences(workflow, name)] == []


@pytest.mark.parametrize("filed_first", [False, True])
def test_old_broker_of_a_reassigned_export_confirms_or_files(workflow: WorkflowHarness, *, filed_first: bool) -> None:
    another = NewPartner(id="br_2", name="Another", kind="customs_broker", path="byob", live=True)
    partners.create_partner(workflow.runtime, factories.ACCOUNT, another)
    old = execute_export(workflow)
    (package,) = packages(workflow, old)
    if filed_first:
        answer(workflow, old, "a-1", "filed", entryNumber="ABC-1")
    new = make_amendment(workflow, old, factories.plan(broker="br_2"), correct=filed_first).export_id
    assert bool(left(workflow)) is filed_first
    answer(workflow, old, "a-2", "withdrawn")
    assert bool(left(workflow)) is filed_first  # what is filed must be cancelled
    if not filed_first:
        answer(workflow, old, "a-1", "filed", entryNumber="ABC-1")
    assert left(workflow) == [("br_sandbox", f"{package} (ABC-1): filed")]
    answer(workflow, old, "a-3", "cancelled")
    assert left(workflow) == []
    assert handoff(workflow, old).entries[0].headline in ("cancelled", "withdrawn")
    assert [*differences(workflow, old), *differences(workflow, new)] == []


@pytest.mark.parametrize("removes", [False, True])
def test_email_says_what_becomes_of_each_earlier_entry(workflow: WorkflowHarness, *, removes: bool) -> None:
    old = execute_export(workflow, PLAN)
    first, second = packages(workflow, old)
    answer(workflow, old, "a-1", "filed", first, entryNumber="ABC-1")
    answer(workflow, old, "a-2", "customs_accepted", second, entryNumber="ABC-2")
    plan = change(0)
    plan["units"] = plan["units"][1:] if removes else plan["units"]
    (ready,) = read_messages(workflow, amend(workflow, old, plan, correct=True), MessageType.HANDOFF_READY)
    message = HandoffReady.model_validate({name: value for name, value in ready.items() if name != "id"})
    does = "The new revision does not have these goods. Ask the sender what becomes of it" if removes else "Correct it"
    assert describe_purpose(message)[0] == "Correction"
    assert list(describe_earlier(message)) == [
        "It replaces revision 1. Do not file that revision.",
        f"{second} did not change since revision 1. Its entry ABC-2 (customs accepted) goes on: file no second one.",
        f"{first} has entry ABC-1 (filed). {does}, and file no second one.",
    ]
    rows = [row for section in list_changes(message) for row in section.facts]
    assert [value for _, value in rows] == ([] if removes else ["none -> PO-2"])
