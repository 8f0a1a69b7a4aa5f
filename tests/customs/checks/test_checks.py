"""One test a rule: it fires on the breach, at the pointer, as loud as it should be, and a good plan is left alone."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from pipeline.core.findings import Finding
from pipeline.customs.checks.run import check_plan
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import (
    BAG,
    BREACHES,
    DEAR,
    PAN,
    SHIRT,
    TODAY,
    UNIT,
    findings,
    heading,
    list_findings,
    pga_row,
    with_changes,
)
from tests.support.factories import change_plan, plan
from tests.support.memory import measure_cost_ratio


@pytest.mark.parametrize(("units", "lines", "packages"), [(1, 3, 2), (1, 2, 5), (3, 7, 4)])
def test_a_good_plan_has_no_finding(units: int, lines: int, packages: int) -> None:
    assert findings(plan(units, lines, packages)) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_found_once_and_where_it_is(breach: str) -> None:
    changes, expected = BREACHES[breach]
    assert list_findings(with_changes(*changes)) == expected


@pytest.mark.parametrize("breach", BREACHES)
def test_a_finding_says_what_to_do(breach: str) -> None:
    for finding in findings(with_changes(*BREACHES[breach][0])):
        assert finding.message.endswith((".", ":")) or finding.rule == "T01"
        assert finding.remedy.endswith(".")
        assert "None" not in finding.message + finding.remedy


ALLOWED: dict[str, list[tuple[str, Any]]] = {
    "a price finer than a cent, rounded either way": [
        (f"{PAN}/unitPrice", "12.50125"),
        (f"{PAN}/lineValue", "50.01"),
        (f"{UNIT}/invoice/total", "228.01"),
    ],
    "a charge that is in the prices already": [
        (f"{UNIT}/invoice/charges/0/includedInPrices", True),
        (f"{UNIT}/invoice/total", "148.00"),
    ],
    "weights a tenth of a kilogram apart": [(f"{UNIT}/packages/0/grossWeightKg", "8.100")],
    "steel that nobody can place": [(f"{PAN}/treatment/section232/0/countryOfMeltAndPour", "OTH")],
    "a listed code that holds no metal": [
        (f"{PAN}/treatment/chapter99", [heading("9903.05.29", "10"), heading("9903.82.01", "0")]),
        (f"{PAN}/treatment/section232", []),
    ],
    "exactly fifteen percent of metal": [
        (f"{PAN}/htsCode", "8302416015"),
        (f"{PAN}/treatment/section232/0/metalWeightKg", "0.540"),
    ],
    "less than fifteen percent under the heading for that": [
        (f"{PAN}/htsCode", "8302416015"),
        (f"{PAN}/treatment/chapter99", [heading("9903.05.29", "10"), heading("9903.82.03", "0")]),
        (f"{PAN}/treatment/section232/0/metalWeightKg", "0.539"),
    ],
    "a certification for this shipment alone": [
        (f"{UNIT}/usmcaCertificates/0/blanketFrom", None),
        (f"{UNIT}/usmcaCertificates/0/blanketTo", None),
        (f"{UNIT}/usmcaCertificates/0/signedOn", "2026-11-24"),
    ],
    "a certification on its last day": [(f"{UNIT}/usmcaCertificates/0/blanketTo", "2026-11-26")],
    "Canadian dollars with a rate": [
        (f"{UNIT}/invoice/currency", "CAD"),
        (f"{UNIT}/invoice/exchangeRate", "0.7150"),
    ],
    "informal entry of an importer at home": [
        (f"{UNIT}/entry/type", "11"),
        (f"{UNIT}/entry/estimatedArrivalAt", "2026-12-01T12:00:00Z"),
    ],
    "a foreign importer on formal entry": [(f"{UNIT}/parties/importerOfRecord/importerNumber", "261127-12345")],
    "a disclaimer of warehouse entry on warehouse entry": [
        (f"{UNIT}/entry/type", "21"),
        (f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="DRU", disclaimer="F")),
    ],
    "consumer product safety before its day": [
        (f"{UNIT}/invoice/date", "2026-07-01"),
        (f"{UNIT}/invoice/saleDate", "2026-07-01"),
        (f"{UNIT}/entry/exportDate", "2026-07-06"),
        (f"{UNIT}/entry/estimatedArrivalAt", "2026-07-07T12:00:00Z"),
        (f"{PAN}/treatment/chapter99/0", heading("9903.03.06", "0")),
        (f"{SHIRT}/treatment/chapter99/0", heading("9903.03.07", "0")),
        (f"{BAG}/treatment/chapter99/1", heading("9903.03.01", "10")),
        (f"{PAN}/treatment/pga/0", pga_row("CP1", "CPS")),
    ],
    "a flag that nothing need be said of": [(f"{PAN}/treatment/pga/0", pga_row("AQX", "APH"))],
    "accents": [(f"{UNIT}/parties/buyer/name", "Café Élan, fournitures de ménage")],
}


@pytest.mark.parametrize("allowed", ALLOWED)
def test_what_is_allowed_is_left_alone(allowed: str) -> None:
    assert list_findings(with_changes(*ALLOWED[allowed]), on=date(2026, 7, 1)) == []


def test_units_and_invoices_are_distinguished() -> None:
    made = change_plan(change_plan(plan(2), "/units/1/unitRef", "U1"), "/units/1/invoice/number", "A-00001")
    assert list_findings(made) == [("V24", "block", "/units/1/unitRef"), ("V24", "warn", "/units/1/invoice/number")]


def test_a_day_that_has_passed_is_pointed_out_and_changes_nothing_else() -> None:
    assert list_findings(plan(), on=date(2027, 3, 1)) == [("V26", "warn", f"{UNIT}/entry/estimatedArrivalAt")]


@pytest.mark.parametrize(
    ("arrival", "severity"),
    [
        ("2026-11-30T04:59:00Z", "warn"),  # a minute to midnight in New York
        ("2026-11-30T05:00:00Z", "block"),
        ("2026-11-29T20:59:00-08:00", "warn"),
        ("2026-11-29T21:00:00-08:00", "block"),
        ("2026-11-30T00:59:00-04:00", "warn"),
    ],
)
def test_a_day_begins_at_midnight_in_the_east_wherever_the_goods_arrive(arrival: str, severity: str) -> None:
    made = with_changes(
        (f"{UNIT}/entry/type", "11"),
        (f"{UNIT}/entry/estimatedArrivalAt", arrival),
        (f"{UNIT}/parties/importerOfRecord/importerNumber", "261127-12345"),
    )
    assert list_findings(made) == [("V20", severity, f"{UNIT}/parties/importerOfRecord/importerNumber")]


def test_without_an_arrival_the_day_of_export_counts() -> None:
    late = with_changes(
        *DEAR, (f"{UNIT}/entry/estimatedArrivalAt", None), (f"{UNIT}/usmcaCertificates/0/blanketTo", "2026-11-25")
    )
    assert list_findings(late) == [("V12", "block", f"{SHIRT}/usmcaCertificateRef")]


def test_characters_that_the_fonts_lack_become_a_finding() -> None:
    private = with_changes(
        (f"{PAN}/sku", "PAN-\U00012000"), (f"{UNIT}/parties/buyer/address/city", "\U000f0000 Buffalo")
    )
    assert list_findings(private) == [
        ("D01", "warn", f"{UNIT}/parties/buyer/address/city"),
        ("D01", "warn", f"{PAN}/sku"),
    ]


def test_the_importers_number_is_never_repeated() -> None:
    (finding,) = findings(with_changes((f"{UNIT}/parties/importerOfRecord/importerNumber", "987-65-432")))
    assert "987" not in finding.message + finding.remedy


def test_only_the_outermost_package_with_goods_is_weighed() -> None:
    made = plan()
    carton, box = made["units"][0]["packages"]
    pallet = carton | {"packageRef": "PLT1", "type": "PLT", "lpn": None, "contents": [], "grossWeightKg": "40.000"}
    carton |= {"parentRef": "PLT1", "grossWeightKg": "12.000"}  # its own goods and the box
    box |= {"parentRef": "P1"}
    made["units"][0]["packages"].append(pallet)
    made["units"][0]["entry"]["manifestQuantity"] = "1"
    assert list_findings(made) == []
    assert list_findings(change_plan(made, f"{UNIT}/packages/0/grossWeightKg", "8.000")) == [
        ("V04", "block", f"{UNIT}/packages")
    ]


def build_tower(height: int) -> Plan:
    """Return a plan whose two cartons stand on a circle of as many packages that stand on one another."""
    made = plan()
    packages = made["units"][0]["packages"]
    packages[0]["parentRef"] = packages[1]["parentRef"] = "T0"
    packages += [
        packages[0] | {"packageRef": f"T{n}", "lpn": None, "contents": [], "parentRef": f"T{(n + 1) % height}"}
        for n in range(height)
    ]
    return Plan.model_validate(made)


def check(made: Plan) -> list[Finding]:
    return check_plan(made, on=TODAY)


def test_the_highest_tower_of_packages_is_weighed_package_by_package() -> None:
    low, high = build_tower(1_998), build_tower(19_998)
    assert check(high) == []
    assert measure_cost_ratio(check, low, high) < 40


def test_ten_times_the_lines_cost_about_ten_times_as_much() -> None:
    some, many = (Plan.model_validate(plan(1, lines, lines)) for lines in (1_000, 10_000))
    assert check(many) == []
    assert measure_cost_ratio(check, some, many) < 40
