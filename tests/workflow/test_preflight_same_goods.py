"""A plan with the numbers of another export in force is found by preflight and by acceptance, and only one is accepted."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.accounts.models import Partner
from pipeline.core.errors import PlanNotExecutable
from pipeline.core.failpoints import hooks
from pipeline.core.findings import Finding
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.ops.migrations import runner
from pipeline.ops.rebuild import service
from pipeline.workflow import preflight
from pipeline.workflow.interventions import cancel_export
from pipeline.workflow.withdrawals import withdraw_export
from tests.support import factories
from tests.support.query_counter import record_plans, record_statements
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("database_url")]

SSCC = "106141412345678908"
NUMBER, INVOICE, LABEL = ("/units/0/entry/shipmentControlNumber", "/units/0/invoice/number", "/units/0/packages/0/sscc")
RULES = ["C06", "P11", "V24-OTHER"]


def make_plan(batch: str, **changes: Any) -> factories.Json:
    """Return a plan that has the numbers of all such plans; `changes` are values of the first unit by JSON Pointer."""
    plan = factories.plan(batch=batch)
    for pointer, value in {NUMBER: "DEMO00000007", LABEL: SSCC, **changes}.items():
        plan = factories.change_plan(plan, pointer, value)
    return plan


def find(workflow: WorkflowHarness, plan: factories.Json, **caller: Any) -> list[Finding]:
    hashed = hash_plan(Plan.model_validate(plan), plan)
    found = preflight.preflight(workflow.runtime, replace(workflow.caller, **caller), hashed)
    return sorted((each for each in found if each.rule in RULES), key=lambda each: each.rule)


def find_rules(workflow: WorkflowHarness, plan: factories.Json, **caller: Any) -> list[str]:
    return [each.rule for each in find(workflow, plan, **caller)]


def test_each_number_names_the_other_export(workflow: WorkflowHarness) -> None:
    first = execute_export(workflow, make_plan("first"))
    found = find(workflow, make_plan("second"))
    assert [(each.rule, each.severity, each.pointer) for each in found] == [
        ("C06", "block", NUMBER),
        ("P11", "block", LABEL),
        ("V24-OTHER", "warn", INVOICE),
    ]
    assert all(f"export {first} of batch first." in each.message and "cancel" in each.remedy for each in found)
    assert all(each.source for each in found)
    with pytest.raises(PlanNotExecutable) as refused:
        workflow.accept(make_plan("second"))
    assert refused.value.field == NUMBER
    assert workflow.count(Export) == 1
    # The warning alone stops nothing, and stands with the export.
    export = workflow.accept(make_plan("second", **{NUMBER: "DEMO00000008", LABEL: None})).export_id
    assert "V24-OTHER" in [each["rule"] for each in workflow.get(Export, export).findings]


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({NUMBER: "00000007"}, RULES),  # the same number without the SCAC
        ({NUMBER: "DEMO0000000A", INVOICE: "a-00001"}, ["P11", "V24-OTHER"]),
        ({"/units/0/entry/carrierScac": "OTHR"}, ["P11", "V24-OTHER"]),
        ({"/units/0/entry/part": {"number": "2", "of": "2"}}, ["P11", "V24-OTHER"]),
        ({INVOICE: "A-00002"}, ["C06", "P11"]),
        ({"/units/0/parties/seller/name": "Other Goods Ltd"}, ["C06", "P11"]),
        ({LABEL: "106141412345678915"}, ["C06", "V24-OTHER"]),
    ],
)
def test_other_numbers_are_other_goods(workflow: WorkflowHarness, changes: dict[str, Any], rules: list[str]) -> None:
    execute_export(workflow, make_plan("first"))
    assert find_rules(workflow, make_plan("second", **changes)) == rules


def test_other_accounts_and_other_modes_are_not_seen(workflow: WorkflowHarness) -> None:
    execute_export(workflow, make_plan("first"))
    second = make_plan("second")
    assert find_rules(workflow, second, mode="test") == []
    assert find_rules(workflow, second | {"accountId": "acc_other"}, account_id="acc_other") == []
    unit = workflow.one(select(ExportUnit))
    assert (unit.control_number_key, unit.invoice_key) == ("DEMO 00000007", "live a-00001 of maple goods ltd")


def test_test_exports_are_compared_by_invoice_number_only(workflow: WorkflowHarness) -> None:
    workflow.change(update(Partner).values(test=True))
    tester = replace(workflow, caller=replace(workflow.caller, mode="test"))
    execute_export(tester, make_plan("first"))
    assert find_rules(workflow, make_plan("second")) == []
    assert find_rules(tester, make_plan("second")) == ["V24-OTHER"]


def test_cancelled_export_has_no_numbers(workflow: WorkflowHarness) -> None:
    first = workflow.accept(make_plan("first")).export_id
    workflow.step(first, 1, "record_packages")
    cancel_export(workflow.runtime, factories.ACCOUNT, first, "key_test")
    assert find_rules(workflow, make_plan("second")) == []
    second = execute_export(workflow, make_plan("second"))
    assert workflow.get(ExportUnit, (second, 1)).control_number_key == "DEMO 00000007"
    assert workflow.get(ExportUnit, (first, 1)).control_number_key is None
    assert is_intact(workflow, first)


def test_amendment_keeps_its_numbers_and_no_other_export_gets_them(workflow: WorkflowHarness) -> None:
    first = execute_export(workflow, make_plan("first"))
    amended = make_plan("first", **{"/units/0/invoice/paymentTerms": "30 days net"})
    assert find_rules(workflow, amended) == []
    newest = make_amendment(workflow, first, amended).export_id
    found = find(workflow, make_plan("second"))
    assert [(each.rule, newest in each.message) for each in found] == [("C06", True), ("V24-OTHER", True)]
    workflow.step(newest, 1, "record_packages")
    assert find_rules(workflow, make_plan("second")) == RULES


@pytest.mark.parametrize(
    ("accepted_at", "rules"),
    [
        (datetime(2025, 11, 24, 15, 0, 1, tzinfo=UTC), ["C06", "P11"]),
        (datetime(2025, 11, 24, 15, 0, 0, tzinfo=UTC), ["C06"]),
        (datetime(2023, 11, 24, 15, 0, 1, tzinfo=UTC), ["C06"]),
        (datetime(2023, 11, 24, 15, 0, 0, tzinfo=UTC), []),
    ],
)
def test_control_number_counts_three_years_and_sscc_one(
    workflow: WorkflowHarness, accepted_at: datetime, rules: list[str]
) -> None:
    first = execute_export(workflow, make_plan("first"))
    workflow.change(update(Export).values(accepted_at=accepted_at))
    assert workflow.clock() == datetime(2026, 11, 24, 15, tzinfo=UTC)
    second = make_plan("second", **{INVOICE: "A-00002"})
    assert find_rules(workflow, second) == rules
    if not rules:
        export = execute_export(workflow, second)
        taken = [workflow.get(ExportUnit, (each, 1)).control_number_key for each in (first, export)]
        assert taken == [None, "DEMO 00000007"]
        assert find_rules(workflow, make_plan("third", **{INVOICE: "A-00003"})) == ["C06", "P11"]


def is_intact(workflow: WorkflowHarness, export_id: str) -> bool:
    with workflow.runtime.db.read() as session:
        found = service.compare_export(session, export_id)
    return (found.refusal, list(found.differences)) == (None, [])


def test_units_of_one_plan_may_share_a_number(workflow: WorkflowHarness) -> None:
    plan = factories.plan(units=2)
    plan["units"][1]["entry"]["shipmentControlNumber"] = plan["units"][0]["entry"]["shipmentControlNumber"]
    export = workflow.accept(plan).export_id
    units = workflow.rows(
        select(ExportUnit).where(col(ExportUnit.export_id) == export).order_by(col(ExportUnit.unit_no))
    )
    assert [each.control_number_key for each in units] == ["DEMO 00000001", None]


def test_number_accepted_between_check_and_write_is_refused(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept_other() -> None:
        monkeypatch.delitem(hooks, "accept.before")
        workflow.accept(make_plan("first"))

    monkeypatch.setitem(hooks, "accept.before", accept_other)
    with pytest.raises(PlanNotExecutable) as refused:
        workflow.accept(make_plan("second"))
    assert refused.value.field == NUMBER
    assert [each.batch_id for each in workflow.rows(select(Export))] == ["first"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("stored", ["nothing", "outdated"])
def test_second_of_two_open_transactions_waits_and_is_refused(
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    if stored == "outdated":  # both take the number from an export of four years ago
        workflow.accept(make_plan("old"))
        long_ago = workflow.clock() - timedelta(days=4 * 366)
        workflow.change(update(Export).values(accepted_at=long_ago))
    refused: list[str | None] = []
    ready, written = threading.Event(), threading.Event()

    def accept_second() -> None:
        ready.set()
        try:
            workflow.accept(make_plan("second", **{LABEL: None}))
        except PlanNotExecutable as error:
            refused.append(error.field)

    second = threading.Thread(target=accept_second)

    def hold() -> None:
        # The first transaction has written its rows; the second one has checked, and is about to write.
        if threading.current_thread() is second:
            return
        second.start()
        assert ready.wait(30)
        assert written.wait(30)

    def before() -> None:
        if threading.current_thread() is second:
            written.set()

    monkeypatch.setitem(hooks, "accept.mid", hold)
    monkeypatch.setitem(hooks, "accept.before", before)
    workflow.accept(make_plan("first", **{LABEL: None}))
    second.join(60)
    assert refused == [NUMBER]
    assert {each.batch_id for each in workflow.rows(select(Export))} - {"old"} == {"first"}


def test_one_statement_finds_them_by_its_indexes(workflow: WorkflowHarness) -> None:
    workflow.accept(make_plan("first"))
    database = workflow.runtime.db
    with record_statements(database) as sent, record_plans(database) as plan:
        find(workflow, make_plan("second"))
    assert len([each for each in sent if "control_number_key" in each]) == 1
    for index in ("uq_units_control_number_key", "ix_units_invoice_key"):
        assert any(index in line for line in plan), plan


def test_upgrade_writes_the_keys_of_stored_exports(workflow: WorkflowHarness) -> None:
    tester = replace(workflow, caller=replace(workflow.caller, mode="test"))
    seller = "/units/0/parties/seller/name"
    workflow.accept(make_plan("first", **{NUMBER: "00000007", LABEL: None, seller: "L'Érable & Fils"}))
    part = {"/units/0/entry/part": {"number": "2", "of": "2"}, NUMBER: "DEMO0000000a", LABEL: None, INVOICE: "B-7"}
    workflow.accept(make_plan("part", **part))
    workflow.accept(make_plan("without", **{"/units/0/entry/carrierScac": None, LABEL: None}))
    cancelled = workflow.accept(make_plan("cancelled", **{NUMBER: "DEMO00000009", LABEL: None})).export_id
    cancel_export(workflow.runtime, factories.ACCOUNT, cancelled, "key_test")
    workflow.change(update(Partner).values(test=True))
    tester.accept(make_plan("test", **{LABEL: None}))
    workflow.change(update(ExportUnit).where(col(ExportUnit.export_id) == cancelled).values(control_number_key=None))
    written = read_keys(workflow)
    # An older version accepted the number of the first export again.
    newest = workflow.accept(make_plan("again", **{NUMBER: "DEMO00000008", LABEL: None})).export_id
    again = workflow.get(ExportUnit, (newest, 1)).document.replace("DEMO00000008", "DEMO00000007")
    workflow.change(update(ExportUnit).where(col(ExportUnit.export_id) == newest).values(document=again))

    runner.downgrade_database(workflow.runtime.db, "0006")
    runner.upgrade_database(workflow.runtime.db)

    first, *others = written
    assert first == ("first", "DEMO 00000007", "live a-00001 of l'Érable & fils")
    assert read_keys(workflow) == [
        ("first", None, first[2]),
        *others,
        ("again", "DEMO 00000007", "live a-00001 of maple goods ltd"),
    ]
    runner.check_models_match(workflow.runtime.db)


def read_keys(workflow: WorkflowHarness) -> list[tuple[str, str | None, str | None]]:
    """Return batch id, key of the control number and key of the invoice of each unit, in the order of acceptance."""
    units = workflow.rows(select(ExportUnit))
    found = [(workflow.get(Export, each.export_id), each) for each in units]
    found.sort(key=lambda each: (each[0].accepted_at, each[0].id))
    return [(export.batch_id, unit.control_number_key, unit.invoice_key) for export, unit in found]


def test_withdrawn_export_gives_its_numbers_back(workflow: WorkflowHarness) -> None:
    first = execute_export(workflow, make_plan("first"))
    withdraw_export(workflow.runtime, factories.ACCOUNT, first, "key_test", "the buyer cancelled")
    assert find_rules(workflow, make_plan("second")) == RULES, "the customs broker has not confirmed it"
    (submission,) = workflow.rows(select(BrokerSubmission))
    said = AcknowledgementBody.model_validate({"id": "a-1", "status": "withdrawn"})
    broker_answers.receive_answer(workflow.runtime, submission.id, said, "partner:br")
    assert find_rules(workflow, make_plan("second")) == []
    second = workflow.accept(make_plan("second")).export_id
    workflow.step(second, 1, "record_packages")
    assert is_intact(workflow, first)
    assert is_intact(workflow, second)
    assert find_rules(workflow, make_plan("third")) == RULES
