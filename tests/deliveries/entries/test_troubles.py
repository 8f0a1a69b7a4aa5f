"""What stands against an entry is in the inbox, in the customs broker's own word and text."""

import pytest

from pipeline.core.errors import InvalidState
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.workflow import inbox
from pipeline.workflow.acknowledgements import acknowledge_export, reopen_export
from tests.deliveries.entries.test_assessment import assert_rows_follow_from_log
from tests.deliveries.entries.test_entries import answer, packages, read
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export


def list_items(workflow: WorkflowHarness, *, acknowledged: bool = False) -> list[InboxItem]:
    return list(inbox.load_inbox(workflow.runtime, factories.ACCOUNT, acknowledged=acknowledged).items)


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        ("rejected", "The customs broker rejects it.", "Executed; br_1 rejected the handoff and names the reason"),
        ("query", "The customs broker asks.", "Executed; br_1 asks a question"),
        ("held", "Customs holds the goods.", "Executed; customs holds the goods"),
        ("not_released", "Customs does not release the goods.", "Executed; customs holds the goods"),
        ("detained", "Customs detains the goods.", "Executed; customs holds the goods"),
        ("refused", "Customs refused the goods.", "Executed; customs refused or seized the goods"),
        ("seized", "Customs seized the goods.", "Executed; customs refused or seized the goods"),
        ("cancelled", "The entry is cancelled.", "Executed; the entry is cancelled"),
        ("withdrawn", "The customs broker files no entry.", "Executed; br_1 rejected the handoff and names the reason"),
    ],
)
def test_inbox_says_the_word_and_the_text_of_the_answer_that_counts(
    workflow: WorkflowHarness, status: str, reason: str, text: str
) -> None:
    export_id = execute_export(workflow, factories.plan(units=2))
    first, second = packages(workflow, export_id)
    says = {"message": "Wrong text.", "at": "2026-01-03T10:00:00Z"}
    answer(workflow, export_id, "a-1", "remark", first, message="Nothing.")
    answer(workflow, export_id, "a-2", status, second, **says | {"message": "This counts."})
    answer(workflow, export_id, "a-3", status, second, **says | {"at": "2026-01-02T10:00:00Z"})
    answer(workflow, export_id, "a-4", status, second, **says | {"at": "2026-01-04T10:00:00Z"})
    answer(workflow, export_id, "a-5", "remark", second, message="Wrong.", corrects="a-4")
    (item,) = list_items(workflow)
    assert item.text == f"{second}: {status.replace('_', ' ')}. This counts."
    assert item.reason.startswith(reason)
    assert read(workflow, export_id).status.partition(" - ")[0] == text.replace("br_1", factories.BROKER)
    answer(workflow, export_id, "a-6", "remark", second, message="Wrong.", corrects="a-2")
    answer(workflow, export_id, "a-7", "remark", second, message="Wrong.", corrects="a-3")
    assert list_items(workflow) == []


@pytest.mark.parametrize("status", ["summary_rejected", "summary_documents_requested"])
@pytest.mark.parametrize("ends", ["summary_filed", "summary_corrected", "summary_paid", "filed"])
def test_summary_needs_a_person_until_it_is_answered(
    workflow: WorkflowHarness, database_url: str, status: str, ends: str
) -> None:
    export_id = execute_export(workflow, factories.plan())
    (package,) = packages(workflow, export_id)
    answer(workflow, export_id, "a-1", "released", at="2026-01-02T00:00:00Z")
    answer(workflow, export_id, "a-2", status, message="Line 3.", at="2026-01-04T00:00:00Z")
    (item,) = list_items(workflow)
    said = f"{package}: {status.replace('_', ' ')}. Line 3."
    assert (item.cause, item.text, item.export_id) == (Cause.SUMMARY, said, export_id)
    assert (item.remedies, read(workflow, export_id).outcome) == (("reply", "acknowledge"), "released")
    acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_person")
    assert (list_items(workflow), len(list_items(workflow, acknowledged=True))) == ([], 1)
    reopen_export(workflow.runtime, factories.ACCOUNT, export_id, "key_person")
    answer(workflow, export_id, "a-3", "summary_filed", at="2026-01-03T00:00:00Z")  # earlier by its own time
    assert len(list_items(workflow)) == 1
    assert_rows_follow_from_log(workflow, export_id)
    answer(workflow, export_id, "a-4", ends, at="2026-01-05T00:00:00Z")
    assert list_items(workflow) == []
    assert_rows_follow_from_log(workflow, export_id)
    with pytest.raises(InvalidState):
        acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_person")
