"""The entered value and the estimate, beside sums in fractions that were made another way."""

import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count, islice
from math import floor
from typing import Any

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.customs.reference.filing import filing_rules
from pipeline.customs.reference.valuation import valuation_rules
from pipeline.customs.valuation.entered_value import apportion, line_values
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.exports.schemas.entry_estimate import EntryEstimate
from pipeline.exports.schemas.plan import Charge, Unit
from tests.documents.samples import apply, unit_data
from tests.support.tables import table

DAY = date(2026, 11, 27)


MONEY = some.decimals(min_value=0, max_value=10**9, places=2)
#: The claim of the pans, worth 300, as returned goods.
RETURNED = {"provision": "9801.00.10", "exemptValue": "300.00", "dutiableValue": "0"}


Change = Callable[[dict[str, Any]], None] | Mapping[str, Any]


def estimate(change: Change | None = None, *, on: date = DAY, lines: int = 3) -> EntryEstimate:
    data = unit_data(lines)
    data["invoice"] |= {"charges": [], "discounts": [], "assists": "none"}
    apply(data, change)
    return build_estimate(Unit.model_validate(data), on, [[number] for number in range(1, lines + 1)])


def invoice(**changes: Any) -> dict[str, Any]:
    return {f"invoice/{name}": value for name, value in changes.items()}


@given(some.lists(MONEY, min_size=1, max_size=60), MONEY, some.sampled_from([1, -1]))
def test_shares_add_up_and_are_exact_to_a_cent(values: list[Decimal], amount: Decimal, sign: int) -> None:
    shares = apportion(values, amount * sign)
    whole = sum(map(Fraction, values))
    if not whole:
        assert shares == [0] * len(values)
        return
    assert sum(map(Fraction, shares)) == Fraction(amount) * sign
    for value, share in zip(values, shares, strict=True):
        assert abs(Fraction(share) - Fraction(amount) * sign * Fraction(value) / whole) <= Fraction(1, 100)


@given(some.lists(MONEY, min_size=1, max_size=20), some.decimals("0.0001", "2000", places=6))
def test_entered_value_is_the_nearest_whole_dollar(values: list[Decimal], rate: Decimal) -> None:
    for value, row in zip(values, line_values(values, Decimal(0), Decimal(0), rate), strict=True):
        assert row.entered_usd == floor(Fraction(value) * Fraction(rate) + Fraction(1, 2))


@pytest.mark.parametrize(
    ("code", "included", "effect", "total"),
    [
        ("freight", False, "none", "849.00"), ("freight", True, "deducted", "749.00"),
        ("insurance", True, "deducted", "749.00"), ("duty", True, "deducted", "749.00"),
        ("packing", False, "added", "949.00"), ("packing", True, "included", "849.00"),
        ("inland_freight", False, "added", "949.00"), ("inland_freight", True, "included", "849.00"),
        ("commission", False, "added", "949.00"), ("handling", False, "added", "949.00"),
        ("other", False, "added", "949.00"),
    ],
)  # fmt: skip
def test_each_charge_counts_as_its_rule_says(code: str, *, included: bool, effect: str, total: str) -> None:
    found = estimate(invoice(charges=[{"code": code, "amount": "100.00", "includedInPrices": included}]))
    assert [row.effect for row in found.adjustments] == [effect]
    # 12 pans at 25.00, 12 pots at 41.50 and 12 spatulas at 4.25 are 849.00.
    assert found.total_dutiable_value == Decimal(total)
    assert found.adjustments[0].source


def test_every_charge_of_the_plan_has_a_rule() -> None:
    codes = Charge.model_fields["code"].annotation.__args__  # type: ignore[union-attr]
    assert {row.code for row in valuation_rules().charges} == {*codes}


def test_discount_and_assist_are_apportioned_by_value() -> None:
    discounts, assists = [{"name": "Early order", "amount": "84.90"}], [{"name": "Mould", "amount": "8.49"}]
    found = estimate(invoice(discounts=discounts, assists="declared", assistItems=assists))
    assert [row.effect for row in found.adjustments] == ["deducted", "added"]
    assert [(row.adjustment, row.entered_value_usd) for row in found.lines] == [
        (Decimal("-27.00"), Decimal(273)), (Decimal("-44.82"), Decimal(453)), (Decimal("-4.59"), Decimal(46)),
    ]  # fmt: skip
    assert found.total_entered_value_usd == 772


