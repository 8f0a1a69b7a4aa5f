"""What customs assessed is compared with the estimate of the handoff; the newest answer with amounts counts."""

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from pydantic import ValidationError
from sqlmodel import col, select

from pipeline.core.errors import InvalidState, NotInHandoff
from pipeline.deliveries import sandbox_broker, sandbox_script
from pipeline.deliveries.entries.estimates import NO_AMOUNT
from pipeline.deliveries.entries.facets import Answer, AnswerStatus, fold_entries
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.models import Artifact, Export
from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.ops.rebuild import service
from pipeline.workflow import inbox
from pipeline.workflow.acknowledgements import acknowledge_export
from tests.deliveries.entries.test_entries import answer, packages, read
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export

#: The amounts that the estimate of the plan has, as a customs broker may write them.
EQUAL: dict[str, Any] = {
    "currency": "USD",
    "duties": [
        {"heading": "9903.88.03", "amountUsd": "12.5"},
        {"heading": "99030531", "amountUsd": "6.25"},
        {"heading": "9903.82.09", "amountUsd": "12.00"},
    ],
    "fees": [{"code": "499", "amountUsd": "34.58"}],
}


def with_fee(amount: str) -> dict[str, Any]:
    return EQUAL | {"fees": [{"code": "499", "amountUsd": amount}]}


def find_assessment(workflow: WorkflowHarness, export_id: str, place: int = 0) -> Assessment:
    found = read(workflow, export_id).broker_submissions[0].entries[place].assessment
    assert found is not None
    return found


def list_items(workflow: WorkflowHarness, *, acknowledged: bool = False) -> list[InboxItem]:
    found = inbox.load_inbox(workflow.runtime, factories.ACCOUNT, acknowledged=acknowledged).items
    return [each for each in found if each.cause is Cause.AMOUNTS_DIFFER]


def assert_rows_follow_from_log(workflow: WorkflowHarness, export_id: str) -> None:
    with workflow.runtime.db.read() as session:
        found = service.compare_export(session, export_id)
    assert (found.refusal, found.differences) == (None, [])


def test_amounts_are_compared_with_the_recorded_estimate(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute_export(workflow, factories.plan())
    charges = [{"name": "Entry fee", "amountUsd": "95.00"}]
    answer(workflow, export_id, "a-1", "summary_filed", assessed=with_fee("35.58") | {"charges": charges, "taxes": []})
    found = find_assessment(workflow, export_id)
    lines = {(each.kind.value, each.code): each for each in found.lines}
    fee = lines["fee", "499"]
    assert (fee.arithmetic, fee.within_tolerance, fee.note) == (
        "assessed 35.58 - estimated 34.58 = 1.00; tolerance 1.00",
        True,
        "the rule of the estimate has the status probable",
    )
    assert lines["duty", "9903.88.03"].within_tolerance is True
    # What the estimate does not know is said, and nothing is compared with it.
    open_duty, open_fee = lines["duty", "4202923120"], lines["fee", "056"]
    assert (open_duty.difference_usd, open_duty.note) == (None, NO_AMOUNT)
    assert open_fee.note is not None
    assert open_fee.note.startswith("the cotton fee (056)")
    assert (str(lines["charge", "Entry fee"].assessed_usd), lines["charge", "Entry fee"].within_tolerance) == (
        "95.00",
        None,
    )
    assert (found.differs, list_items(workflow)) == (False, [])
    with workflow.runtime.db.read() as session:
        kept = select(Artifact.id).where(col(Artifact.artifact_type) == "entry_estimate")
        assert found.estimate_id == session.scalars(kept).one()
    assert_rows_follow_from_log(workflow, export_id)


def test_difference_needs_a_person_until_acknowledged_or_corrected(
    workflow: WorkflowHarness, database_url: str
) -> None:
    export_id = execute_export(workflow, factories.plan())
    (package,) = packages(workflow, export_id)
    answer(workflow, export_id, "a-1", "released", assessed=with_fee("44.58"), at="2026-01-02T00:00:00Z")
    (item,) = list_items(workflow)
    assert item.text == f"{package}: fee 499: assessed 44.58 - estimated 34.58 = 10.00; tolerance 1.00"
    assert (item.export_id, item.remedies) == (export_id, ("reply", "acknowledge"))
    acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_person")
    assert (list_items(workflow), len(list_items(workflow, acknowledged=True))) == ([], 1)
    # An earlier answer changes nothing but brings the acknowledged difference back, as each answer does.
    answer(workflow, export_id, "a-2", "filed", assessed=EQUAL, at="2026-01-01T00:00:00Z")
    assert (find_assessment(workflow, export_id).answer_id, len(list_items(workflow))) == ("a-1", 1)
    assert_rows_follow_from_log(workflow, export_id)
    answer(workflow, export_id, "a-3", "remark", message="Wrong amounts.", corrects="a-1")
    assert (find_assessment(workflow, export_id).answer_id, list_items(workflow)) == ("a-2", [])
    with pytest.raises(InvalidState):
        acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_person")
    assert_rows_follow_from_log(workflow, export_id)
    # The index says it after a rebuild, too.
    answer(workflow, export_id, "a-4", "summary_paid", assessed=with_fee("0"))
    workflow.change(Export.__table__.update().values(amounts_differ=None))  # type: ignore[attr-defined]
    service.rebuild_exports(workflow.runtime, apply=True)
    assert len(list_items(workflow)) == 1


@pytest.mark.parametrize(
    ("assessed", "beyond"),
    [
        ({"fees": []}, ["assessed 0.00 - estimated 34.58 = -34.58; tolerance 1.00"]),
        ({"fees": [{"code": "501", "amountUsd": "0.90"}, {"code": "499", "amountUsd": "34.58"}]}, []),
        (
            {"fees": [{"code": "501", "amountUsd": "1.01"}, {"code": "499", "amountUsd": "34.58"}]},
            ["assessed 1.01 - estimated 0.00 = 1.01; tolerance 1.00"],
        ),
        ({"fees": [{"code": "499", "amountUsd": "17.29"}, {"code": "499", "amountUsd": "17.29"}]}, []),
        ({"taxes": [{"code": "016", "amountUsd": "9"}]}, ["assessed 9.00 - estimated 0.00 = 9.00; tolerance 1.00"]),
    ],
)
def test_what_one_side_lacks_counts_as_nothing(
    workflow: WorkflowHarness, assessed: dict[str, Any], beyond: list[str]
) -> None:
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "a-1", "filed", assessed={"currency": "USD"} | assessed)
    lines = find_assessment(workflow, export_id).lines
    assert [each.arithmetic for each in lines if each.within_tolerance is False] == beyond


