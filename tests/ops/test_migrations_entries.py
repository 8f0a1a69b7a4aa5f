"""The upgrade folds stored answers as the service does."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import select

from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, CustomsEntry
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.models import Export
from pipeline.ops.migrations.runner import downgrade_database, upgrade_database
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export

pytestmark = pytest.mark.system

#: Answers of an older version to one handoff each: status, and the minute that the customs broker said.
STORED: list[list[tuple[str, int | None]]] = [
    [],
    [("received", None)],
    [("released", None), ("held", None)],
    [("held", None), ("released", None)],
    [("released", 9), ("query", 8)],
    [("filed", 3), ("query", 3)],
    [("rejected", None), ("filed", None), ("released", None), ("filed", None)],
    [("released", 2), ("filed", 1), ("rejected", 3)],
]


def read_rows(workflow: WorkflowHarness, model: Any, *without: str) -> list[dict[str, Any]]:
    with workflow.runtime.db.read() as session:
        rows = [row.model_dump(exclude={*without}) for row in session.scalars(select(model))]
    return sorted(rows, key=repr)


def outcomes_of(workflow: WorkflowHarness) -> dict[str, str]:
    return {row["id"]: row["outcome"] for row in read_rows(workflow, Export)}


#: What the older version did not write, and no upgrade fills in.
UNKNOWN = ("deadline_at", "updated_at", "arrives_at", "arrives_by", "summary_due_at")


@pytest.mark.databases
def test_upgrade_folds_stored_answers(workflow: WorkflowHarness, database_url: str) -> None:
    for number, answers in enumerate(STORED):
        plan = factories.plan(batch=f"batch_{number}", units=2, invoice=f"INV-{number}")
        export_id = execute_export(workflow, plan)
        submission = workflow.one(select(BrokerSubmission.id).where(BrokerSubmission.export_id == export_id))
        for place, (status, minute) in enumerate(answers):
            body: dict[str, Any] = {"id": f"a-{place}", "status": status, "entryNumber": f"ABC-{place}"}
            if minute is not None:
                body["at"] = f"2026-01-05T10:{minute:02}:00+02:00"
            receive = AcknowledgementBody.model_validate(body)
            broker_answers.receive_answer(workflow.runtime, submission, receive, "partner:br")
    expected = [read_rows(workflow, CustomsEntry, "updated_at")]
    expected += [read_rows(workflow, Acknowledgement), read_rows(workflow, BrokerSubmission, *UNKNOWN)]
    outcomes = outcomes_of(workflow)
    downgrade_database(workflow.runtime.db, "0006")
    with workflow.runtime.db.write() as session:
        # The older version let nothing follow a release.
        stale = "UPDATE broker_submissions SET state = 'released' WHERE first_accepted_at IS NOT NULL"
        session.execute(text(stale))
    upgrade_database(workflow.runtime.db)
    found = [read_rows(workflow, CustomsEntry, "updated_at")]
    found += [read_rows(workflow, Acknowledgement), read_rows(workflow, BrokerSubmission, *UNKNOWN)]
    assert found == expected
    assert outcomes_of(workflow) == outcomes
    assert len(found[0]) == 2 * (len(STORED) - 1)
