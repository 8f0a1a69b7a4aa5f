"""Each rule gives a finding for its breach, with the right pointer and severity, and none for a good plan."""

from collections.abc import Callable
from datetime import date

import pytest

from pipeline.customs.checks.plan import check_plan
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import (
    BAG,
    BREACHES,
    CERTIFICATE,
    DEAR,
    ENTRY,
    IMPORTER,
    INVOICE,
    METAL,
    PAN,
    PARTIES,
    PGA,
    REF,
    SHIRT,
    STACK,
    TODAY,
    UNIT,
    Change,
    enter_on,
    findings,
    heading,
    list_findings,
    pga_row,
    with_changes,
)
from tests.customs.foreign_importer import RESIDENT_AGENT
from tests.support.factories import Json, change_plan, plan
from tests.support.memory import LINEAR, measure_cost_ratio
from tests.support.tables import table


@pytest.mark.parametrize(("units", "lines", "packages"), [(1, 3, 2), (1, 2, 5), (3, 7, 4)])
def test_good_plan_has_no_finding(units: int, lines: int, packages: int) -> None:
    assert findings(plan(units, lines, packages)) == []


@table("breach", BREACHES)
def test_breach_gives_one_finding_at_its_place(breach: str) -> None:
    changes, expected = BREACHES[breach]
    assert list_findings(with_changes(*changes)) == expected


ALLOWED: dict[str, list[Change]] = {
    "a price finer than a cent, rounded either way": [
        (f"{PAN}/unitPrice", "12.50125"),
        (f"{PAN}/lineValue", "50.01"),
        (f"{INVOICE}/total", "228.01"),
    ],
    "a charge that is in the prices already": [
        (f"{INVOICE}/charges/0/includedInPrices", True),
        (f"{INVOICE}/total", "148.00"),
    ],
    "weights a tenth of a kilogram apart": [(f"{UNIT}/packages/0/grossWeightKg", "8.100")],
    "steel without a country": [(f"{METAL}/countryOfMeltAndPour", "OTH")],
    "a listed code that holds no metal": [
        (STACK, [heading("9903.05.29", "10"), heading("9903.82.01", "0")]),
        (f"{PAN}/treatment/section232", []),
    ],
    "exactly fifteen percent of metal": [(f"{PAN}/htsCode", "8302416015"), (f"{METAL}/metalWeightKg", "0.540")],
    "less than fifteen percent under the heading for that": [
        (f"{PAN}/htsCode", "8302416015"),
        (STACK, [heading("9903.05.29", "10"), heading("9903.82.03", "0")]),
        (f"{METAL}/metalWeightKg", "0.539"),
    ],
    "a certification for this shipment alone": [
        (f"{CERTIFICATE}/blanketFrom", None),
        (f"{CERTIFICATE}/blanketTo", None),
        (f"{CERTIFICATE}/signedOn", "2026-11-24"),
    ],
    "a certification on its last day": [(f"{CERTIFICATE}/blanketTo", "2026-11-26")],
    "Canadian dollars with a rate": [(f"{INVOICE}/currency", "CAD"), (f"{INVOICE}/exchangeRate", "0.7150")],
    "informal entry of an importer at home": [
        (f"{ENTRY}/type", "11"),
        (f"{ENTRY}/estimatedArrivalAt", "2026-12-01T12:00:00Z"),
    ],
    "a foreign importer on formal entry": [(f"{IMPORTER}/importerNumber", "261127-12345"), RESIDENT_AGENT],
    "a disclaimer of warehouse entry on warehouse entry": [
        (f"{ENTRY}/type", "21"),
        (PGA, pga_row("FD1", "FDA", program="DRU", disclaimer="F")),
    ],
    "consumer product safety before its day": [
        (f"{INVOICE}/date", "2026-07-01"),
        (f"{INVOICE}/saleDate", "2026-07-01"),
        (f"{ENTRY}/exportDate", "2026-07-06"),
        (f"{ENTRY}/estimatedArrivalAt", "2026-07-07T12:00:00Z"),
        (f"{STACK}/0", heading("9903.03.06", "0")),
        (f"{SHIRT}/treatment/chapter99/0", heading("9903.03.07", "0")),
        (f"{BAG}/treatment/chapter99/1", heading("9903.03.01", "10")),
        (PGA, pga_row("CP1", "CPS")),
    ],
    "a flag that nothing need be said of": [(PGA, pga_row("AQX", "APH"))],
    "accents": [(f"{PARTIES}/buyer/name", "Café Élan, fournitures de ménage")],
}


@table("allowed", ALLOWED)
def test_allowed_change_has_no_finding(allowed: str) -> None:
    assert list_findings(with_changes(*ALLOWED[allowed]), on=date(2026, 7, 1)) == []


def test_repeated_unit_and_invoice_are_reported() -> None:
    changed = change_plan(change_plan(plan(2), "/units/1/unitRef", "U1"), "/units/1/invoice/number", "A-00001")
    assert list_findings(changed) == [("V24", "block", "/units/1/unitRef"), ("V24", "warn", "/units/1/invoice/number")]


def test_past_entry_day_only_gives_warning() -> None:
    assert list_findings(plan(), on=date(2027, 3, 1)) == [("V26", "warn", f"{UNIT}/entry/estimatedArrivalAt")]