def test_amounts_are_about_one_entry_and_count_once(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan(units=2))
    first, second = packages(workflow, export_id)
    for named in ((), (first, second)):
        with pytest.raises(NotInHandoff) as refused:
            answer(workflow, export_id, "a-1", "filed", *named, assessed=EQUAL)
        assert refused.value.field == "/customsPackageNumbers"
    # A fetched answer is kept, and its amounts count for no entry.
    answer(workflow, export_id, "f-1", "filed", assessed=EQUAL, fetched=True)
    (submission,) = read(workflow, export_id).broker_submissions
    assert submission.acknowledgements[0].assessed is not None
    assert [each.assessment for each in submission.entries] == [None, None]
    answer(workflow, export_id, "a-1", "filed", second, assessed=with_fee("99"))
    answer(workflow, export_id, "a-1", "filed", second, assessed=with_fee("99.00"))
    with pytest.raises(InvalidState, match="another assessed"):
        answer(workflow, export_id, "a-1", "filed", second, assessed=with_fee("99.01"))
    assert find_assessment(workflow, export_id, 1).customs_package_number == second
    assert_rows_follow_from_log(workflow, export_id)


def test_estimate_that_is_gone_is_said(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan())
    with workflow.runtime.db.read() as session:
        sha256 = session.scalars(select(Artifact.sha256).where(col(Artifact.artifact_type) == "entry_estimate")).one()
    workflow.runtime.store.delete(sha256)
    answer(workflow, export_id, "a-1", "filed", assessed=EQUAL)
    found = find_assessment(workflow, export_id)
    assert (found.differs, found.estimate_note) == (False, "the estimate cannot be read: DocumentMissing")
    assert {each.note for each in found.lines} == {"the estimate is not known"}


@pytest.mark.parametrize(
    ("status", "assessed"),
    [
        ("accepted", EQUAL),
        ("filed", {"currency": "USD"}),
        ("filed", {"currency": "CAD", "fees": []}),
        ("filed", with_fee("1.001")),
        ("filed", with_fee("-1")),
        ("filed", {"currency": "USD", "fees": [{"code": "499", "amountUsd": 1.5}]}),
        ("filed", {"currency": "USD", "fees": [{"code": "499", "amountUsd": "1"}] * 51}),
    ],
)
def test_amounts_out_of_place_or_form_are_refused(status: str, assessed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AcknowledgementBody.model_validate({"id": "a-1", "status": status, "assessed": assessed})


EMPTY = Assessment(
    customs_package_number="CP-1", answer_id="", estimate_id=None, estimate_note=None, differs=False, lines=()
)


def test_order_of_arrival_does_not_matter() -> None:
    made = [
        Answer(id=f"a-{number}", status=AnswerStatus.FILED, at=factories.NOW, assessment=assessment)
        for number, assessment in enumerate((*(EMPTY.model_copy(update={"answer_id": name}) for name in "xy"), None))
    ]
    found = {str(fold_entries(["CP-1"], each)["CP-1"].assessment) for each in permutations(made)}
    assert len(found) == 1


@pytest.mark.parametrize(("letter", "beyond"), [("E", ""), ("M", "fee 501: assessed 10.00 - estimated 0.00 = 10.00")])
def test_sandbox_assesses_what_is_estimated_or_more(workflow: WorkflowHarness, letter: str, beyond: str) -> None:
    export_id = execute_export(workflow, factories.plan(units=2))
    first, second = packages(workflow, export_id)
    submission = workflow.one(select(BrokerSubmission.id).where(col(BrokerSubmission.export_id) == export_id))
    scripts = [sandbox_script.parse_script(each) for each in ("A", letter)]
    handoff = sandbox_script.ScriptedHandoff("msg_1", datetime(2026, 1, 1, tzinfo=UTC), scripts, [first, second])
    filled = sandbox_broker._add_amounts(workflow.runtime, submission, handoff)
    for planned in filled.list_late_answers("webhook"):
        broker_answers.receive_answer(workflow.runtime, submission, planned.answer, "partner:br")
    (submitted,) = read(workflow, export_id).broker_submissions
    assert submitted.entries[0].assessment is None
    found = find_assessment(workflow, export_id, 1)
    assert found.describe_differences().startswith(beyond)
    assert found.differs is (letter == "M")
