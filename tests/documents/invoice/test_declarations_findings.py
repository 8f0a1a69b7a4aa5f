"""The findings of the checks are on the invoice of their unit."""

import json
from dataclasses import replace

from pipeline.core.findings import Finding
from pipeline.documents.formats.invoice import invoice_json
from pipeline.documents.invoice.builder import build_invoice
from pipeline.documents.schemas.declarations import FindingRow
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import build_facts, unit_data


def finding(pointer: str) -> Finding:
    return Finding(
        rule="V15", severity="warn", pointer=pointer, message="A low value.", remedy="Explain it.", source="s"
    )


def test_invoice_has_findings_of_unit_and_plan() -> None:
    unit = Unit.model_validate(unit_data(3))
    pointers = (
        "/units/1/lines/2/unitPrice", "/units/0/lines/0/sku", "/units/10/invoice", "/destinationCountry",
        "/units/1/invoice",
    )  # fmt: skip
    facts = replace(build_facts(unit), unit_no=2, findings=tuple(map(finding, pointers)))
    invoice = build_invoice(unit, facts)
    assert [(row.pointer, row.line_number) for row in invoice.findings] == [
        ("/units/1/lines/2/unitPrice", 3),
        ("/destinationCountry", None),
        ("/units/1/invoice", None),
    ]
    assert invoice.findings[0] == FindingRow(
        rule="V15",
        severity="warn",
        line_number=3,
        pointer=pointers[0],
        message="A low value.",
        remedy="Explain it.",
        source="s",
    )
    assert [row["rule"] for row in json.loads(invoice_json(invoice))["findings"]] == ["V15"] * 3


def test_invoice_without_findings_has_empty_list() -> None:
    unit = Unit.model_validate(unit_data(1))
    assert json.loads(invoice_json(build_invoice(unit, build_facts(unit))))["findings"] == []