@pytest.mark.parametrize(
    ("arrival", "count"),
    [
        ("2026-11-30T04:59:00Z", 0),  # a minute to midnight in New York
        ("2026-11-30T05:00:00Z", 1),
        ("2026-11-29T20:59:00-08:00", 0),
        ("2026-11-29T21:00:00-08:00", 1),
        ("2026-11-30T00:59:00-04:00", 0),
    ],
)
def test_entry_day_uses_eastern_time_at_any_port(arrival: str, count: int) -> None:
    changed = with_changes(
        (f"{UNIT}/entry/estimatedArrivalAt", arrival),
        (f"{UNIT}/parties/importerOfRecord/importerNumber", "261127-12345"),
        RESIDENT_AGENT,
    )
    assert list_findings(changed) == count * [("V20", "warn", f"{UNIT}/parties/importerOfRecord/importerNumber")]


def test_export_day_counts_without_arrival() -> None:
    late = with_changes(*DEAR, (f"{ENTRY}/estimatedArrivalAt", None), (f"{CERTIFICATE}/blanketTo", "2026-11-25"))
    assert list_findings(late) == [("V12", "block", REF), ("C01", "note", f"{ENTRY}/estimatedArrivalAt")]


def test_characters_missing_in_fonts_give_finding() -> None:
    city = f"{PARTIES}/buyer/address/city"
    private = with_changes((f"{PAN}/sku", "PAN-\U00012000"), (city, "\U000f0000 Buffalo"))
    assert list_findings(private) == [("D01", "warn", city), ("D01", "warn", f"{PAN}/sku")]


def test_importer_number_is_never_repeated() -> None:
    (finding,) = findings(with_changes((f"{UNIT}/parties/importerOfRecord/importerNumber", "987-65-432")))
    assert "987" not in finding.message + finding.remedy


def test_only_outermost_package_with_goods_counts() -> None:
    changed = plan()
    carton, box = changed["units"][0]["packages"]
    pallet = carton | {"packageRef": "PLT1", "type": "PLT", "lpn": None, "contents": [], "grossWeightKg": "40.000"}
    carton |= {"parentRef": "PLT1", "grossWeightKg": "12.000"}  # its own goods and the box
    box |= {"parentRef": "P1"}
    changed["units"][0]["packages"].append(pallet)
    changed["units"][0]["entry"]["manifestQuantity"] = "1"
    assert list_findings(changed) == []
    assert list_findings(change_plan(changed, f"{UNIT}/packages/0/grossWeightKg", "8.000")) == [
        ("V04", "block", f"{UNIT}/packages")
    ]


def build_tower(height: int) -> Json:
    """Return a plan with two cartons on the top of a chain of `height` packages whose parents form a circle."""
    changed = plan()
    packages = changed["units"][0]["packages"]
    packages[0]["parentRef"] = packages[1]["parentRef"] = "T0"
    packages += [
        packages[0] | {"packageRef": f"T{n}", "lpn": None, "contents": [], "parentRef": f"T{(n + 1) % height}"}
        for n in range(height)
    ]
    return changed


@pytest.mark.parametrize("build", [build_tower, lambda lines: plan(1, lines, lines)], ids=["nested", "lines"])
@pytest.mark.system
def test_ten_times_the_packages_or_lines_cost_ten_times_as_much(build: Callable[[int], Json]) -> None:
    def check(checked: Plan) -> None:
        assert check_plan(checked, on=TODAY) == []

    some, many = (Plan.model_validate(build(count)) for count in (400, 4_000))
    assert measure_cost_ratio(check, some, many) < LINEAR


@pytest.mark.parametrize(
    ("currency", "rate", "exported_on", "warned"),
    [
        ("CAD", "0.5600", "2026-11-24", True),
        ("CAD", "0.6683", "2026-11-24", True),  # 0.6683 x 1.4214 is 0.9499
        ("CAD", "0.6684", "2026-11-24", False),
        ("CAD", "0.7628", "2026-07-01", False),
        ("CAD", "0.7629", "2026-07-01", True),  # 0.7629 x 1.3765 is 1.0501
        ("CAD", "0.5600", "2026-06-30", False),
        ("EUR", "1.0800", "2026-11-24", True),
        ("MXN", "0.0560", "2026-11-24", False),
        ("KRW", "0.0007", "2026-11-24", False),
    ],
)
def test_rate_far_from_the_last_known_quarter_is_a_warning(
    currency: str, rate: str, exported_on: str, *, warned: bool
) -> None:
    head = [(f"{UNIT}/invoice/currency", currency), (f"{UNIT}/invoice/exchangeRate", rate)]
    found = [each for each in findings(with_changes(*enter_on(exported_on), *head)) if each.rule == "V16"]
    assert [(each.severity, each.pointer) for each in found] == [("warn", f"{UNIT}/invoice/exchangeRate")] * warned
    for each in found:
        assert "From 2026-07-01 to 2026-09-25 one US dollar was " in each.message
        assert f"Give the rate of the day of export, {exported_on}." in each.remedy
        assert "19 CFR 141.86(a)(7), 152.1(c), 159.32; probable: Federal Reserve release H.10" in (each.source or "")
