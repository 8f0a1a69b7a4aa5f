"""Goods without a Section 232 heading: blocked if the law has one for a whole list; the finding names each to add."""

import pytest

from pipeline.core.findings import Finding
from pipeline.customs.chapter99.facts import line_facts
from pipeline.customs.decisions import decide_line
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, SHIRT, TODAY, findings, heading, with_changes
from tests.support.factories import Json

CAR, TRUCK, BUS = "8703230190", "8704230100", "8702103100"
MEXICO, OTHER_THAN_232 = heading("9903.05.55", "10"), heading("9903.05.90", "0")


def list_heading_findings(hts_code: str, *headings: Json) -> list[Finding]:
    """Return the findings about the headings of a line with origin Mexico."""
    changed = with_changes(
        (f"{PAN}/htsCode", hts_code),
        (f"{PAN}/countryOfOrigin", "MX"),
        (f"{PAN}/treatment/chapter99", list(headings)),
        (f"{PAN}/treatment/section232", []),
    )
    return [found for found in findings(changed) if found.rule == "V11" and found.pointer.startswith(PAN)]


@pytest.mark.parametrize("vehicle", [CAR, TRUCK, BUS])
def test_vehicle_without_heading_blocks(vehicle: str) -> None:
    (found,) = list_heading_findings(vehicle, OTHER_THAN_232)
    assert (found.severity, found.pointer) == ("block", f"{PAN}/treatment/chapter99")
    assert (found.source or "").startswith("confirmed: HTSUS 2026 Revision 6")


@pytest.mark.parametrize(
    ("beside", "carried"),
    [
        (OTHER_THAN_232, heading("9903.74.01")),
        (MEXICO, heading("9903.74.05", "0")),
        (MEXICO, heading("9903.74.07", "0")),
    ],
)
def test_truck_may_carry_any_offered_heading(beside: Json, carried: Json) -> None:
    assert list_heading_findings(TRUCK, beside, carried) == []


@pytest.mark.parametrize(
    ("hts_code", "severity", "offered"),
    [
        ("8707905080", "block", "9903.74.11 or 9903.74.08"),  # parts of trucks
        ("8471500150", "block", "9903.79.02 or "),  # machines that may hold chips
        ("8708304000", "warn", "9903.94.06 or 9903.94.05"),  # parts of cars: their row is transcribed since May 2026
    ],
)
def test_listed_goods_need_one_heading_for_any_use(hts_code: str, severity: str, offered: str) -> None:
    (found,) = [each for each in list_heading_findings(hts_code, MEXICO) if offered in each.message]
    assert (found.severity, found.pointer) == (severity, f"{PAN}/treatment/chapter99")
    assert f"carries none of {offered}" in found.message


def test_other_parts_need_headings_that_declare_it() -> None:
    server = [heading(f"9903.{code}", "0") for code in ("79.02", "94.06")]
    assert list_heading_findings("8471500150", heading("9903.05.86", "0"), *server) == []


def test_drone_parts_get_note_without_row_for_light_drones() -> None:
    (found,) = list_heading_findings("8807300015", MEXICO)
    assert found.severity == "note"
    assert "may need 9903.08.20" in found.message


HEADINGS = f"{PAN}/treatment/chapter99"


def test_missing_heading_names_the_headings_that_why_decides() -> None:
    changed = with_changes((HEADINGS, []))
    found = next(each for each in findings(changed) if each.pointer == HEADINGS and each.severity != "note")
    decision = decide_line(line_facts(Plan.model_validate(changed).units[0].lines[0], TODAY))
    assert found.expected is not None
    assert [each.value for each in found.expected if each.applies_if is None] == decision.headings != []
    assert {each.group for each in found.expected} <= {step.program for step in decision.steps}


def test_correcting_a_plan_by_what_a_finding_expects_ends_the_finding() -> None:
    changed = with_changes((HEADINGS, [heading("9903.82.02", "50")]))
    found = [each for each in findings(changed) if each.pointer.startswith(HEADINGS) and each.expected]
    assert found
    certain = [each for each in found[0].expected or () if each.applies_if is None]
    corrected = with_changes((HEADINGS, [{**heading(each.value), "program": each.group} for each in certain]))
    left = [
        each for each in findings(corrected) if each.pointer.startswith(HEADINGS) and each.pointer.endswith("heading")
    ]
    assert left == []


def test_finding_on_another_field_expects_no_headings() -> None:
    for found in findings(with_changes((f"{SHIRT}/description", "goods"))):
        assert found.expected is None
