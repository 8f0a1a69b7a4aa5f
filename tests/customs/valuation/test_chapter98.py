"""The duty of a claim of chapter 98: on its part with duty as far as a rule says so, with the arithmetic, and never guessed."""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.customs.reference.chapter98 import chapter98_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts
from pipeline.customs.valuation.chapter98 import GOODS, divide_value
from pipeline.customs.valuation.entered_value import line_values
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.exports.schemas.entry_estimate import DutyRow, EntryLine
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import unit_data

DAY = date(2026, 11, 27)
EDITION = KeptEdition(name="hts_rev_6", effective_from=date(2026, 10, 1), content_hash=f"sha256:{'a' * 64}")
REPAIRS = "on the value with duty of 9802.00.50 (probable: HTSUS 9802.00.40 and .50, subchapter II U.S. note 3, in transcriptions)"


def divided_unit(
    provision: str, exempt: str, dutiable: str, *, headings: tuple[dict[str, Any], ...] = (), **invoice: Any
) -> Unit:
    data = unit_data(1)
    data["invoice"] |= {"charges": [], "discounts": [], "assists": "none"} | invoice
    data["lines"][0]["treatment"]["chapter99"] = list(headings)
    data["lines"][0]["chapter98"] = {"provision": provision, "exemptValue": exempt, "dutiableValue": dutiable}
    return Unit.model_validate(data)


def heading(number: str, rate: str = "25", basis: str = "full_value") -> dict[str, Any]:
    return {"heading": number, "program": "P", "ratePercent": rate, "basis": basis}


def estimate_line(unit: Unit, general: str | None = "2%") -> EntryLine:
    facts = TariffFacts(edition=EDITION, rates=(None if general is None else KeptRate(suffix=True, general=general),))
    return build_estimate(unit, DAY, [[1]], facts).lines[0]


def the_duty(unit: Unit, general: str | None = "2%") -> DutyRow:
    (duty,) = estimate_line(unit, general).duties
    return duty


def test_duty_is_on_the_value_of_the_repairs() -> None:
    line = estimate_line(divided_unit("9802.00.50", "280.00", "20.00"))
    (duty,) = line.duties
    assert (duty.rate, duty.amount_usd, duty.base_usd) == ("2%", Decimal("0.40"), Decimal(20))
    assert (duty.arithmetic, duty.note) == ("20 x 2 % = 0.40", REPAIRS)
    assert duty.source == "general rate of 7323.93.00.45"
    assert line.division is not None
    assert line.division.arithmetic == "300 x 280.00 / 300.00 = 280 without duty, 300 - 280 = 20 with duty"
    assert (line.entered_value_usd, line.duty_usd) == (Decimal(300), Decimal("0.40"))


def test_discounts_and_the_exchange_rate_count_for_both_parts() -> None:
    discount = [{"name": "Early order", "amount": "30.00"}]
    unit = divided_unit("9802.00.50", "200.00", "100.00", discounts=discount, currency="CAD", exchangeRate="0.7150")
    line = estimate_line(unit)
    assert (line.dutiable_value_usd, line.entered_value_usd) == (Decimal("193.05"), Decimal(193))
    assert line.division is not None
    assert (line.division.exempt_value_usd, line.division.dutiable_value_usd) == (Decimal(129), Decimal(64))
    assert line.duties[0].arithmetic == "64 x 2 % = 1.28"


@pytest.mark.parametrize(
    ("row", "amount", "arithmetic", "words"),
    [
        (heading("9903.88.03"), "5.00", "20 x 25 % = 5.00", "(confirmed: HTSUS 2026 Revision 6, chapter 99 U.S. note 20"),
        (heading("9903.82.09"), "5.00", "20 x 25 % = 5.00", "(probable: HTSUS 2026 Revision 6, chapter 99 U.S. notes 16"),
        (heading("9903.05.31", "12.5"), None, None, "chapter 98 divides the value"),
        (heading("9903.99.99"), None, None, "chapter 98 divides the value"),
        (heading("9903.88.03") | {"ratePercent": None}, None, None, "the plan gives no rate"),
        (heading("9903.82.09", basis="metal_content"), None, None, "the rate is on metal content"),
    ],
)  # fmt: skip
def test_duty_of_a_heading_is_on_the_part_if_its_note_says_so(
    row: dict[str, Any], amount: str | None, arithmetic: str | None, words: str
) -> None:
    first, goods = estimate_line(divided_unit("9802.00.50", "280.00", "20.00", headings=(row,))).duties
    assert (first.amount_usd, first.arithmetic) == (None if amount is None else Decimal(amount), arithmetic)
    assert words in (first.note or "")
    assert goods.amount_usd == Decimal("0.40")


