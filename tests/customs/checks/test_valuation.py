"""Freight inside and between countries, and charges that count or do not count for the entered value."""

from decimal import Decimal
from typing import Any, get_args

import pytest

from pipeline.customs.checks.valuation import check_charges
from pipeline.customs.reference.valuation import ChargeRule, valuation_rules
from pipeline.exports.schemas.plan import Charge, Unit
from tests.customs.cases import UNIT, findings, list_findings, with_changes
from tests.customs.valuation.test_estimate import estimate, invoice
from tests.documents.samples import unit_data
from tests.support.factories import Json

CHARGES = f"{UNIT}/invoice/charges"
CODES = get_args(Charge.model_fields["code"].annotation)


def charge(code: str, amount: str = "80.00", **more: Any) -> Json:
    return {"code": code, "name": None, "amount": amount, "includedInPrices": False} | more


def list_charge_findings(*charges: Json) -> list[tuple[str, str, str]]:
    return [each for each in list_findings(with_changes((CHARGES, list(charges)))) if each[0].startswith("V17-")]


def test_freight_alone_may_hold_inland_freight() -> None:
    assert list_charge_findings(charge("freight")) == [("V17-FREIGHT", "note", f"{CHARGES}/0/code")]


def test_freight_in_the_prices_is_deducted_and_needs_a_person() -> None:
    found = list_charge_findings(charge("insurance"), charge("freight", includedInPrices=True))
    assert found == [("V17-FREIGHT", "warn", f"{CHARGES}/1/code")]


@pytest.mark.parametrize(
    "charges",
    [
        [],
        [charge("freight", dutiable=False)],
        [charge("freight"), charge("inland_freight", "20.00")],
        [charge("inland_freight", "0"), charge("freight")],
        [charge("freight", "0")],
        [charge("inland_freight")],
        [charge("insurance"), charge("duty"), charge("packing")],
    ],
)
def test_freight_that_is_split_or_stated_is_not_asked_about(charges: list[Json]) -> None:
    assert list_charge_findings(*charges) == []


@pytest.mark.parametrize("code", ["handling", "commission", "other"])
def test_charge_without_a_side_needs_a_person(code: str) -> None:
    assert list_charge_findings(charge(code)) == [("V17-CHARGE", "warn", f"{CHARGES}/0/code")]
    assert list_charge_findings(charge(code, dutiable=True)) == []
    assert list_charge_findings(charge(code, dutiable=False)) == []
    assert list_charge_findings(charge(code, "0")) == []


@pytest.mark.parametrize(
    ("code", "stated"), [("packing", False), ("freight", True), ("insurance", True), ("duty", True)]
)
def test_statement_against_a_rule_is_found_and_not_followed(code: str, *, stated: bool) -> None:
    assert ("V17-CHARGE", "warn", f"{CHARGES}/0/dutiable") in list_charge_findings(charge(code, dutiable=stated))
    rule = valuation_rules().find_charge(code)
    assert rule.counts(stated) == rule.dutiable


@pytest.mark.parametrize(
    ("code", "included", "effect", "total"),
    [
        ("inland_freight", False, "none", "849.00"),
        ("inland_freight", True, "deducted", "749.00"),
        ("handling", False, "none", "849.00"),
        ("commission", True, "deducted", "749.00"),
    ],
)
def test_estimate_follows_the_plan_if_the_facts_decide(code: str, *, included: bool, effect: str, total: str) -> None:
    row = {"code": code, "amount": "100.00", "includedInPrices": included, "dutiable": False}
    found = estimate(invoice(charges=[row]))
    (adjustment,) = found.adjustments
    assert (adjustment.effect, found.total_dutiable_value) == (effect, Decimal(total))
    assert adjustment.text.startswith("The plan says that it does not count: ")


def test_through_carriage_is_shipping_of_the_entry() -> None:
    row = {"code": "inland_freight", "amount": "84.90", "includedInPrices": False, "dutiable": False}
    assert [line.charges_usd for line in estimate(invoice(charges=[row])).lines] == [30, 50, 5]


@pytest.mark.parametrize("code", ["commission", "other"])
def test_charge_other_than_carriage_does_not_count_as_shipping(code: str) -> None:
    row = {"code": code, "amount": "84.90", "includedInPrices": False, "dutiable": False}
    assert [line.charges_usd for line in estimate(invoice(charges=[row])).lines] == [0, 0, 0]


@pytest.mark.parametrize(("amount", "found"), [("849.00", []), ("849.01", [("block", f"{UNIT}/invoice/charges")])])
def test_value_below_zero_is_refused(amount: str, found: list[tuple[str, str]]) -> None:
    data = unit_data(3)
    data["invoice"] |= {"discounts": [], "charges": [charge("insurance", amount, includedInPrices=True)]}
    rows = list(check_charges(Unit.model_validate(data), UNIT))
    assert [(row.severity, row.pointer) for row in rows] == found
    assert all("worth 849.00 USD" in row.message and "lower that by 849.01" in row.message for row in rows)


def test_finding_names_charge_and_fact() -> None:
    changed = with_changes((CHARGES, [charge("freight", dutiable=False), charge("other", "1.00", name="Pallet fee")]))
    (found,) = (each for each in findings(changed) if each.rule == "V17-CHARGE")
    assert found.message.endswith("entered value: Pallet fee. The estimate counts it.")
    assert "false if it is not a part of the price of the goods" in found.remedy


def test_undecided_rows_name_the_fact_that_decides() -> None:
    rows = valuation_rules().charges
    assert {row.code for row in rows if not row.decided} == {"handling", "commission", "other"}
    assert all(row.unless for row in rows if not row.decided)
    assert {row.code for row in rows} == set(CODES)


def test_row_of_an_older_folder_is_decided() -> None:
    row = {"code": "other", "dutiable": True, "text": "x", "source": "y", "confidence": "low", "status": "check"}
    older = ChargeRule.model_validate(row)
    assert (older.decided, older.counts(False)) == (True, True)
