"""A customs broker answers for each customs package of a handoff; the newest word about each counts."""

from typing import Any

import pytest
from sqlmodel import col, select

from pipeline.core.errors import NotInHandoff, ValidationFailed
from pipeline.deliveries.models import BrokerSubmission, CustomsEntry
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow import inbox, read_model
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export


def answer(workflow: WorkflowHarness, export_id: str, name: str, status: str, *packages: str, **facts: Any) -> None:
    """Record an answer to the handoff of the export; a `fetched` one was read from the broker's endpoint."""
    fetched = facts.pop("fetched", False)
    submission = workflow.one(select(BrokerSubmission.id).where(col(BrokerSubmission.export_id) == export_id))
    body = AcknowledgementBody.model_validate(
        {"id": name, "status": status, "customsPackageNumbers": packages, **facts}
    )
    broker_answers.receive_answer(workflow.runtime, submission, body, "partner:br", fetched=fetched)


def read(workflow: WorkflowHarness, export_id: str) -> ExportView:
    with workflow.runtime.db.read() as session:
        return read_model.read_export(session, factories.ACCOUNT, export_id)


def headlines(workflow: WorkflowHarness, export_id: str) -> list[str]:
    """Return the headlines of the view, which are those of the stored entries once there is an answer."""
    (submission,) = read(workflow, export_id).broker_submissions
    shown = {each.customs_package_number: each.headline for each in submission.entries}
    with workflow.runtime.db.read() as session:
        stored = session.execute(select(CustomsEntry.package_number, CustomsEntry.headline)).all()
    assert not submission.acknowledgements or shown == dict(stored)
    return list(shown.values())


def packages(workflow: WorkflowHarness, export_id: str) -> list[str]:
    return [each.package_number or "" for each in read(workflow, export_id).customs_packages]


def test_each_package_has_its_own_answer_and_the_worst_counts(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan(units=2))
    first, second = packages(workflow, export_id)
    assert headlines(workflow, export_id) == ["awaiting", "awaiting"]
    answer(workflow, export_id, "a-1", "filed", first, entryNumber="ABC-1")
    view = read(workflow, export_id)
    assert (view.outcome, view.broker_submissions[0].submission_status) == ("with_broker", "delivered")
    answer(workflow, export_id, "a-2", "filed", second, entryNumber="ABC-2")
    assert read(workflow, export_id).outcome == "filed"
    answer(workflow, export_id, "a-3", "released", first)
    assert (read(workflow, export_id).outcome, headlines(workflow, export_id)) == ("filed", ["released", "filed"])
    answer(workflow, export_id, "a-4", "held", second, hold={"holder": "cbp", "kind": "exam"})
    view = read(workflow, export_id)
    assert (view.outcome, view.status) == ("held", "Executed; customs holds the goods - 1 of 2 released, 1 held")
    assert [each.entry_number for each in view.broker_submissions[0].entries] == ["ABC-1", "ABC-2"]
    assert view.broker_submissions[0].entries[1].holds == ["cbp:exam"]
    # A release does not end a hold with a name.
    answer(workflow, export_id, "a-5", "released", second)
    assert headlines(workflow, export_id) == ["released", "held"]
    answer(workflow, export_id, "a-6", "hold_removed", second, hold={"holder": "cbp", "kind": "exam"})
    assert (read(workflow, export_id).outcome, headlines(workflow, export_id)) == ("released", ["released", "released"])


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        (("released", "held"), "held"),
        (("released", "rejected"), "rejected"),
        (("accepted", "query"), "query"),
        (("filed", "query"), "query"),
        (("rejected", "filed"), "filed"),
        (("rejected", "query"), "query"),
        (("held", "rejected"), "rejected"),
        (("released", "seized"), "held"),
    ],
)
def test_newest_word_counts_and_bad_news_is_in_the_inbox(
    workflow: WorkflowHarness, statuses: tuple[str, ...], outcome: str
) -> None:
    export_id = execute_export(workflow, factories.plan())
    for number, status in enumerate(statuses):
        answer(workflow, export_id, f"a-{number}", status)
    assert read(workflow, export_id).outcome == outcome
    items = inbox.load_inbox(workflow.runtime, factories.ACCOUNT).items
    assert [item.cause for item in items] == ([] if outcome == "filed" else [outcome])


def test_answer_counts_at_its_own_time_whenever_it_arrives(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "late", "released", at="2026-01-03T10:00:00Z")
    answer(workflow, export_id, "early", "query", at="2026-01-03T09:59:00Z")
    assert (read(workflow, export_id).outcome, headlines(workflow, export_id)) == ("released", ["released"])


def test_wrong_answer_is_taken_back_and_the_deadline_starts_again(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "a-1", "rejected")
    assert read(workflow, export_id).broker_submissions[0].deadline_at is None
    answer(workflow, export_id, "a-2", "received", corrects="a-1")
    (submission,) = read(workflow, export_id).broker_submissions
    assert (submission.submission_status, submission.deadline_at is None) == ("received", False)


def test_answer_about_what_the_handoff_lacks_is_refused_and_records_nothing(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan())
    events = workflow.events(export_id)
    for field, facts in (
        ("/customsPackageNumbers/1", {"customsPackageNumbers": [*packages(workflow, export_id), "CP-999999"]}),
        ("/corrects", {"corrects": "a-0"}),
        ("/at", {"at": "2099-01-01T00:00:00Z"}),
    ):
        with pytest.raises((NotInHandoff, ValidationFailed)) as refused:
            answer(workflow, export_id, "a-1", "accepted", **facts)
        assert refused.value.field == field
    assert workflow.events(export_id) == events
    # The sender of a fetched answer would not read the refusal.
    answer(workflow, export_id, "a-1", "accepted", "CP-999999", corrects="a-0", at="2099-01-01T00:00:00Z", fetched=True)
    assert headlines(workflow, export_id) == ["awaiting"]
    (given,) = read(workflow, export_id).broker_submissions[0].acknowledgements
    assert (given.packages, given.corrects, given.at) == (["CP-999999"], "a-0", None)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"status": "accepted", "hold": {"holder": "cbp"}}, "remove it"),
        ({"status": "held", "hold": {"holder": "agency"}}, "name `agency` with"),
        ({"status": "held", "hold": {"holder": "cbp", "agency": "FDA"}}, "name `agency` with"),
        ({"status": "accepted", "corrects": "a-1"}, "name an earlier answer"),
    ],
)
def test_answer_that_contradicts_itself_is_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AcknowledgementBody.model_validate({"id": "a-1", **facts})