def test_section_232_is_on_the_full_value_of_metal_processed_abroad() -> None:
    rows = (heading("9903.82.09"), heading("9903.88.03"))
    metals, china, goods = estimate_line(divided_unit("9802.00.60", "280.00", "20.00", headings=rows)).duties
    assert [row.arithmetic for row in (metals, china, goods)] == [
        "300 x 25 % = 75.00", "20 x 25 % = 5.00", "20 x 2 % = 0.40",
    ]  # fmt: skip
    assert (metals.base_usd, metals.note) == (
        Decimal(300),
        "on the full value in spite of 9802.00.60 (confirmed: HTSUS 2026 Revision 6, chapter 99 U.S. notes 16(b), 19, 33, 37, 38, 39)",
    )


@pytest.mark.parametrize(
    ("provision", "bases"), [("9802.00.60", [20]), ("9802.00.80", [20]), ("9802.00.50", []), ("9801.00.10", [])]
)
def test_processing_fee_is_on_the_value_with_duty_of_two_provisions(provision: str, bases: list[int]) -> None:
    fees = build_estimate(divided_unit(provision, "280.00", "20.00"), DAY, [[1]]).fees
    assert [fee.base_usd for fee in fees] == bases


def test_total_with_column_1_is_on_the_part_once() -> None:
    total = heading("9903.94.43", "15", "total_with_column_1")
    duty = the_duty(divided_unit("9802.00.80", "280.00", "20.00", headings=(total,)))
    assert (duty.heading, duty.amount_usd) == ("9903.94.43", Decimal("3.00"))
    assert (duty.note or "").startswith("includes column 1; on the value with duty of 9802.00.80 (probable")


def test_goods_without_a_part_with_duty_are_free() -> None:
    found = estimate_line(divided_unit("9801.00.10.12", "300.00", "0", headings=(heading("9903.88.03"),)), None)
    assert [(row.heading, row.rate, row.amount_usd) for row in found.duties] == [
        ("9903.88.03", "25 %", Decimal("0.00")), ("column 1", "free (9801.00.10.12)", Decimal(0)),
    ]  # fmt: skip
    assert "(probable: HTSUS 9801.00.10, .20, .25 and .26, in transcriptions)" in (found.duties[1].note or "")
    assert found.duty_usd == 0


@pytest.mark.parametrize("provision", ["9802.00.50", "9802.00.60", "9802.00.80"])
def test_rate_on_a_quantity_counts_in_proportion(provision: str) -> None:
    unit = divided_unit(provision, "280.00", "20.00")
    kilograms = sum(Decimal(line.net_weight_kg) for line in unit.lines)
    duty = the_duty(unit, "33¢/kg + 8.5%")
    full = (kilograms * Decimal("0.33") + Decimal("25.50")).quantize(Decimal("0.01"))
    # Note 3(c): the rate in percent that gives the same duty on the full value, on the value of the change. Note 4(b): "the
    # total duties shall be reduced in such proportion". Both are the same.
    assert duty.amount_usd == (full * 20 / 300).quantize(Decimal("0.01"))
    assert (duty.arithmetic or "").endswith(f"= {full}; {full} x 20 / 300 = {duty.amount_usd}")
    assert duty.base_usd == 20


