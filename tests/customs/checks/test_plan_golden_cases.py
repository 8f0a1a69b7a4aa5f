"""What brokers must otherwise ask for: each breach gives a finding, and each remedy is accepted."""

import copy
import re
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import RequiredAttribute, attribute_rules
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import CERTIFICATE, PAN, UNIT, findings, list_findings, with_changes
from tests.customs.intake_cases import INTAKE, SPECIFIC_DESCRIPTIONS
from tests.support.factories import change_plan, plan
from tests.support.tables import table


@table("breach", INTAKE)
def test_breach_gives_finding_at_its_place(breach: str) -> None:
    changes, expected = INTAKE[breach]
    assert list_findings(with_changes(*changes)) == expected


@pytest.mark.parametrize("case", SPECIFIC_DESCRIPTIONS)
def test_specific_description_has_no_finding(case: str) -> None:
    assert list_findings(with_changes(*SPECIFIC_DESCRIPTIONS[case])) == []


def test_repeated_line_of_one_order_gives_warning() -> None:
    changed = plan(lines=3)
    lines = changed["units"][0]["lines"]
    lines[2] = copy.deepcopy(lines[0]) | {"lineRef": "L3"}
    changed["units"][0]["invoice"]["total"] = "226.00"
    assert list_findings(changed) == [("V24", "warn", f"{UNIT}/lines/2")]
    assert list_findings(change_plan(changed, f"{UNIT}/lines/2/orderId", "ord_9")) == []


#: Words that make a row with a condition ask.
CONDITIONS = {
    "machine of the part": "spare parts", "gauge": "vinyl bag", "coated side": "coated fabric", "lining": "with lining",
    "white shirt": "white", "muffler": "muffler", "watch battery": "quartz", "bead string": "strung", "glass set": "set",
    "plate diameter": "plate", "ceramic set": "set",
}  # fmt: skip


@table("row", attribute_rules().rows)
def test_what_the_finding_of_a_missing_attribute_says_ends_it(row: RequiredAttribute) -> None:
    """The rows agree with the regulation in reference/test_reference_tables_goods; the words are in test_goods."""
    asked = [
        (f"{PAN}/htsCode", (row.prefixes[0] + "0" * 10)[:10]),
        (f"{PAN}/description", f"Thing painted blue, {CONDITIONS.get(row.name, 'boxed')}"),
        (f"{PAN}/treatment", {"chapter99": [], "section232": [], "pga": []}),
    ]

    def report(*more: tuple[str, Any]) -> list[Finding]:
        found = [finding for finding in findings(with_changes(*asked, *more)) if finding.rule == "V23"]
        return [finding for finding in found if f"must say {row.requirement}." in finding.message]

    (found,) = report()
    named = re.fullmatch(r"Give it as attribute (\w+) or in the description\.", found.remedy)
    assert named is not None
    value = {"UN number": "UN3480", "CAS number": "7647-14-5, 7732-18-5"}.get(row.name, "as said")
    for key in {named[1], *row.keys}:
        assert report((f"{PAN}/attributes", {key: value})) == []
    plain = report((f"{PAN}/description", "Thing painted blue, boxed"))
    assert (plain == []) == (row.name in CONDITIONS)


def test_repeated_certification_is_rejected() -> None:
    changed = plan()
    certificates = changed["units"][0]["usmcaCertificates"]
    certificates.append(copy.deepcopy(certificates[0]))
    assert list_findings(changed) == [("V24", "block", f"{UNIT}/usmcaCertificates/1/ref")]


def test_minimal_certification_is_accepted_with_findings() -> None:
    changed = plan()
    (certificate,) = changed["units"][0]["usmcaCertificates"]
    for added in (
        "certifierAddress", "certifierContact", "exporter", "producer", "producerOnRequest", "importer", "goods",
    ):  # fmt: skip
        del certificate[added]
    assert list_findings(changed) == [
        ("V30", "warn", f"{CERTIFICATE}/{missing}")
        for missing in ("certifierContact", "certifierAddress", "producer", "importer", "goods")
    ]


@pytest.mark.parametrize("element", ["certifierRole", "criterion", "signedOn"])
def test_certification_without_an_element_that_is_never_optional_is_refused(element: str) -> None:
    """The findings V30 name the other six of the nine elements of USMCA annex 5-A."""
    with pytest.raises(ValidationError) as refused:
        Plan.model_validate(with_changes((f"{CERTIFICATE}/{element}", None)))
    assert ["/" + "/".join(map(str, each["loc"])) for each in refused.value.errors()] == [f"{CERTIFICATE}/{element}"]


@pytest.mark.parametrize(
    ("begins", "ends", "reported"),
    [
        ("2026-01-01", "2026-12-31", 0), ("2026-01-01", "2027-01-01", 0), ("2026-01-01", "2027-01-02", 1),
        ("2026-01-31", "2027-01-31", 0), ("2024-02-29", "2025-02-28", 0), ("2024-02-29", "2025-03-01", 1),
        ("2026-06-15", "2027-06-16", 1), ("2026-06-15", "2199-12-31", 1),
    ],
)  # fmt: skip
def test_blanket_period_has_at_most_twelve_months(begins: str, ends: str, reported: int) -> None:
    changed = with_changes((f"{CERTIFICATE}/blanketFrom", begins), (f"{CERTIFICATE}/blanketTo", ends))
    found = [finding.pointer for finding in findings(changed) if finding.rule == "V30"]
    assert found == [f"{CERTIFICATE}/blanketTo"] * reported
