"""One number and one weight of a unit's packages in each paper and file, whether or not they stand on pallets."""

import csv
import json
from datetime import date
from io import BytesIO, StringIO
from typing import Any
from zipfile import ZipFile

import pytest
from lxml import etree
from openpyxl import load_workbook

from pipeline.deliveries.outbox.entry_facts import add_estimate
from pipeline.documents.formats.invoice_columns import INVOICE_COLUMNS
from pipeline.documents.registry import render_documents
from pipeline.exports import examples
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow.render_documents import build_plan_invoice
from tests.documents.pdf_text import read_printed_document

_CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"
_CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"


def read_table(body: bytes, name: str) -> list[dict[str, str]]:
    with ZipFile(BytesIO(body)) as archive:
        return [*csv.DictReader(StringIO(archive.read(name).decode("utf-8-sig")))]


@pytest.mark.pdf_engine
@pytest.mark.parametrize("stated", [True, False], ids=["by the plan", "counted"])
def test_cartons_on_pallets_have_one_count_and_one_weight(*, stated: bool) -> None:
    raw: dict[str, Any] = json.loads(examples.read_text(examples.PLANS / "consolidated-truck.json", date(2026, 12, 1)))
    assert raw["units"][0]["entry"]["manifestQuantity"] == "45"
    if not stated:
        del raw["units"][0]["entry"]["manifestQuantity"]
    plan = Plan.model_validate(raw)
    invoice = build_plan_invoice(
        hash_plan(plan, raw), 1, package_number="CP-000001", revision=1, test=False, findings=[]
    )
    made = {each.artifact_type: each.body for each in render_documents(add_estimate(invoice, plan.units[0]))}
    (header,) = read_table(made["entry_import"], "header.csv")
    (block,) = (row for row in read_table(made["entry_import"], "blocks.csv") if row["block"] == "34B")
    sums = list(load_workbook(BytesIO(made["cci_xlsx"]))["Totals"].iter_rows(values_only=True))
    assert (header["packages"], header["gross_kg"], block["value"]) == ("45", "49.115", "45")
    assert ("packages", "manifest", None, 45) in sums
    assert ("packages", "outermost", None, 3) in sums
    paper = read_printed_document(made["paps_cover_sheet"]).text()
    assert "PACKAGES45" in paper, paper
    assert "GROSSWEIGHT49.115kg" in paper, paper
    assert INVOICE_COLUMNS["package_count"](invoice) == 45
    shipment = etree.fromstring(made["cci_ubl"]).find(f".//{_CAC}Shipment")
    assert shipment.findtext(f"{_CBC}TotalTransportHandlingUnitQuantity") == "3"
    pallets = shipment.findall(f"{_CAC}TransportHandlingUnit")
    assert [len(each.findall(f"{_CAC}ActualPackage")) for each in pallets] == [15, 15, 15]
