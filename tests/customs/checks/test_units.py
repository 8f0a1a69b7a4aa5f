"""Units of quantity: known ones, exact conversions, and entry quantities that agree with the line."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from pipeline.customs.reference.units import UnitRules, unit_rules
from pipeline.customs.tariff.quantity import find_exact_quantity
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import SHIRT, findings, list_findings, with_changes
from tests.support.factories import Json


def quantities(**by_unit: str) -> list[Json]:
    return [{"quantity": quantity, "unit": unit} for unit, quantity in by_unit.items()]


@pytest.mark.parametrize(
    ("quantity", "unit", "to", "result"),
    [
        ("15", "PRS", "DPR", "1.25"), ("14", "NO", "DOZ", "1.166666666667"), ("24", "PCS", "DOZ", "2"),
        ("1.5", "DOZ", "NO", "18"), ("2500", "G", "KG", "2.5"), ("5", "CAR", "G", "1"), ("1", "M2", "CM2", "10000"),
        ("750", "ML", "L", "0.75"), ("10", "LB", "KG", "4.5359237"), ("2", "YD", "M", "1.8288"), ("3", "GRS", "GR", "3"),
        ("2", "CKG", "KG", None), ("1", "BBL", "L", None), ("7", "KG", "KG", "7"), ("7", "XYZ", "XYZ", "7"),
        ("2", "NO", "PRS", None), ("2", "KG", "NO", None), ("2", "XYZ", "NO", None),
    ],
)  # fmt: skip
def test_only_exact_conversions_are_made(quantity: str, unit: str, to: str, result: str | None) -> None:
    assert unit_rules().convert(Decimal(quantity), unit, to) == (None if result is None else Decimal(result))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("No.", "NO"), ("doz. pr.", "DPR"), ("doz. prs.", "DPR"), ("DOZ.", "DOZ"), ("m²", "M2"), ("pf. liters", "PFL"),
        ("pf.liters", "PFL"), ("thousand m3", "KM3"), ("Cu kg", "CKG"), ("Ag g", "CGM"), ("kg cmsc", "CKG"),
        ("clean kg", "CYK"), ("Jwls.", "JWL"), ("gr.lines", "GRL"), ("lin. m", "LNM"), ("GBq", "GBQ"), ("1/", None),
        ("t adw", None),
    ],
)  # fmt: skip
def test_names_of_the_tariff_are_known(name: str, code: str | None) -> None:
    unit = unit_rules().find_unit(name)
    assert (unit and unit.code) == code


def test_table_with_a_name_twice_is_refused() -> None:
    table = unit_rules().model_dump(by_alias=True)
    table["units"][1]["names"] = ("no",)
    with pytest.raises(ValidationError, match="units has no twice"):
        UnitRules.model_validate(table)
    table = unit_rules().model_dump(by_alias=True) | {"net_weight": "QQ"}
    with pytest.raises(ValidationError, match="units lacks QQ"):
        UnitRules.model_validate(table)


@pytest.mark.parametrize(
    ("unit", "stated"),
    [
        ("NO", quantities(DOZ="0.33", KG="0.9")),
        ("NO", quantities(NO="4", KG="0.90")),
        ("NO", quantities(NO="4", KG="1")),
        ("PRS", quantities(DPR="0.33", KG="0.9")),
        ("NO", quantities(M2="7.5", KG="0.9")),
    ],
)
def test_agreeing_entry_quantities_have_no_finding(unit: str, stated: list[Json]) -> None:
    changed = with_changes(
        (f"{SHIRT}/unit", unit), (f"{SHIRT}/netWeightKg", "0.9"), (f"{SHIRT}/entryQuantities", stated)
    )
    assert list_findings(changed) == []


def test_unknown_unit_is_a_warning_at_its_place() -> None:
    changed = with_changes((f"{SHIRT}/unit", "XYZ"), (f"{SHIRT}/entryQuantities", quantities(XYZ="4", QQ="2")))
    assert list_findings(changed) == [
        ("H02", "warn", f"{SHIRT}/unit"),
        ("H02", "warn", f"{SHIRT}/entryQuantities/0/unit"),
        ("H02", "warn", f"{SHIRT}/entryQuantities/1/unit"),
    ]
    assert "Write a unit as the entry does: BBL, CAR, CC" in findings(changed)[0].remedy


def test_entry_quantity_that_differs_is_named_with_its_arithmetic() -> None:
    stated = [*quantities(DOZ="4", KG="0.9"), *quantities(KG="0.9")]
    changed = with_changes((f"{SHIRT}/netWeightKg", "0.9"), (f"{SHIRT}/entryQuantities", stated))
    dozens, twice = findings(changed)
    assert (dozens.rule, dozens.pointer) == ("H04", f"{SHIRT}/entryQuantities/0/quantity")
    assert dozens.message.endswith("entry quantity 4 DOZ differs from 4 NO, which are 0.33 DOZ.")
    assert (twice.rule, twice.pointer) == ("H04", f"{SHIRT}/entryQuantities/2/unit")


def test_net_weight_is_an_exact_quantity_in_kilograms_only() -> None:
    line = Plan.model_validate(with_changes((f"{SHIRT}/netWeightKg", "0.9"))).units[0].lines[1]
    rules = unit_rules()
    assert find_exact_quantity(line, "KG", rules) == (Decimal("0.9"), "0.9 kg net")
    assert find_exact_quantity(line, "G", rules) == (Decimal(900), "0.9 kg net")
    assert find_exact_quantity(line, "M2", rules) is None


@pytest.mark.parametrize("stated", [quantities(DOZ="0"), quantities(doz="1"), quantities(A="1", B="1", C="1", D="1")])
def test_entry_quantities_of_another_form_are_refused(stated: list[Json]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(with_changes((f"{SHIRT}/entryQuantities", stated)))