@pytest.mark.parametrize(
    ("provision", "origin", "rate", "amount", "note"),
    [
        ("9802.00.40", "VN", "free (S)", 0, "special rate (S) of 9802.00.40, as claimed; on the value with duty"),
        ("9802.00.50.60", "CN", "free (S)", 0, "special rate (S) of 9802.00.50.60, as claimed; on the value with duty"),
        ("9802.00.80", "VN", None, None, "check: the special column does not name S"),
        ("9802.00.50", "RU", None, None, "check: goods of RU may take column 2"),
    ],
)
def test_goods_repaired_in_canada_are_free_by_the_provision(
    provision: str, origin: str, rate: str | None, amount: int | None, note: str
) -> None:
    unit = divided_unit(provision, "280.00", "20.00")
    line = unit.lines[0].model_copy(update={"spi": "S", "country_of_origin": origin})
    duty = the_duty(unit.model_copy(update={"lines": [line]}))
    assert (duty.rate, duty.amount_usd) == (rate, amount)
    assert (duty.note or "").startswith(note)


def test_rate_on_an_unknown_quantity_names_it() -> None:
    duty = the_duty(divided_unit("9802.00.80", "280.00", "20.00"), "1.5¢/liter")
    assert (duty.amount_usd, duty.note) == (None, "check: the plan does not give the quantity in liter")


@pytest.mark.parametrize(
    ("unit", "general", "words"),
    [
        (divided_unit("9802.00.20", "280.00", "20.00"), "2%", "chapter 98 divides the value, and the filer decides"),
        (divided_unit("9802.00.50", "280.00", "10.00"), "2%", "chapter 98 divides the value, and the filer decides"),
        (
            divided_unit("9802.00.50", "280.00", "20.00", currency="CAD"), "2%",
            "chapter 98 divides the value, and the filer decides"),
        (divided_unit("9802.00.50", "280.00", "20.00"), None, "look the rate up in the tariff"),
        (divided_unit("9802.00.50", "280.00", "20.00"), "See 9903.01", "check: a person must read the rate"),
    ],
)  # fmt: skip
def test_what_no_rule_or_plan_says_has_no_duty(unit: Unit, general: str | None, words: str) -> None:
    duty = the_duty(unit, general)
    assert (duty.amount_usd, duty.base_usd) == (None, None)
    assert (duty.note or "").startswith(words)


def test_claims_of_merged_lines_are_added() -> None:
    data = divided_unit("9802.00.50", "280.00", "20.00").model_dump(mode="json", by_alias=True)
    second = {**data["lines"][0], "lineRef": "L2"}
    second["chapter98"] = second["chapter98"] | {"exemptValue": "299.50", "dutiableValue": "0.50"}
    data["lines"].append(second)
    (line,) = build_estimate(Unit.model_validate(data), DAY, [[1, 2]]).lines
    assert line.division is not None
    assert line.division.arithmetic == "600 x 579.50 / 600.00 = 580 without duty, 600 - 580 = 20 with duty"


AMOUNT = some.decimals(min_value=0, max_value=10**7, places=2)


@given(AMOUNT, AMOUNT, some.decimals("-100", "100", places=2), some.decimals("0.001", "200", places=4))
def test_parts_are_whole_dollars_and_add_up(exempt: Decimal, dutiable: Decimal, share: Decimal, rate: Decimal) -> None:
    lines = divided_unit("9802.00.50", str(exempt), str(dutiable)).lines
    (value,) = line_values([exempt + dutiable], max(share, -(exempt + dutiable)), Decimal(0), rate)
    parts = divide_value(lines, value)
    if not exempt + dutiable:
        assert parts is None
        return
    assert parts is not None
    assert value.entered_usd is not None
    assert parts.exempt_value_usd + parts.dutiable_value_usd == value.entered_usd
    assert parts.exempt_value_usd == parts.exempt_value_usd.to_integral_value()
    exact = Fraction(value.entered_usd) * Fraction(dutiable) / Fraction(exempt + dutiable)
    assert abs(Fraction(parts.dutiable_value_usd) - exact) <= Fraction(1, 2)


def test_every_program_and_provision_of_the_table_is_known() -> None:
    rules = chapter98_rules()
    programs = {each.id for each in ruleset().programs} | {GOODS}
    provisions = {row.provision for row in rules.provisions}
    for row in rules.duties:
        assert programs.issuperset(row.programs), row.name
        assert provisions.issuperset(row.provisions), row.name
    pairs = [(program, name) for row in rules.duties for program in row.programs for name in row.provisions]
    assert len(pairs) == len(set(pairs)), "one row says what a duty is on"
    assert {name for program, name in pairs if program == GOODS} == provisions
