"""Vehicles and the like without a Section 232 heading: refused where the law has a heading for all of a list."""

from __future__ import annotations

import pytest

from pipeline.schemas.problems import Finding
from tests.builders import Json
from tests.customs.cases import PAN, findings, heading, with_changes

CAR, TRUCK, BUS = "8703230190", "8704230100", "8702103100"
MEXICO, BESIDE_232 = heading("9903.05.55", "10"), heading("9903.05.90", "0")


def of_chapter_99(hts_code: str, *headings: Json) -> list[Finding]:
    """What is said of the headings of a line of Mexico."""
    made = with_changes(
        (f"{PAN}/htsCode", hts_code),
        (f"{PAN}/countryOfOrigin", "MX"),
        (f"{PAN}/treatment/chapter99", list(headings)),
        (f"{PAN}/treatment/section232", []),
    )
    return [found for found in findings(made) if found.rule == "V11" and found.pointer.startswith(PAN)]


@pytest.mark.parametrize("vehicle", [CAR, TRUCK, BUS])
def test_a_vehicle_without_any_heading_of_its_list_is_refused(vehicle: str) -> None:
    (found,) = of_chapter_99(vehicle, BESIDE_232)
    assert (found.severity, found.pointer) == ("block", f"{PAN}/treatment/chapter99")
    assert (found.source or "").startswith("confirmed: HTSUS 2026 Revision 6")


@pytest.mark.parametrize(
    ("beside", "carried"),
    [(BESIDE_232, heading("9903.74.01")), (MEXICO, heading("9903.74.05", "0")), (MEXICO, heading("9903.74.07", "0"))],
)
def test_a_truck_takes_the_heading_that_a_person_says(beside: Json, carried: Json) -> None:
    assert of_chapter_99(TRUCK, beside, carried) == []
