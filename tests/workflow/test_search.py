"""Tests of the search: an export is found by each of its numbers, and only by its own account."""

import pytest
from sqlalchemy import insert, update
from sqlmodel import col, select

from pipeline.core import tenancy
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Delivery
from pipeline.exports.models import Export, ExportPackage, ExportUnit
from pipeline.workflow.engine import run_step
from pipeline.workflow.search import SearchHit, search_exports
from tests.support import factories
from tests.support.query_counter import record_plans
from tests.workflow.conftest import WorkflowHarness


def search(workflow: WorkflowHarness, wanted: str, account: str = factories.ACCOUNT) -> list[SearchHit]:
    with tenancy.account_scope(account), workflow.runtime.db.read() as session:
        return search_exports(session, account, wanted)


@pytest.fixture
def numbers(workflow: WorkflowHarness) -> dict[str, str]:
    """The numbers of an executed and answered export, beside another export."""
    workflow.accept(factories.plan(batch="other"))
    plan = factories.plan(batch="wanted")
    plan["units"][0]["packages"][0]["lpn"] = "LPN-7731-1"
    plan["units"][0]["invoice"] |= {"number": "INV-7731", "purchaseOrder": "PO 7731/A"}
    export_id = workflow.accept(plan).export_id
    run_step(workflow.runtime, export_id, 1, "record_packages")
    with workflow.runtime.db.write() as session:
        submission = session.scalars(select(BrokerSubmission)).one()
        session.add(
            Acknowledgement(submission_id=submission.id, id="a", status="filed", entry_number="XYZ12345678", fields=[])
        )
        unit = session.scalars(select(ExportUnit).where(col(ExportUnit.export_id) == export_id)).one()
        package = session.scalars(select(ExportPackage).where(col(ExportPackage.lpn) == "LPN-7731-1")).first()
        delivery = session.scalars(select(Delivery)).first()
        assert package is not None
        assert delivery is not None
        return {
            "export": export_id,
            "batch": "wanted",
            "customs package": unit.customs_package_id,
            "delivery": delivery.id,
            "package number": unit.package_number or "",
            "SSCC": package.sscc or "",
            "LPN": package.lpn or "",
            "invoice": "INV-7731",
            "purchase order": "PO 7731/A",
            "entry number": "XYZ12345678",
        }


def test_export_is_found_by_each_of_its_numbers(workflow: WorkflowHarness, numbers: dict[str, str]) -> None:
    for kind, number in numbers.items():
        (hit,) = search(workflow, f" {number} ")
        assert (hit.kind, hit.export_id, hit.batch_id) == (kind, numbers["export"], "wanted")
        assert search(workflow, number, "acc_other") == []


@pytest.mark.parametrize("written", ["(00) 0 0614141 000000001 2", "00006141410000000012", "0061-4141-0000-0000-12"])
def test_sscc_is_found_as_labels_write_it(workflow: WorkflowHarness, numbers: dict[str, str], written: str) -> None:
    assert [hit.export_id for hit in search(workflow, written)] == [numbers["export"]]


def test_released_sscc_is_found(workflow: WorkflowHarness, numbers: dict[str, str]) -> None:
    workflow.change(update(ExportPackage).values(released=True))
    (hit,) = search(workflow, numbers["SSCC"])
    assert (hit.kind, hit.export_id) == ("SSCC", numbers["export"])


def test_entry_number_is_found_with_its_hyphens(workflow: WorkflowHarness, numbers: dict[str, str]) -> None:
    assert [hit.export_id for hit in search(workflow, "XYZ-1234567-8")] == [numbers["export"]]


def test_entry_numbers_of_others_do_not_use_up_the_limit(
    workflow: WorkflowHarness, numbers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workflow.search.MOST_HITS", 1)
    with workflow.runtime.db.write() as session:
        (answer,), (own,) = (session.scalars(select(each)).all() for each in (Acknowledgement, BrokerSubmission))
        later = own.model_dump() | {"id": "zzz"}
        other = session.scalars(select(Export.id).where(col(Export.batch_id) == "other")).one()
        session.execute(update(BrokerSubmission).values(account_id="acc_other", export_id=other))
        session.execute(insert(BrokerSubmission).values(later))
        session.execute(insert(Acknowledgement).values(answer.model_dump() | {"submission_id": "zzz"}))
    (hit,) = search(workflow, numbers["entry number"])
    assert (hit.kind, hit.export_id) == ("entry number", numbers["export"])


@pytest.mark.parametrize("wanted", ["", "  ", "%", "' OR 1=1 --", "\U0001f4e6", "9" * 128])
def test_other_texts_find_nothing(workflow: WorkflowHarness, numbers: dict[str, str], wanted: str) -> None:
    assert numbers
    assert search(workflow, wanted) == []


def test_search_reads_indexes(workflow: WorkflowHarness, database_url: str) -> None:
    with record_plans(workflow.runtime.db) as plans:
        search(workflow, "006141410000000012")
    text = "\n".join(plans)
    assert "Seq Scan" not in text
    names = "uq_packages_account_id_sscc ix_packages_released_sscc ix_packages_account_id_lpn ix_acknowledgements_entry_number"
    for index in f"{names} ix_units_invoice_number ix_units_purchase_order".split():
        assert index in text, text
