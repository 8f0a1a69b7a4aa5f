"""The duty of column 1: by the general rate or the claimed program's, with its arithmetic, and never guessed."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.customs.tariff.deposits import DeclaredCase
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts, list_pairs
from pipeline.customs.valuation.duties import column_1_duty, deposit_duty
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.exports.schemas.entry_estimate import DutyRow, EntryEstimate
from pipeline.exports.schemas.plan import Line, Unit
from tests.documents.samples import put, unit_data
from tests.support.memory import LINEAR, measure_cost_ratio

EDITION = KeptEdition(name="hts_rev_6", effective_from=date(2026, 10, 1), content_hash=f"sha256:{'a' * 64}")
SPECIAL = "Free (A*,AU,S) 2.5% (KR) See 9822.05.10 (P+)"
CITED = "Rates of column 1: edition hts_rev_6 from 2026-10-01, sha256:aaaaaaaaaaaa"


def lines(count: int = 1, **changes: Any) -> list[Line]:
    data = unit_data(count)
    for line in data["lines"]:
        line.update({"spi": None, "quantity": "12", "unit": "NO", "netWeightKg": "3.6"} | changes)
    return Unit.model_validate(data).lines


def duty(general: str, entered: int | None = 300, *, special: str = SPECIAL, **changes: Any) -> DutyRow:
    rate = KeptRate(suffix=False, general=general, special=special)
    return column_1_duty(lines(**changes), None if entered is None else Decimal(entered), rate)


@pytest.mark.parametrize(
    ("general", "amount", "arithmetic"),
    [
        ("Free", "0", None),
        ("2%", "6.00", "300 x 2 % = 6.00"),
        ("3.3¢/kg", "0.12", "3.6 x $0.033/kg = 0.12"),
        ("51¢ each", "6.12", "12 x $0.51/each = 6.12"),
        ("$1.50/No. + 8.5%", "43.50", "12 x $1.50/No. + 300 x 8.5 % = 43.50"),
        ("20¢/doz.", "0.20", "1 x $0.20/doz. = 0.20"),
    ],
)
def test_each_kind_of_rate_is_calculated(general: str, amount: str, arithmetic: str | None) -> None:
    row = duty(general)
    assert (row.rate, row.amount_usd, row.arithmetic, row.note) == (general, Decimal(amount), arithmetic, None)
    assert row.source == "general rate of 7323.93.00"


@pytest.mark.parametrize(
    ("general", "words"),
    [
        ("See 9802.00.40", 'check: a person must read the rate "See 9802.00.40"'),
        ("The duty provided in the applicable subheading + 10%", "check: a person must read the rate"),
        ("51¢ each + 6.25% on the case + 5.3% on the battery", "check: a person must read the rate"),
        ("$1.50/pf. liter", "check: the plan does not give the quantity in pf. liter"),
        ("3¢/stick", "check: the plan does not give the quantity in stick"),
        ("", "check: the tariff has no general rate for the number"),
    ],
)
def test_rate_that_cannot_be_read_or_priced_is_for_a_person(general: str, words: str) -> None:
    row = duty(general)
    assert (row.amount_usd, row.arithmetic) == (None, None)
    assert (row.note or "").startswith(words)


@pytest.mark.parametrize(
    ("spi", "amount", "rate", "note"),
    [
        ("S", "0", "Free", "as claimed"),
        ("KR", "7.50", "2.5%", "as claimed"),
        ("A", "0", "Free", "as claimed; some countries are excluded"),
        ("P+", None, "See 9822.05.10", 'check: a person must read the rate "See 9822.05.10"'),
        ("JO", None, None, "check: the special column does not name JO"),
    ],
)
def test_claimed_program_takes_its_special_rate(spi: str, amount: str | None, rate: str | None, note: str) -> None:
    row = duty("6.8%", spi=spi)
    assert (row.amount_usd, row.rate, row.note) == (None if amount is None else Decimal(amount), rate, note)
    assert (row.source or "").startswith("special")


def test_free_goods_are_free_with_any_claim() -> None:
    row = duty("Free", spi="JO", special="")
    assert (row.amount_usd, row.rate) == (Decimal(0), "Free")


@pytest.mark.parametrize("origin", ["RU", "BY", "CU", "KP"])
def test_goods_that_may_take_column_2_are_not_priced(origin: str) -> None:
    row = duty("2%", countryOfOrigin=origin)
    assert (row.amount_usd, row.note) == (None, f"check: goods of {origin} may take column 2")


def test_entry_quantities_of_merged_lines_are_added() -> None:
    stated = [{"quantity": "1.25", "unit": "DPR"}, {"quantity": "0.9", "unit": "KG"}]
    rate = KeptRate(suffix=True, general="10¢/doz. pr. + 2%")
    merged = column_1_duty(lines(2, unit="PRS", entryQuantities=stated), Decimal(100), rate)
    assert merged.arithmetic == "2.5 x $0.10/doz. pr. + 100 x 2 % = 2.25"
    assert column_1_duty([*lines(1, unit="PRS"), *lines(1, unit="M2")], Decimal(100), rate).amount_usd is None


def test_value_without_exchange_rate_has_no_duty() -> None:
    row = duty("2%", None)
    assert (row.amount_usd, row.note) == (None, "there is no exchange rate")


@given(some.integers(0, 10**9), some.decimals("0.1", "400", places=1))
def test_duty_is_the_nearest_cent(entered: int, percent: Decimal) -> None:
    row = duty(f"{percent}%", entered)
    assert row.amount_usd is not None
    assert abs(Fraction(row.amount_usd) - (Fraction(entered) * Fraction(percent) / 100)) <= Fraction(1, 200)


def estimate(
    rates: dict[str, str | None], change: Mapping[str, Any] | None = None, *, kept: bool = True
) -> EntryEstimate:
    data = unit_data(3)
    data["invoice"] |= {"charges": [], "discounts": [], "assists": "none"}
    put(data, {f"lines/{at}/spi": None for at in range(3)} | dict(change or {}))
    unit = Unit.model_validate(data)
    found = [rates.get(number, "2%") for number, _ in list_pairs(unit.lines)]
    kept_rates = tuple(None if each is None else KeptRate(suffix=False, general=each) for each in found)
    facts = TariffFacts(edition=EDITION, rates=kept_rates)
    return build_estimate(unit, date(2026, 11, 27), [[1], [2], [3]], facts if kept else None)


def test_estimate_adds_column_1_to_the_duty() -> None:
    known, unknown = estimate({}), estimate({}, kept=False)
    assert [row.duties[-1].amount_usd for row in known.lines] == [Decimal("6.00"), Decimal("9.96"), Decimal("1.02")]
    assert known.duty_usd == (unknown.duty_usd or 0) + Decimal("16.98")
    assert not any("column 1" in each for each in known.missing)


def test_estimate_without_edition_says_once_that_column_1_is_not_in_it() -> None:
    unknown = estimate({}, kept=False)
    assert [each for each in unknown.missing if "column 1" in each] == [
        "the duty of column 1 for 3 lines: look the rate up in the tariff"
    ]
    assert {row.duties[-1].source for row in unknown.lines} == {None}
    assert (unknown.editions, estimate({}).editions) == ((), (CITED,))


def test_number_that_the_edition_lacks_is_looked_up() -> None:
    first = unit_data(3)["lines"][0]["htsCode"]
    assert estimate({first: None}).lines[0].duties[-1].note == "look the rate up in the tariff"


def test_total_with_column_1_and_exempt_values_take_no_second_duty() -> None:
    total = {"heading": "9903.94.51", "program": "S232_AUTO", "ratePercent": "15", "basis": "total_with_column_1"}
    claim = {"provision": "9801.00.10", "exemptValue": "498.00", "dutiableValue": "0"}
    change = {"lines/0/treatment/chapter99": [total], "lines/1/chapter98": claim}
    first, second, third = estimate({}, change).lines
    assert [row.heading for row in first.duties] == ["9903.94.51"]
    assert (second.duties[-1].heading, second.duties[-1].amount_usd) == ("column 1", Decimal(0))
    assert third.duties[-1].amount_usd == Decimal("1.02")


@pytest.mark.parametrize(
    ("kept", "declared", "amount", "note"),
    [
        ("20.56%", None, "20.56", "antidumping deposit, as declared"),
        (None, "7.66%", "7.66", "antidumping deposit, at the plan's rate"),
        ("20.56%", "7.66%", "20.56", "antidumping deposit, as declared"),
        ("$0.50/kg", None, "1.80", "antidumping deposit, as declared"),
        (None, None, None, "check: look the antidumping deposit rate up"),
        ("see the order", None, None, 'check: a person must read the rate "see the order"'),
    ],
)
def test_deposit_takes_the_kept_rate_before_the_declared_one(
    kept: str | None, declared: str | None, amount: str | None, note: str
) -> None:
    row = deposit_duty(DeclaredCase("A-122-857-000", "A122857000", declared), lines(), Decimal(100), kept)
    assert (row.heading, row.note) == ("A-122-857-000", note)
    assert row.amount_usd == (None if amount is None else Decimal(amount))


def test_deposits_are_in_the_duty_of_their_line() -> None:
    two = {"adCvdCase": "A-122-857-000, C-122-858-000", "adCvdRate": "10%, 5%"}
    change = {"lines/1/attributes": two, "lines/2/attributes": {"adCvdCase": "softwood"}}
    plain, declared = estimate({}), estimate({}, change)
    assert [(row.heading, row.amount_usd) for row in declared.lines[1].duties[-2:]] == [
        ("A-122-857-000", Decimal("49.80")), ("C-122-858-000", Decimal("24.90")),
    ]  # fmt: skip
    assert declared.duty_usd == (plain.duty_usd or 0) + Decimal("74.70")
    assert "the duty of softwood for 1 line: check: look the deposit rate up" in declared.missing


@pytest.mark.system
def test_ten_times_the_different_lines_cost_ten_times_as_much() -> None:
    def build(count: int) -> tuple[Unit, TariffFacts]:
        data = unit_data(1)
        (line,) = data["lines"]
        data["lines"] = [line | {"lineRef": f"L{n}", "htsCode": f"{7300000000 + n}"} for n in range(1, count + 1)]
        rates = tuple(KeptRate(suffix=False, general="2%") for _ in range(count))
        return Unit.model_validate(data), TariffFacts(edition=EDITION, rates=rates)

    def work(given_: tuple[Unit, TariffFacts]) -> None:
        unit, facts = given_
        found = build_estimate(unit, date(2026, 11, 27), [[n] for n in range(1, len(unit.lines) + 1)], facts)
        assert {row.duties[-1].rate for row in found.lines} == {"2%"}

    assert measure_cost_ratio(work, build(100), build(1_000)) < LINEAR