def test_shipping_charges_are_apportioned_in_whole_dollars_and_do_not_count() -> None:
    found = estimate(invoice(charges=[{"code": "freight", "amount": "84.90", "includedInPrices": False}]))
    assert [row.charges_usd for row in found.lines] == [30, 50, 5]
    assert found.total_dutiable_value == found.total_value


def test_unknown_worth_and_missing_list_of_assists_are_named() -> None:
    found = estimate(invoice(assists="declared", assistItems=[{"name": "Mould"}]))
    assert "the value of the assist Mould" in found.missing
    assert any("declares but does not list" in each for each in estimate(invoice(assists="declared")).missing)


def test_currency_without_rate_gives_no_dollars() -> None:
    found = estimate(invoice(currency="CAD", exchangeRate=None))
    assert found.total_dutiable_value == Decimal("849.00")
    assert {row.entered_value_usd for row in found.lines} == {None}
    assert (found.total_entered_value_usd, found.duty_usd, found.total_usd, found.bond) == (None,) * 4
    assert found.fees == ()
    assert any("exchange rate of CAD" in each for each in found.missing)


def test_rate_converts_before_rounding() -> None:
    found = estimate(invoice(currency="CAD", exchangeRate="0.7150"))
    assert [row.dutiable_value_usd for row in found.lines] == [Decimal("214.50"), Decimal("356.07"), Decimal("36.47")]
    assert [row.entered_value_usd for row in found.lines] == [215, 356, 36]


def test_duty_of_each_heading_is_on_the_entered_value() -> None:
    first, second, third = estimate().lines
    assert [(row.heading, row.amount_usd) for row in first.duties] == [
        ("9903.05.29", Decimal("30.00")), ("9903.82.09", Decimal("75.00")), ("column 1", None),
    ]  # fmt: skip
    assert first.duty_usd == 105
    assert [(row.heading, row.amount_usd) for row in second.duties][-1] == ("column 1", Decimal(0)), (
        "claimed under USMCA"
    )
    assert [row.heading for row in third.duties] == ["column 1"]


@table(
    ("row", "amount", "words"),
    [
        ({"ratePercent": None, "basis": "full_value"}, None, "no rate"),
        ({"ratePercent": "25", "basis": "us_content"}, None, "us content"),
        ({"ratePercent": "0", "basis": "special_rate_only"}, 0, ""),
        ({"ratePercent": "15", "basis": "total_with_column_1"}, 45, "includes column 1"),
    ],
)
def test_duty_that_the_plan_cannot_give_says_why(row: dict[str, Any], amount: int | None, words: str) -> None:
    heading = {"heading": "9903.94.51", "program": "S232_AUTO", **row}
    duty, *others = estimate({"lines/0/treatment/chapter99": [heading]}).lines[0].duties
    assert duty.amount_usd == amount
    assert words in (duty.note or "")
    assert bool(others) == (row["basis"] != "total_with_column_1"), "column 1 is in a total already"


@table(
    ("value", "amount"),
    [("100.00", "34.58"), ("9982.00", "34.58"), ("9984.00", "34.58"), ("20000.00", "69.28"), ("500000.00", "670.86")],
)
def test_formal_fee_keeps_minimum_and_maximum(value: str, amount: str) -> None:
    (fee,) = estimate({"lines/0/lineValue": value, "lines/0/spi": None}, lines=1).fees
    assert (fee.code, fee.amount_usd) == ("499", Decimal(amount))
    assert fee.arithmetic.startswith(f"{value.removesuffix('.00')} x 0.3464 % = ")


def test_informal_entry_by_vessel_has_flat_fee_and_harbor_fee() -> None:
    found = estimate({"entry/type": "11", "entry/modeOfTransport": "vessel"})
    assert [(fee.code, fee.amount_usd) for fee in found.fees] == [("311", Decimal("2.77")), ("501", Decimal("1.06"))]
    assert found.total_usd == sum((fee.amount_usd for fee in found.fees), found.duty_usd or Decimal(0))


def test_originating_lines_do_not_count_for_the_processing_fee() -> None:
    assert estimate({f"lines/{at}/spi": "S" for at in range(3)}).fees == ()
    (fee,) = estimate().fees
    assert (fee.base_usd, "1 exempt line left out" in fee.arithmetic) == (Decimal(351), True)


