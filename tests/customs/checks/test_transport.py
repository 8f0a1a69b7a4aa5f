"""A truck's numbers, its port and its trip: what is missing or contradictory is a warning that repeats no personal data."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.checks import transport
from pipeline.customs.checks.transport import is_vin
from pipeline.customs.reference.ports import port_rules
from pipeline.customs.reference.transport import LandPorts, transport_rules
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import UNIT, findings, list_findings, with_changes
from tests.customs.transport_cases import member, trip
from tests.support.factories import Json, change_plan, plan
from tests.support.tables import table

ENTRY = f"{UNIT}/entry"
TRIP = f"{ENTRY}/trip"


def with_trip(**changes: Any) -> Json:
    return with_changes((TRIP, trip(**changes)))


@pytest.mark.parametrize(
    ("member", "severity"), [("carrierScac", "warn"), ("shipmentControlNumber", "warn"), ("estimatedArrivalAt", "note")]
)
def test_truck_needs_carrier_number_and_arrival(member: str, severity: str) -> None:
    assert list_findings(with_changes((f"{ENTRY}/{member}", None))) == [("C01", severity, f"{ENTRY}/{member}")]
    assert list_findings(with_changes((f"{ENTRY}/{member}", None), (f"{ENTRY}/modeOfTransport", "air"))) == []


OTHER_CHARACTERS = "has other characters after the SCAC than capital letters and digits, or none"
CANADIAN = "looks like a Canadian cargo control number (PARS number)"


@table(
    ("scac", "number", "problem"),
    [
        ("DEMO", "DEMO123456789012", None),
        ("DE", "DE1", None),
        ("DEMO", "DEMOPARS1", None),
        ("DEMO", "ABCD1234567", "does not begin with the carrier's SCAC, DEMO"),
        ("DEMO", "DEMO1234567890123", "has 13 characters after the SCAC, more than 12"),
        *(("DEMO", number, OTHER_CHARACTERS) for number in ("DEMO", "DEMO-12", "DEMO12a")),
        *(
            (scac, n, CANADIAN)
            for scac in ("DEMO", None)
            for n in ("1234PARS56789", "76LF000123", "8-A2001", "ABCDPARS1")
        ),
    ],
)
def test_control_number_is_scac_and_twelve_characters(scac: str | None, number: str, problem: str | None) -> None:
    found = findings(with_changes((f"{ENTRY}/carrierScac", scac), (f"{ENTRY}/shipmentControlNumber", number)))
    named = [each for each in found if each.rule == "C02"]
    expected = [] if problem is None else [("warn", f"{ENTRY}/shipmentControlNumber")]
    assert [(each.severity, each.pointer) for each in named] == expected
    assert len(found) == len(named) + (scac is None)
    for each in named:
        assert problem is not None
        assert problem in each.message
        assert number in each.message
        assert ("PAPS number" in each.remedy) == (problem == CANADIAN)


def test_stored_rules_without_canadian_numbers_name_another_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = transport_rules().model_copy(update={"cargo_control_number": None})
    monkeypatch.setattr(transport, "transport_rules", lambda: stored)
    number = (f"{ENTRY}/shipmentControlNumber", "1234PARS56789")
    (found,) = findings(with_changes((f"{ENTRY}/carrierScac", "DEMO"), number))
    assert (found.rule, "does not begin with the carrier's SCAC" in found.message) == ("C02", True)


@table(
    ("port", "mode", "said"),
    [
        ("0901", "truck", None),
        ("3004", "truck", None),
        ("2704", "truck", "port 2704, Los Angeles CA, is not known as one where trucks cross from there."),
        ("2304", "truck", "port 2304, Laredo TX, is on another border."),
        ("2704", "air", None),
    ],
)
def test_truck_crosses_at_land_port_of_its_border(port: str, mode: str, said: str | None) -> None:
    found = findings(with_changes((f"{ENTRY}/portOfEntry", port), (f"{ENTRY}/modeOfTransport", mode)))
    assert [(each.rule, each.pointer) for each in found] == [] if said is None else [("C03", f"{ENTRY}/portOfEntry")]
    assert all(said is not None and each.message.endswith(said) for each in found)


@pytest.mark.parametrize(
    ("port", "similar"),
    [
        ("0910", "the most similar ones are 0901 Buffalo-Niagara Falls NY, "),
        ("0721", "0712 Champlain-Rouses Point NY"),
        ("7000", "Correct it. Ask"),
        ("9999", "Correct it. Ask"),
    ],
)
@pytest.mark.parametrize("mode", ["truck", "air", "vessel"])
def test_unknown_port_is_named_once_with_similar_ones(mode: str, port: str, similar: str) -> None:
    terms = [] if mode == "truck" else [(f"{ENTRY}/modeOfTransport", mode)]
    (found,) = findings(with_changes((f"{ENTRY}/portOfEntry", port), *terms))
    assert (found.rule, found.severity, found.pointer) == ("E05", "warn", f"{ENTRY}/portOfEntry")
    assert port in found.message
    assert similar in found.remedy


def test_land_ports_are_ports_of_one_border_each() -> None:
    borders = transport_rules().land_ports.ports
    assert {country: len(codes) for country, codes in borders.items()} == {"CA": 80, "MX": 25}
    assert not set(borders["CA"]) & set(borders["MX"])
    assert {code for codes in borders.values() for code in codes} <= port_rules().ports.ports.keys()


def test_stored_rules_may_name_their_land_ports() -> None:
    row = {"source": "an older version", "confidence": "medium", "status": "check"}
    stored = LandPorts.model_validate({"ports": {"CA": {"0901": "Buffalo NY"}}, **row})
    assert "0901" in stored.ports["CA"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"number": None}, "the trip number"),
        ({"loadedAt": None}, "the place of loading"),
        ({"truck": None}, "the truck's licence plate with its state or province, or its VIN"),
        ({"truck": {"licensePlate": "DEMO 100"}}, "the truck's licence plate with its state or province, or its VIN"),
        ({"crew": []}, "the driver"),
        (
            {"crew": [member(dateOfBirth=None, citizenship=None, documents=[])]},
            "the driver's day of birth, the driver's citizenship and the driver's travel document",
        ),
    ],
)
def test_missing_manifest_data_are_named_in_one_finding(changes: dict[str, Any], missing: str) -> None:
    (found,) = findings(with_trip(**changes))
    assert (found.rule, found.severity, found.pointer) == ("C04", "warn", TRIP)
    assert found.message == f"The truck manifest of unit U1 lacks {missing}."


def expire(on: str, **changes: Any) -> Json:
    """Return a driver whose travel document is valid until the day."""
    return member(documents=[member()["documents"][0] | {"expiresOn": on}], **changes)


@table(
    ("changes", "place"),
    [
        ({}, None),
        ({"truck": {"licensePlate": "DEMO 100", "plateRegion": "ON"}}, None),
        ({"truck": {"vin": "1M8GDM9AXKP042788"}}, None),
        ({"crew": [expire("2026-11-26", dateOfBirth="2026-11-26")]}, None),
        ({"crew": [member(dateOfBirth="1926-01-01")]}, None),
        ({"number": "ABCD261126"}, "/number"),
        ({"truck": {"vin": "1M8GDM9A1KP042788"}}, "/truck/vin"),
        ({"crew": [member(), member(familyName="Second")]}, "/crew"),
        ({"crew": [member(dateOfBirth="2026-11-27")]}, "/crew/0/dateOfBirth"),
        ({"crew": [member(dateOfBirth="1925-01-01")]}, "/crew/0/dateOfBirth"),
        ({"crew": [expire("2026-11-25")]}, "/crew/0/documents/0/expiresOn"),
    ],
)
def test_contradictions_of_trip_are_at_their_place(changes: dict[str, Any], place: str | None) -> None:
    assert list_findings(with_trip(**changes)) == ([] if place is None else [("C05", "warn", f"{TRIP}{place}")])
    rail = change_plan(with_trip(), f"{ENTRY}/modeOfTransport", "rail")
    assert list_findings(rail) == [("C05", "warn", TRIP)]


@pytest.mark.parametrize("number", ["DEMO261126A", "261126A"])
def test_trip_has_another_number_than_its_shipment(number: str) -> None:
    found = findings(change_plan(with_trip(), f"{ENTRY}/shipmentControlNumber", number))
    (same,) = [each for each in found if each.rule == "C05"]
    assert (same.severity, same.pointer) == ("warn", f"{TRIP}/number")
    assert "is also its shipment control number" in same.message


def test_findings_repeat_no_personal_data() -> None:
    found = findings(with_trip(crew=[expire("2020-01-02", dateOfBirth="1899-12-31")]))
    assert len(found) == 2
    text = "".join(each.model_dump_json() for each in found)
    assert not [word for word in ("1899", "2020", "DEMO41999", "Example", "Driver") if word in text]


def test_invalid_personal_data_are_not_repeated_in_errors() -> None:
    for person in (
        member(dateOfBirth="1961-13-03"),
        member(documents=[{**member()["documents"][0], "number": "bad 1"}]),
    ):
        with pytest.raises(ValidationError) as refused:
            Plan.model_validate(with_trip(crew=[person]))
        messages = [each["msg"] for each in refused.value.errors()]
        assert not [each for each in messages if "1961" in each or "bad 1" in each]


def test_units_of_one_trip_have_one_truck_and_own_numbers() -> None:
    both, other = plan(2), "/units/1/entry"
    for unit in both["units"]:
        unit["entry"]["trip"] = trip()
    assert list_findings(both) == []
    changed = change_plan(change_plan(both, f"{other}/trip/truck/vin", None), f"{other}/portOfEntry", "0712")
    (found,) = findings(changed)
    assert (found.rule, found.pointer) == ("C05", f"{other}/trip")
    assert found.message == "Units U1 and U2 are on one trip, but differ in port and truck."
    twice = change_plan(both, f"{other}/shipmentControlNumber", both["units"][0]["entry"]["shipmentControlNumber"])
    assert list_findings(twice) == [("C02", "warn", f"{other}/shipmentControlNumber")]


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("1M8GDM9AXKP042788", True),
        ("1G4AH59H45G118341", True),  # the example of 49 CFR 565.15, table V
        ("11111111111111111", True),
        ("5GZCZ43D13S812715", True),
        ("5GZCZ43D23S812715", False),
    ],
)
def test_vin_has_check_digit(number: str, *, valid: bool) -> None:
    assert is_vin(number) is valid
