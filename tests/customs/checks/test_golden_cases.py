"""What brokers chase, asked before they must: each breach is found, each remedy is accepted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.reference.entry import RequiredAttribute, attribute_rules
from tests.customs.cases import PAN, UNIT, findings, list_findings, with_changes
from tests.customs.intake_cases import CERTIFICATE, INTAKE, SPECIFIC_DESCRIPTIONS
from tests.support.factories import change_plan, plan


@pytest.mark.parametrize("breach", INTAKE)
def test_a_breach_is_found_where_it_is(breach: str) -> None:
    changes, expected = INTAKE[breach]
    assert list_findings(with_changes(*changes)) == expected


@pytest.mark.parametrize("breach", INTAKE)
def test_a_finding_is_a_sentence_with_a_remedy(breach: str) -> None:
    for finding in findings(with_changes(*INTAKE[breach][0])):
        assert finding.message.endswith(".")
        assert finding.remedy.endswith(".")
        assert "None" not in finding.message + finding.remedy


@pytest.mark.parametrize("spoken", SPECIFIC_DESCRIPTIONS)
def test_what_is_said_is_believed(spoken: str) -> None:
    assert list_findings(with_changes(*SPECIFIC_DESCRIPTIONS[spoken])) == []


def test_the_same_goods_of_one_order_are_asked_about_and_those_of_two_are_not() -> None:
    made = plan(lines=3)
    lines = made["units"][0]["lines"]
    lines[2] = copy.deepcopy(lines[0]) | {"lineRef": "L3"}
    made["units"][0]["invoice"]["total"] = "226.00"
    assert list_findings(made) == [("V24", "warn", f"{UNIT}/lines/2")]
    assert list_findings(change_plan(made, f"{UNIT}/lines/2/orderId", "ord_9")) == []


@pytest.mark.parametrize("row", attribute_rules().rows, ids=lambda row: row.name)
def test_each_attribute_is_asked_of_its_goods_and_taken_from_either_place(row: RequiredAttribute) -> None:
    code = (row.prefixes[0] + "0" * 10)[:10]
    wording = "Thing of glass, painted blue, boxed singly"
    asked = [
        (f"{PAN}/htsCode", code),
        (f"{PAN}/description", wording),
        (f"{PAN}/treatment", {"chapter99": [], "section232": [], "pga": []}),
    ]

    def reported(*more: tuple[str, Any]) -> bool:
        found = [finding for finding in findings(with_changes(*asked, *more)) if finding.rule == "V23"]
        return any(row.requirement in finding.message for finding in found)

    assert reported()
    value = "UN3480" if row.form else "as said"
    for key in row.keys:
        assert not reported((f"{PAN}/attributes", {key: value}))


def test_a_certification_is_in_a_unit_once() -> None:
    made = plan()
    certificates = made["units"][0]["usmcaCertificates"]
    certificates.append(copy.deepcopy(certificates[0]))
    assert list_findings(made) == [("V24", "block", f"{UNIT}/usmcaCertificates/1/ref")]


def test_a_certification_as_short_as_the_first_version_took_it_is_read_and_asked_about() -> None:
    made = plan()
    certificate = made["units"][0]["usmcaCertificates"][0]
    for added in (
        "certifierAddress",
        "certifierContact",
        "exporter",
        "producer",
        "producerOnRequest",
        "importer",
        "goods",
    ):
        del certificate[added]
    assert list_findings(made) == [
        ("V30", "warn", f"{CERTIFICATE}/{missing}")
        for missing in ("certifierContact", "certifierAddress", "producer", "importer", "goods")
    ]


#: The nine elements of USMCA annex 5-A, and what a certification without each is told: by the schema or by V30.
ELEMENTS: dict[int, tuple[list[tuple[str, Any]], str]] = {
    1: ([("certifierRole", None)], "/certifierRole"),
    2: ([("certifierContact", None)], "/certifierContact"),
    3: ([("certifierRole", "importer")], "/exporter"),
    4: ([("producerOnRequest", False)], "/producer"),
    5: ([("importer", None)], "/importer"),
    6: ([("goods", [])], "/goods"),
    7: ([("criterion", None)], "/criterion"),
    8: ([("blanketTo", None)], "/blanketTo"),
    9: ([("signedOn", None)], "/signedOn"),
}


@pytest.mark.parametrize("element", ELEMENTS)
def test_each_of_the_nine_elements_of_a_certification_is_asked_for(element: int) -> None:
    changes, missing = ELEMENTS[element]
    made = with_changes(*((f"{CERTIFICATE}/{name}", value) for name, value in changes))
    try:
        reported = [finding.pointer for finding in findings(made) if finding.rule == "V30"]
    except ValidationError as refused:
        reported = ["/" + "/".join(str(part) for part in error["loc"]) for error in refused.errors()]
    assert reported == [f"{CERTIFICATE}{missing}"]


@pytest.mark.parametrize(
    ("begins", "ends", "reported"),
    [
        ("2026-01-01", "2026-12-31", 0),
        ("2026-01-01", "2027-01-01", 0),
        ("2026-01-01", "2027-01-02", 1),
        ("2026-01-31", "2027-01-31", 0),
        ("2024-02-29", "2025-02-28", 0),
        ("2024-02-29", "2025-03-01", 1),
        ("2026-06-15", "2027-06-16", 1),
        ("2026-06-15", "2199-12-31", 1),
    ],
)
def test_a_blanket_period_has_twelve_months(begins: str, ends: str, reported: int) -> None:
    made = with_changes((f"{CERTIFICATE}/blanketFrom", begins), (f"{CERTIFICATE}/blanketTo", ends))
    found = [finding.pointer for finding in findings(made) if finding.rule == "V30"]
    assert found == [f"{CERTIFICATE}/blanketTo"] * reported
