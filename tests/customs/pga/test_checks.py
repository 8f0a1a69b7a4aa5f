"""Findings about agency answers: the pointer names the datum, the severity fits the evidence, and a remedy is given."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from pipeline.customs.pga.answers import flag_answers
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.records import line_records
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, UNIT, findings, list_findings, pga_row, with_changes
from tests.support.factories import Json
from tests.support.tables import table

ROW = f"{PAN}/treatment/pga/0"
FOOD: Json = {
    "fdaProductCode": "41FBT04", "productName": "Tomatoes, peeled, canned", "sourceCountry": "CA",
    "manufacturer": "Maple Goods Ltd", "shipper": "Maple Goods Ltd", "fdaImporter": "Demo Housewares Inc, Dock 4",
    "deliveredTo": "Demo Housewares Inc, Dock 4", "quantityBaseUom": ["10 CTN", "24 CAN"],
}  # fmt: skip


def food(flag: str = "FD1", processing: str = "PRO", *without: str, **more: Any) -> Json:
    data = {key: value for key, value in (FOOD | more).items() if key not in without}
    return pga_row(flag, "FDA", program="FOO", processing=processing, intendedUse="130.000", data=data)


def records_of(row: Json) -> list[str]:
    """Return the agency records of a plan whose first line has this answer."""
    unit = Plan.model_validate(answer_row(row)).units[0]
    answers = flag_answers(unit, unit.lines[0], date(2026, 11, 26))
    return line_records(unit.lines[0], answers, UnitParties(unit)).records


ARRIVAL = f"{UNIT}/entry/estimatedArrivalAt"
#: A truck's arrival is needed for the manifest as well.
UNKNOWN_ARRIVAL = ("C01", "note", ARRIVAL)


def answer_row(row: Json, *changes: tuple[str, Any]) -> Json:
    return with_changes((ROW, row), (ARRIVAL, "2026-11-26T13:00:00-05:00"), *changes)


def test_complete_food_answer_has_no_finding() -> None:
    assert list_findings(answer_row(food())) == []


@pytest.mark.parametrize("key", FOOD)
def test_missing_datum_is_named_by_pointer(key: str) -> None:
    assert list_findings(answer_row(food("FD1", "PRO", key))) == [("V14-DATA", "block", f"{ROW}/data/{key}")]


def test_natural_food_needs_its_processing() -> None:
    assert list_findings(answer_row(food("FD1", "NSF"))) == [("V14-DATA", "block", f"{ROW}/data/sourceType")]
    assert list_findings(answer_row(food("FD1", "NSF", sourceType="262"))) == []


def test_prior_notice_uses_entry_arrival_and_needs_facility() -> None:
    registration = ("V14-DATA", "block", f"{ROW}/data/foodFacilityRegistration")
    assert list_findings(answer_row(food("FD3"))) == [registration]
    assert list_findings(answer_row(food("FD3", foodFacilityExemption="K"))) == []
    arrival = ("V14-DATA", "block", f"{ROW}/data/arrivalDatetime")
    unplanned = list_findings(answer_row(food("FD3"), (ARRIVAL, None)))
    assert unplanned == [arrival, registration, UNKNOWN_ARRIVAL]


def test_number_of_a_filed_notice_replaces_its_data() -> None:
    filed = food("FD3", priorNoticeConfirmation="12345678901234")
    assert list_findings(answer_row(filed, (ARRIVAL, None))) == [UNKNOWN_ARRIVAL]
    assert "PG141PNC12345678901234".ljust(80) in records_of(filed)


@table(
    ("key", "value", "reported"),
    [
        ("arrivalPort", "0712", True),
        ("arrivalPort", "0901", False),
        ("arrivalDatetime", "2026-11-26T13:00:00-05:00", False),
        ("arrivalDatetime", "2026-11-26T12:00:00-06:00", False),
        ("arrivalDatetime", "2026-11-26T14:00:00-05:00", True),
        ("arrivalDatetime", "2026-11-26T09:30", False),
        ("arrivalDatetime", "2026-11-27T09:30", True),
    ],
)
def test_other_arrival_than_the_entry_is_reported(key: str, value: str, *, reported: bool) -> None:
    row = food("FD3", foodFacilityExemption="K", **{key: value})
    found = [one for one in findings(answer_row(row)) if one.rule == "V14-ARRIVAL"]
    assert [(one.severity, one.pointer) for one in found] == [("warn", f"{ROW}/data/{key}")] * reported
    assert all(value in one.message and one.remedy and one.source for one in found)
    if key == "arrivalDatetime":
        assert list_findings(answer_row(row, (ARRIVAL, None))) == [UNKNOWN_ARRIVAL]


def test_utc_arrival_must_be_given_in_port_time() -> None:
    changed = answer_row(food("FD3", foodFacilityExemption="K"), (ARRIVAL, "2026-11-26T18:00:00Z"))
    (finding,) = findings(changed)
    assert (finding.rule, finding.severity, finding.pointer) == ("V14-RECORD", "warn", ARRIVAL)
    assert "2026-11-26T18:00Z is UTC; give the local time of the port" in finding.message
    own = food("FD3", foodFacilityExemption="K", arrivalDatetime="2026-11-26T13:00")
    assert list_findings(answer_row(own, (ARRIVAL, "2026-11-26T18:00:00Z"))) == []


def test_unknown_value_names_nearest_ones() -> None:
    (found,) = findings(answer_row(food("FD3", foodFacilityExemption="FME", foodFacilityRegistration="12345678901")))
    assert (found.rule, found.severity, found.pointer) == ("V14-VALUE", "warn", f"{ROW}/data/foodFacilityExemption")
    assert "is FME, which is none of the reasons without a food facility registration" in found.message
    assert found.remedy.startswith("Give one of A (Facility is out of business), B (Facility is a private residence")
    assert "PG23FME" not in "".join(records_of(food("FD3", foodFacilityExemption="FME")))


def test_value_of_optional_datum_is_checked_too() -> None:
    malformed = findings(answer_row(food(refusalCountry="Brazil")))
    assert [(one.rule, one.pointer) for one in malformed] == [("V14-DATA", f"{ROW}/data/refusalCountry")]
    (unknown,) = findings(answer_row(food(submitterType="Z")))
    assert unknown.rule == "V14-VALUE"
    assert "S (Shipper)" in unknown.remedy
    assert findings(answer_row(food(submitterType="s"))) == []


def test_alternative_answers_are_both_named() -> None:
    (finding,) = findings(answer_row(food("FD3")))
    assert finding.message.endswith("lacks Food facility registration or Exemption from food facility registration.")
    assert finding.remedy == "Add foodFacilityRegistration or foodFacilityExemption."


@table(("key", "value"), [("fdaProductCode", "41FBT4"), ("sourceCountry", "Canada"), ("sourceCountry", "ZZ")])
def test_malformed_datum_gives_warning(key: str, value: str) -> None:
    row = food("FD1", "NSF", **({"sourceType": "262"} | {key: value}))
    finding = ("V14-DATA", "warn", f"{ROW}/data/{key}")
    assert list_findings(answer_row(row)) == [finding]
    # The records carry it, whether or not the rules know who asks for it.
    for change in ({"flag": "XX9"}, {"program": "XXX"}, {"flag": "AQ2"}):
        assert finding in list_findings(answer_row(row | change))


def test_country_of_harvest_may_be_five_or_more() -> None:
    for given, places in ((["XZ", "ZX"], ["harvestCountry"]), ("XZ", [])):
        row = pga_row("AL1", "APH", program="APL", data={"harvestCountry": given})
        found = [one.pointer for one in findings(answer_row(row)) if "not the code of a country" in one.message]
        assert found == [f"{ROW}/data/{place}" for place in places]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("quantityBaseUom", ["0 CTN"], "quantityBaseUom: 0 CTN must be more than zero."),
        ("productName", "Tomatoes\u200b", "productName: PG10 24-80 cannot carry U+200B; use Latin letters."),
    ],
)
def test_value_that_records_cannot_carry_is_named(key: str, value: Any, problem: str) -> None:
    found = [one for one in findings(answer_row(food(**{key: value}))) if one.rule == "V14-RECORD"]
    assert [one.pointer for one in found] == [f"{ROW}/data/{key}"]
    assert found[0].message.endswith(problem)


def test_other_intended_use_needs_text() -> None:
    row = food() | {"intendedUse": "980.000"}
    assert list_findings(answer_row(row)) == [("V14-USE", "block", f"{ROW}/data/intendedUseText")]
    assert list_findings(answer_row(food(intendedUseText="Museum display") | {"intendedUse": "980.000"})) == []


def test_unknown_party_or_missing_contact_needs_person() -> None:
    (stranger,) = findings(answer_row(food(deliveredTo="Somebody Else LLC")))
    assert (stranger.rule, stranger.severity, stranger.pointer) == ("V14-RECORD", "warn", f"{ROW}/data/deliveredTo")
    assert stranger.message.startswith("Line L1, FDA records, deliveredTo: no party of the unit is named Somebody Else")
    (silent,) = findings(answer_row(food(fdaImporter="Demo Housewares Inc")))
    assert silent.message.endswith("fdaImporter: the plan has no contact of Demo Housewares Inc for PG21.")


@pytest.mark.parametrize(
    "row",
    [
        pga_row("CP1", "CPS"),
        pga_row("CP1", "CPS", disclaimer="D"),
        pga_row("CP1", "CPS", processing="FGC", data={"sku": "P-1"}),
        pga_row("CP2", "CPS"),
        pga_row("AT1", "ATF", program="ATF", data={"quantityKg": "1"}, intendedUse="980.000"),
    ],
)
def test_findings_block_only_if_flag_and_program_are_confirmed(row: Json) -> None:
    """The flags of CPSC are not confirmed, its program is; with ATF it is the other way round."""
    assert {severity for _, severity, _ in list_findings(answer_row(row))} - {"note"} == {"warn"}


def test_full_certificate_names_each_missing_part() -> None:
    found = list_findings(answer_row(pga_row("CP1", "CPS", processing="FGC", data={"sku": "P-1", "testLab": "A lab"})))
    missing = "productName citationCodes manufactureDate manufacturePlace certifier testDate recordsContact"
    lacking = [pointer.removeprefix(f"{ROW}/data/") for rule, _, pointer in found if rule == "V14-DATA"]
    assert lacking == missing.split()


@pytest.mark.parametrize(
    ("disclaimer", "use", "place"),
    [
        ("B", "130.005", "intendedUse"), ("A", None, "intendedUse"), ("A", "980.000", "data/intendedUseText"),
        ("B", "130.006", None), ("A", "130.005", None),
    ],
)  # fmt: skip
def test_cpsc_disclaimer_needs_intended_use(disclaimer: str, use: str | None, place: str | None) -> None:
    found = list_findings(answer_row(pga_row("CP1", "CPS", disclaimer=disclaimer, intendedUse=use)))
    assert found == ([] if place is None else [("V14-USE", "warn", f"{ROW}/{place}")])


def test_import_code_decides_what_epa_requires() -> None:
    data = {"formType": "3520-21", "importCode": "22", "importer": "Demo Housewares Inc, Dock 4"}
    row = pga_row("EP4", "EPA", program="VNE", data=data)
    lacking = [pointer.rpartition("/")[2] for rule, _, pointer in list_findings(answer_row(row)) if rule == "V14-DATA"]
    assert lacking == ["industryCode", "engineFamily", "modelYear"]


@pytest.mark.parametrize(("code", "ended"), [("9", True), ("17", False), ("24A", False), ("EE", False)])
def test_import_code_that_has_ended_gives_warning(code: str, *, ended: bool) -> None:
    row = pga_row("EP4", "EPA", program="VNE", data={"formType": "3520-21", "importCode": code})
    found = [each.message for each in findings(answer_row(row)) if each.pointer == f"{ROW}/data/importCode"]
    assert [message.endswith("such as B or 17; code 9 has ended.") for message in found] == [True] * ended


@pytest.mark.parametrize(("disclaimer", "allowed"), [("A", True), ("B", True), ("C", True), ("D", False)])
def test_part_under_no_safety_standard_is_disclaimed(disclaimer: str, *, allowed: bool) -> None:
    """NHTSA has no standard for brake pads, for example."""
    changed = answer_row(pga_row("DT1", "NHT", program="REI", disclaimer=disclaimer))
    assert [pointer for _, _, pointer in list_findings(changed)] == [f"{ROW}/disclaimer"] * (not allowed)
    assert records_of(pga_row("DT1", "NHT", program="REI", disclaimer=disclaimer))[-1][79] == disclaimer


def test_zone_goods_need_no_certificate_yet() -> None:
    zone = (f"{UNIT}/entry/type", "06")
    assert list_findings(answer_row(pga_row("CP1", "CPS"), zone)) == []
    later = (f"{UNIT}/entry/estimatedArrivalAt", "2027-01-08T12:00:00Z")
    assert ("V14", "warn") in [each[:2] for each in list_findings(answer_row(pga_row("CP1", "CPS"), zone, later))]


@pytest.mark.parametrize(
    ("hts_code", "net", "severities"),
    [
        ("4419909100", "2.9", []),
        ("4419909100", "2.901", ["block"]),
        ("9403999040", "58", []),
        ("9403999040", "58.3", ["warn"]),
    ],
)
def test_small_plant_disclaimer_is_for_the_weight_of_the_code_in_the_entry(
    hts_code: str, net: str, severities: list[str]
) -> None:
    changed = with_changes((ROW, pga_row("AL2", "APH", program="APL", disclaimer="G")), (f"{PAN}/htsCode", hts_code))
    first = changed["units"][0]["lines"][0] | {"netWeightKg": "1"}
    changed["units"][0]["lines"] = [first, {**first, "lineRef": "L9", "netWeightKg": str(Decimal(net) - 1)}]
    found = [each for each in findings(changed) if each.rule == "V14-DISCLAIMER"]
    assert [(each.severity, each.pointer) for each in found] == [(each, f"{ROW}/disclaimer") for each in severities]
    assert all(f"goods of {hts_code} in the entry weigh {net} kg" in each.message for each in found)


def test_small_plant_disclaimer_is_only_for_lacey_act() -> None:
    assert list_findings(answer_row(pga_row("AL2", "APH", disclaimer="G"))) == []
    assert list_findings(answer_row(pga_row("AQ1", "APH", program="APQ", disclaimer="G"))) == [
        ("V14-DISCLAIMER", "block", f"{ROW}/disclaimer")
    ]


@pytest.mark.parametrize(("flag", "agency", "program"), [("AQX", "APH", "APQ"), ("AM3", "AMS", "MO")])
def test_flag_that_allows_no_disclaimer_needs_none(flag: str, agency: str, program: str) -> None:
    row = pga_row(flag, agency, program=program, disclaimer="A")
    (found,) = findings(answer_row(row))
    assert (found.rule, found.severity, found.pointer) == ("V14-DISCLAIMER", "warn", f"{ROW}/disclaimer")
    assert found.remedy.endswith("goods that need none take no disclaimer: remove it.")
    assert list_findings(answer_row(row | {"disclaimer": None})) == []


def test_program_of_other_flag_is_reported() -> None:
    changed = answer_row(pga_row("EP1", "EPA", program="HFC", data=dict.fromkeys(("quantityKg", "allowance"), "1")))
    assert list_findings(changed) == [
        ("V14-PROGRAM", "warn", f"{ROW}/program"),
        ("V14-DATA", "block", f"{ROW}/data/casNumber"),
        ("V14-HAND", "note", ROW),
        ("V14-RECORD", "warn", ROW),
    ]
