"""The Canadian side of an export: a declaration with its proof, or the reason why none is required."""

from typing import Any

import pytest
from pydantic import ValidationError
from stdnum.ca import bn

from pipeline.customs.checks.export_report import is_business_number
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import UNIT, findings, list_findings, with_changes
from tests.customs.transport_cases import canadian_export
from tests.support.factories import Json
from tests.support.tables import table

SIDE = f"{UNIT}/canadianExport"
PERMIT = {"kind": "permit", "number": "EIPA-100", "issuedBy": "Global Affairs Canada", "expiresOn": "2026-12-31"}


def with_side(*changes: tuple[str, Any], **side: Any) -> Json:
    return with_changes((SIDE, canadian_export(**side)), *changes)


@pytest.mark.parametrize(
    "side",
    [
        {},
        {
            "noDeclarationCode": None,
            "statement": "Restricted goods for the United States, under permit",
            "permits": [PERMIT],
        },
        {"noDeclarationCode": "NDR4", "statement": "A.T.A. carnet DEMO-1"},
        {"declaration": "cers", "noDeclarationCode": None, "proofOfReport": "DEMO2026112600001"},
        {"noDeclarationCode": "NDR13", "cargoControlNumber": "1234DEMO5678"},
        {"declaration": "summary_report", "noDeclarationCode": None, "proofOfReport": "DEMO-SR-1", "permits": [PERMIT]},
    ],
)
def test_complete_side_has_no_finding(side: dict[str, Any]) -> None:
    assert list_findings(with_side(**side)) == []


@pytest.mark.parametrize(
    ("side", "found"),
    [
        ({"businessNumber": "123456789RM0001"}, [("C10", "businessNumber")]),
        (
            {"declaration": "cers", "noDeclarationCode": None, "businessNumber": None},
            [("C10", "businessNumber"), ("C11", "proofOfReport")],
        ),
        ({"declaration": "cers", "proofOfReport": "DEMO1"}, [("C12", "noDeclarationCode")]),
        ({"noDeclarationCode": None}, [("C11", "noDeclarationCode")]),
        ({"noDeclarationCode": "NDR99"}, [("C12", "noDeclarationCode")]),
        ({"noDeclarationCode": "NDR5"}, [("C11", "statement")]),
        ({"permits": [PERMIT]}, [("C12", "noDeclarationCode")]),
        ({"noDeclarationCode": "NDR10", "permits": [PERMIT]}, [("C12", "noDeclarationCode")]),
        (
            {"noDeclarationCode": None, "statement": "Under permit", "permits": [PERMIT | {"expiresOn": "2026-11-25"}]},
            [("C13", "permits/0/expiresOn")],
        ),
    ],
)
def test_gaps_and_contradictions_are_at_their_place(side: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert list_findings(with_side(**side)) == [(rule, "warn", f"{SIDE}/{place}") for rule, place in found]


@pytest.mark.parametrize("number", ["DEMO1234567", "1234567"])
def test_cargo_control_number_is_another_than_that_of_the_entry(number: str) -> None:
    entered = (f"{UNIT}/entry/shipmentControlNumber", "DEMO1234567")
    short = (f"{UNIT}/entry/shipmentControlNumber", number)
    assert list_findings(with_side(entered, cargoControlNumber="1234DEMO5678")) == []
    (same,) = [each for each in findings(with_side(short, cargoControlNumber="DEMO1234567")) if each.rule == "C14"]
    assert (same.severity, same.pointer) == ("warn", f"{SIDE}/cargoControlNumber")
    assert "DEMO1234567" in same.message


@pytest.mark.parametrize("number", ["1234", "1234demo", "1234 5678", "1" * 26, ""])
def test_cargo_control_number_of_another_form_is_refused(number: str) -> None:
    with pytest.raises(ValidationError, match="cargoControlNumber"):
        Plan.model_validate(with_side(cargoControlNumber=number))


@pytest.mark.parametrize("name", ["BN", "businessNumber"])
@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        ("123456782RM0001", False),
        ("123456789RM0001", True),
        ("123456789 RT 0001", True),
        ("123 456 789", True),
        ("1234567890", False),  # another number, such as of a province
        ("QC-99", False),
    ],
)
def test_business_number_of_the_seller_has_check_digit(name: str, number: str, *, wrong: bool) -> None:
    found = list_findings(with_changes((f"{UNIT}/parties/seller/identifiers", {name: number})))
    assert found == ([("C10", "warn", f"{UNIT}/parties/seller/identifiers/{name}")] if wrong else [])


def test_low_value_is_compared_in_canadian_dollars() -> None:
    dollars = [(f"{UNIT}/invoice/currency", "CAD"), (f"{UNIT}/invoice/exchangeRate", "0.7150")]
    assert list_findings(with_side(*dollars, noDeclarationCode="NDR2")) == []
    dear = [(f"{UNIT}/lines/0/unitPrice", "500.00"), (f"{UNIT}/lines/0/lineValue", "2000.00")]
    (found,) = findings(with_side(*dollars, *dear, (f"{UNIT}/invoice/total", "2178.00"), noDeclarationCode="NDR2"))
    assert (found.rule, found.pointer) == ("C12", f"{SIDE}/noDeclarationCode")
    assert found.message.endswith("worth less than 2000 CAD, but unit U1 is worth 2,103.00 CAD.")


def test_side_of_another_country_is_a_contradiction() -> None:
    (found,) = findings(with_side(("/exportCountry", "MX")))
    assert (found.rule, found.severity, found.pointer) == ("C12", "warn", SIDE)


@pytest.mark.parametrize(("digits", "valid"), [("123456782", True), ("123456789", False), ("000000000", True)])
def test_business_number_has_check_digit(digits: str, *, valid: bool) -> None:
    assert is_business_number(digits) is valid


@table("digits", [f"{number:09d}" for number in range(123456700, 123456800)])
def test_business_number_is_checked_as_by_an_independent_library(digits: str) -> None:
    assert is_business_number(digits) == bn.is_valid(digits)