@table(
    ("spi", "origin", "exempt"),
    [
        *((spi, "CN", True) for spi in ("S", "KR", "IL", "P+")),
        *((spi, "CN", False) for spi in ("JO", "MA", "JP", "A")),
        *((None, origin, True) for origin in ("KH", "HT", "IL", "GU")),
        *((None, origin, False) for origin in ("PR", "BD", "CA", "VN")),
    ],
)
def test_processing_fee_spares_the_agreements_and_countries_that_the_law_names(
    spi: str | None, origin: str, *, exempt: bool
) -> None:
    found = estimate({"lines/0/spi": spi, "lines/0/countryOfOrigin": origin}, lines=1)
    assert (found.fees == ()) == exempt


def test_fee_is_that_of_the_fiscal_year_of_the_entry() -> None:
    for on, amount, status in ((date(2026, 9, 30), "33.58", "confirmed"), (date(2026, 10, 1), "34.58", "probable")):
        (fee,) = estimate({"lines/0/spi": None}, on=on, lines=1).fees
        assert (fee.amount_usd, fee.status) == (Decimal(amount), status)


@table(
    ("change", "codes"),
    [
        *(({"entry/type": kind}, ["499"]) for kind in ("31", "38")),
        *(({"entry/type": kind}, []) for kind in ("21", "61")),  # the fee is due at withdrawal
        *(({"lines/0/chapter98": RETURNED | {"provision": number}}, []) for number in ("9801.00.10", "9801.00.10.12")),
        ({"lines/0/chapter98": RETURNED | {"provision": "9802.00.80"}}, ["499"]),
    ],
)
def test_goods_in_a_warehouse_and_returned_goods_pay_no_processing_fee(
    change: dict[str, Any], codes: list[str]
) -> None:
    assert [fee.code for fee in estimate(change, lines=1).fees] == codes


def test_processing_fee_of_assembled_goods_is_on_the_part_with_duty() -> None:
    claim = {"provision": "9802.00.80", "exemptValue": "15000.00", "dutiableValue": "5000.00"}
    second = {"lines/1/lineValue": "20000.00", "lines/1/spi": None, "lines/1/chapter98": claim}
    change = {"lines/0/lineValue": "20000.00", **second, "entry/modeOfTransport": "vessel"}
    processing, harbor = estimate(change, lines=2).fees
    assert (processing.base_usd, processing.amount_usd) == (Decimal(25000), Decimal("86.60"))
    assert processing.arithmetic.endswith("= 86.60; of 1 line only the part with duty of chapter 98")
    assert (harbor.base_usd, harbor.amount_usd) == (Decimal(40000), Decimal("50.00"))


@pytest.mark.parametrize("on", [date(2027, 10, 1), date(2025, 9, 30)])
def test_day_without_fees_in_the_rules_is_named(on: date) -> None:
    found = estimate(on=on)
    assert found.fees == ()
    assert any(f"the fees of {on}" in each for each in found.missing)


@table(
    ("places", "amount", "arithmetic"),
    [
        # Pans of 300, pots of 498 and spatulas of 51; duties of 105 and 174.30; the least processing fee.
        ((), "1162.88", "849 + 279.30 + 34.58 = 1162.88"),
        ((0,), "1657.88", "3 x 300 + 549 + 174.30 + 34.58 = 1657.88"),
        ((0, 1, 2), "2547", "3 x 849 = 2547"),
    ],
)
def test_bond_covers_the_value_of_goods_under_an_agency_thrice(
    places: tuple[int, ...], amount: str, arithmetic: str
) -> None:
    row = {"flag": "FD2", "agency": "FDA"}
    disclaimed = [row | {"disclaimer": "A", "data": {"reason": "x"}}]
    answered = [row | {"data": {"productName": "Pan"}}]
    bond = estimate({f"lines/{at}/treatment/pga": answered if at in places else disclaimed for at in range(3)}).bond
    assert bond is not None
    assert (bond.amount_usd, bond.arithmetic, bond.status) == (Decimal(amount), arithmetic, "probable")


