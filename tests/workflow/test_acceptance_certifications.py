"""The USMCA certifications that live exports use are kept by product, and those that soon end are counted."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final, Literal

import pytest
from sqlmodel import Session, select, update

from pipeline.accounts.models import Partner
from pipeline.core.runtime import Runtime
from pipeline.customs import certifications
from pipeline.customs.models import OriginCertification
from pipeline.exports.schemas.plan import Plan
from pipeline.ops import work_counts
from tests.customs.cases import SHIRT, UNIT, with_changes
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness

ENDS: Final = date(2026, 12, 31)


def list_rows(*changes: tuple[str, Any]) -> Sequence[dict[str, Any]]:
    return certifications.list_used(Plan.model_validate(with_changes(*changes)), "exp_1")


def keep(runtime: Runtime, sku: str, ends: date, *, code: str = "610910", account: str = factories.ACCOUNT) -> None:
    row = {
        "account_id": account,
        "hs_code": code,
        "sku": sku,
        "blanket_to": ends,
        "blanket_from": ends - timedelta(days=364),
        "certifier_name": "Maple Goods Ltd",
        "ref": "C1",
        "certifier_role": "exporter",
        "criterion": "B",
        "signed_on": ends - timedelta(days=364),
        "export_id": "exp_1",
    }
    with runtime.db.write() as session:
        certifications.keep_certifications(session, [row])


def count(session: Session, on: date) -> dict[str, int]:
    return dict(certifications.count_expiring(session, on))


def test_claiming_product_is_kept_with_its_certification() -> None:
    (row,) = list_rows()
    line = with_changes()["units"][0]["lines"][1]
    assert (row["sku"], row["hs_code"]) == (line["sku"], line["htsCode"][:6])
    assert (row["blanket_to"], row["export_id"]) == (ENDS, "exp_1")


def test_certification_of_one_shipment_or_without_claim_is_not_kept() -> None:
    single = [(f"{UNIT}/usmcaCertificates/0/blanketFrom", None), (f"{UNIT}/usmcaCertificates/0/blanketTo", None)]
    assert list_rows(*single) == []
    assert list_rows((f"{SHIRT}/spi", None)) == []


def test_next_certification_in_the_plan_is_kept_though_no_line_names_it() -> None:
    first = with_changes()["units"][0]["usmcaCertificates"][0]
    code = list_rows()[0]["hs_code"]
    goods = [{"description": "Shirts", "hsCode": code}, {"description": "Others", "hsCode": "999999"}]
    following = {**first, "ref": "C2", "blanketFrom": "2027-01-01", "blanketTo": "2027-12-31", "goods": goods}
    rows = list_rows((f"{UNIT}/usmcaCertificates/-", following))
    sku = with_changes()["units"][0]["lines"][1]["sku"]
    assert {(row["hs_code"], row["ref"], row["sku"]) for row in rows} == {(code, "C1", sku), (code, "C2", "")}


def test_alarm_begins_thirty_days_before_end_and_stops_with_next_one(workflow: WorkflowHarness) -> None:
    runtime = workflow.runtime
    keep(runtime, "SHIRT", ENDS)
    keep(runtime, "", ENDS, code="420292")
    # Another product of the same subheading has its own certification, of another producer for example.
    keep(runtime, "CREAM", ENDS + timedelta(days=200))
    with runtime.db.read() as session:
        assert count(session, ENDS - timedelta(days=31)) == {}
        assert count(session, ENDS - timedelta(days=30)) == {factories.ACCOUNT: 1}
        assert count(session, ENDS) == {factories.ACCOUNT: 1}
        assert count(session, ENDS + timedelta(days=1)) == {}
        (first, second) = certifications.list_certifications(session, factories.ACCOUNT, ENDS)
        assert (first.sku, first.hs_code, first.days_left, first.has_next) == ("SHIRT", "610910", 0, False)
        assert second.sku == "CREAM"
        assert certifications.list_certifications(session, "acc_other", ENDS) == []
    keep(runtime, "", ENDS + timedelta(days=365))
    with runtime.db.read() as session:
        assert count(session, ENDS) == {}
        assert certifications.list_certifications(session, factories.ACCOUNT, ENDS)[0].has_next


def test_same_certification_of_another_export_is_kept_once(workflow: WorkflowHarness) -> None:
    for _ in range(2):
        keep(workflow.runtime, "SHIRT", ENDS)
    assert workflow.count(OriginCertification) == 1


@pytest.mark.parametrize("mode", ["live", "test"])
def test_acceptance_keeps_those_of_live_exports(workflow: WorkflowHarness, mode: Literal["live", "test"]) -> None:
    workflow.caller = replace(workflow.caller, mode=mode)
    workflow.change(update(Partner).values(test=mode == "test"))
    export_ids = [workflow.accept(factories.plan(batch=batch, invoice=batch)).export_id for batch in ("B1", "B2")]
    kept = workflow.rows(select(OriginCertification))
    assert [row.export_id for row in kept] == ([export_ids[0]] if mode == "live" else [])


def test_sweeper_counts_what_ends_soon(workflow: WorkflowHarness) -> None:
    keep(workflow.runtime, "SHIRT", workflow.clock().date() + timedelta(days=10))
    assert work_counts.keep_counts(workflow.runtime)
    key = work_counts.CountKey(factories.ACCOUNT, work_counts.EXPIRING_CERTIFICATIONS)
    with workflow.runtime.db.read() as session:
        assert work_counts.read_counts(session)[key] == 1
