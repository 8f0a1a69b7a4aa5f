"""Claims of chapter 98: known provisions, the division of the line value, and the proof."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.reference.chapter98 import Chapter98Rules, chapter98_rules
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, enter_on, findings, list_findings, with_changes
from tests.support.factories import Json
from tests.support.tables import table

#: The pans are worth 50.00, are of Canadian origin, and are entered on 2026-11-26.
CLAIM = f"{PAN}/chapter98"


def claim(provision: str, exempt: str, dutiable: str, **other: Any) -> Json:
    values = {"provision": provision, "exemptValue": exempt, "dutiableValue": dutiable}
    return values | {"exportedOn": "2026-05-04", "proof": "Foreign shipper's declaration"} | other


@table(
    ("claimed", "expected"),
    [
        (claim("9801.00.10", "50.00", "0"), ()),
        (claim("9801.00.10.12", "50", "0.00", exportedOn="2023-11-26"), ()),
        (claim("9801.00.20", "50.00", "0", exportedOn=None), ()),
        (claim("9801.00.25.00", "50.00", "0", exportedOn=None), ()),
        (claim("9801.00.26", "50.00", "0", exportedOn="2025-11-26"), ()),
        (claim("9802.00.40", "40.00", "10.00", exportedOn=None), ()),
        (claim("9802.00.50", "40.00", "10.00"), ()),
        (claim("9802.00.80", "0.01", "49.99"), ()),
        (claim("9801.00.10", "40.00", "0"), ("H11", "block", f"{CLAIM}/dutiableValue")),
        (claim("9802.00.50", "50.00", "10.00"), ("H11", "block", f"{CLAIM}/dutiableValue")),
        (claim("9801.00.10", "40.00", "10.00"), ("H11", "warn", f"{CLAIM}/dutiableValue")),
        (claim("9802.00.50", "50.00", "0"), ("H11", "warn", f"{CLAIM}/dutiableValue")),
        (claim("9802.00.50", "0", "50.00"), ("H11", "warn", f"{CLAIM}/exemptValue")),
        (claim("9802.00.50", "40.00", "10.00", proof=None), ("H12", "warn", f"{CLAIM}/proof")),
        (claim("9801.00.10", "50.00", "0", exportedOn=None), ("H12", "warn", f"{CLAIM}/exportedOn")),
        (claim("9801.00.10", "50.00", "0", exportedOn="2023-11-25"), ("H12", "block", f"{CLAIM}/exportedOn")),
        (claim("9801.00.26", "50.00", "0", exportedOn="2025-11-25"), ("H12", "block", f"{CLAIM}/exportedOn")),
        (claim("9801.00.25", "40.00", "10.00"), ("H11", "warn", f"{CLAIM}/dutiableValue")),
        (claim("9813.00.05", "50.00", "0"), ("H10", "note", f"{CLAIM}/provision")),
    ],
)
def test_wrong_claim_has_one_finding_at_its_place(claimed: Json, expected: tuple[str, ...]) -> None:
    assert list_findings(with_changes((CLAIM, claimed))) == ([expected] if expected else [])


def test_goods_of_the_united_states_have_no_limit_of_years() -> None:
    found = list_findings(
        with_changes((CLAIM, claim("9801.00.10", "50.00", "0", exportedOn=None)), (f"{PAN}/countryOfOrigin", "US"))
    )
    assert "H12" not in {rule for rule, *_ in found}


def test_return_of_a_person_has_a_limit_whatever_the_origin() -> None:
    late = claim("9801.00.26", "50.00", "0", exportedOn="2025-11-25")
    found = findings(with_changes((CLAIM, late), (f"{PAN}/countryOfOrigin", "US")))
    assert [each.message for each in found if each.rule == "H12"] == [
        "Line L1: goods of US may claim 9801.00.26 for 1 year after they left the United States, and they left it on 2025-11-25."
    ]


def test_leap_day_ends_on_the_last_of_february() -> None:
    left = claim("9801.00.10", "50.00", "0", exportedOn="2024-02-29")
    for arrives, rules in (("2027-02-28", []), ("2027-03-01", ["H12"])):
        changed = with_changes((CLAIM, left), *enter_on(arrives))
        assert [each.rule for each in findings(changed) if each.rule.startswith("H")] == rules


def test_number_of_chapter_98_as_code_of_the_goods_names_the_remedy() -> None:
    (found,) = [each for each in findings(with_changes((f"{PAN}/htsCode", "9801001012"))) if each.rule == "V08"]
    assert found.remedy == "Give the number of the goods as htsCode, and 9801001012 as chapter98."


@pytest.mark.parametrize(
    "wrong", [claim("9903.82.09", "50", "0"), claim("98010010", "50", "0"), claim("9801.00.10", "-1", "51")]
)
def test_claim_of_another_form_is_refused(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(with_changes((CLAIM, wrong)))


def test_provision_twice_is_refused() -> None:
    table = chapter98_rules().model_dump(by_alias=True)
    table["provisions"] = [table["provisions"][0]] * 2
    with pytest.raises(ValidationError, match=r"provisions has 9801\.00\.10 twice"):
        Chapter98Rules.model_validate(table)
    assert chapter98_rules().find_provision("9801.00.10.12", date(2026, 11, 26)) is not None