def test_bond_of_temporary_importation_is_named_without_an_amount() -> None:
    found = estimate({"entry/type": "23"})
    assert found.bond is None
    assert [each for each in found.missing if each.startswith("the bond of entry type 23: twice the duties and fees")]
    assert estimate({"entry/type": "21"}).bond is not None


def test_goods_without_value_get_no_share() -> None:
    free = {f"lines/{at}/{name}": "0" for at in range(3) for name in ("lineValue", "unitPrice")}
    found = estimate(free | invoice(discounts=[{"name": "Goodwill", "amount": "5.00"}]))
    assert found.total_dutiable_value == 0
    assert any("could not be apportioned" in each for each in found.missing)


def test_merged_lines_are_rounded_once() -> None:
    change = {f"lines/{at}/lineValue": "10.50" for at in range(3)} | invoice(charges=[], discounts=[])
    data = unit_data(3)
    apply(data, change)
    merged = build_estimate(Unit.model_validate(data), DAY, [[1, 2, 3]])
    assert [row.entered_value_usd for row in estimate(change).lines] == [11, 11, 11]
    assert [(row.line_numbers, row.entered_value_usd) for row in merged.lines] == [((1, 2, 3), Decimal(32))]


def test_duty_that_no_rule_divides_is_left_to_the_filer() -> None:
    found = estimate({"lines/0/chapter98": RETURNED})
    first, second, _ = found.lines
    assert [(row.heading, row.amount_usd) for row in first.duties] == [
        ("9903.05.29", None), ("9903.82.09", Decimal("0.00")), ("column 1", Decimal(0)),
    ]  # fmt: skip
    assert second.duty_usd == Decimal("174.30")
    assert any("the duty of 9903.05.29 for 1 line: chapter 98 divides" in each for each in found.missing)


def test_summary_is_due_ten_working_days_after_the_planned_arrival() -> None:
    # Thanksgiving Day, a Thursday: the first working day after it is the Friday.
    due = estimate(on=date(2026, 11, 26)).summary_due
    assert due is not None
    assert (due.day, due.status) == (date(2026, 12, 10), "confirmed")
    assert due.text.startswith("Computed: 10 working days after the expected day of entry, 2026-11-26,")
    assert "142.12(b)" in due.source
    assert json.loads(estimate().model_dump_json(by_alias=True))["summaryDue"]["day"] == "2026-12-11"


@table("change", [{"estimatedArrivalAt": None}, *({"type": kind} for kind in ("11", "02", "06", "61"))])
def test_summary_has_no_day_without_arrival_or_of_another_type(change: dict[str, Any]) -> None:
    found = estimate({f"entry/{name}": value for name, value in change.items()})
    assert found.summary_due is None
    assert "summaryDue" not in found.model_dump_json(by_alias=True)


@table(
    ("mode", "trailers", "code"),
    [
        ("truck", [], "30"),
        ("truck", ["trailer"], "30"),
        ("truck", ["trailer", "container"], "31"),
        *((mode, [], code) for mode, code in (("rail", "20"), ("air", "40"), ("vessel", "10"), ("mail", "50"))),
        ("mail", ["container"], "50"),
        ("other", [], None),
    ],
)
def test_mode_of_transport_has_the_code_of_the_entry(mode: str, trailers: list[str], code: str | None) -> None:
    trip = {"trailers": [{"type": each, "number": f"DEMO {at}"} for at, each in enumerate(trailers)]}
    found = estimate({"entry/modeOfTransport": mode, "entry/trip": trip})
    assert found.mode_code == code
    assert ("modeOfTransport" in found.model_dump_json(by_alias=True)) == (code is not None)


@given(some.dates(date(2021, 6, 20), date(2060, 1, 1)))
def test_working_days_agree_with_independent_calendar(day: date) -> None:
    closed = holidays.country_holidays("US", years=range(day.year - 1, day.year + 3))
    later = (day + timedelta(days=number) for number in count(1))
    working = [each for each in islice(later, 40) if each.weekday() < 5 and each not in closed]
    assert filing_rules().statement_days.add_working_days(day, 10) == working[9]


def test_working_days_end_with_the_calendar() -> None:
    days = filing_rules().statement_days
    assert days.add_working_days(date(9999, 12, 1), 10) == date(9999, 12, 15)
    assert days.add_working_days(date(9999, 12, 31), 1) is None
    assert estimate(on=date(9999, 12, 31)).summary_due is None
