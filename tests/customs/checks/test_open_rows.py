"""Law that is not a heading yet: the duties on polysilicon with their price floors, and the questions about goods."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from pipeline.core.findings import Finding
from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.stack import decide_headings
from pipeline.customs.decisions import decide_line
from pipeline.customs.reference.diff import diff_days
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.exports.schemas.entry_estimate import DutyRow, EntryLine
from pipeline.exports.schemas.plan import Unit
from tests.customs.cases import PAN, enter_on, findings, heading, with_changes
from tests.documents.samples import unit_data

DAY, EVE = date(2026, 12, 4), date(2026, 12, 3)
RATE, FLOOR = "Section 232, polysilicon", "Section 232, price floor of polysilicon"
RAW, WAFER, CELL, MODULE = "2804610000", "3818000045", "8541420080", "8541430010"

#: The numbers and price floors of Annexes I and II of Proclamation 11052, as the Budget Lab at Yale transcribes them.
FLOORS = {
    "2804610000": "$21/kg", "3818000020": "$100/kg", "3818000040": "$100/kg", "3818000045": "$100/kg",
    "3818000050": "$100/kg", "3818000091": "$100/kg", "8541420010": "$0.22/W", "8541420080": "$0.22/W",
    "8541430010": "$0.38/W", "8541430080": "$0.38/W",
}  # fmt: skip


def find_rates(hts_code: str, origin: str, on: date = DAY) -> dict[str, tuple[str, str]]:
    return {row.program: (row.rate, row.basis) for row in ruleset().find_open_duties(hts_code, origin, on)}


@pytest.mark.parametrize(("hts_code", "floor"), FLOORS.items())
def test_each_number_of_the_annexes_has_its_floor_from_the_first_day(hts_code: str, floor: str) -> None:
    rate = {} if hts_code == RAW else {RATE: ("15 %", "full_value")}
    assert find_rates(hts_code, "VN") == rate | {FLOOR: (floor, "full_value")}
    assert find_rates(hts_code, "VN", EVE) == {}


@pytest.mark.parametrize(
    ("origin", "rate", "basis"),
    [
        *((origin, "15 %", "total_with_column_1") for origin in ("DE", "JP", "KR", "TW", "CH", "LI")),
        ("GB", "10 %", "full_value"),
        *((origin, "15 %", "full_value") for origin in ("CA", "CN", "MX", "MY")),
    ],
)
def test_partners_have_their_own_rate_and_the_same_floor(origin: str, rate: str, basis: str) -> None:
    assert find_rates(MODULE, origin) == {RATE: (rate, basis), FLOOR: ("$0.38/W", "full_value")}


@pytest.mark.parametrize("hts_code", ["8541410000", "8541490010", "3818000010", "2804690000"])
def test_other_semiconductors_and_silicon_take_nothing(hts_code: str) -> None:
    assert find_rates(hts_code, "VN") == {}


@pytest.mark.parametrize("spi", [None, "S"])
def test_module_of_vietnam_pays_beside_forced_labor(spi: str | None) -> None:
    rows = decide_headings(LineFacts(MODULE, "VN", DAY, spi)).certain
    open_duty, _ = ruleset().find_open_duties(MODULE, "VN", DAY)
    assert [row.heading for row in rows] == ["9903.05.84"]
    rates = [*(row.rate_percent for row in rows), open_duty.rate_percent]
    assert sum(rate for rate in rates if rate is not None) == Decimal("27.5")


def find_all(*changes: tuple[str, Any], on: str = "2026-12-04") -> list[Finding]:
    goods = [(f"{PAN}/htsCode", MODULE), (f"{PAN}/countryOfOrigin", "VN")]
    return findings(with_changes(*enter_on(on), *goods, *changes), on=EVE)


def list_open(on: str, *changes: tuple[str, Any]) -> list[Finding]:
    return [each for each in find_all(*changes, on=on) if each.rule in ("V11-OPEN", "Q01")]


def test_plan_is_warned_of_rate_and_floor_with_what_lowers_them() -> None:
    found = list_open("2026-12-04")
    assert [(each.rule, each.severity, each.pointer) for each in found] == [("V11-OPEN", "warn", f"{PAN}/htsCode")] * 2
    rate, floor = found
    assert f"{RATE}, ingots, wafers, cells and modules: 15 %. It is not due if" in rate.message
    assert f"{FLOOR}, solar modules: $0.38/W. It is only what the entered value is below that, if" in floor.message
    assert "probable: Proclamation 11052" in (rate.source or "")
    rate, _ = list_open("2026-12-04", (f"{PAN}/treatment/chapter99", [heading("9903.45.34", "15")]))
    assert rate.message.endswith("It may be 9903.45.34, which they do not know.")
    ended = (f"{PAN}/treatment/chapter99", [heading("9903.45.25", "14")])
    (refused,) = [each for each in find_all(ended) if "9903.45.25" in each.message]
    assert (refused.rule, refused.severity) == ("V11", "block"), "the safeguard on solar modules has ended"
    (question,) = list_open("2026-12-03")
    assert (question.rule, question.severity, question.pointer) == ("Q01", "warn", f"{PAN}/htsCode")
    assert "8541430010 of VN: it is not known whether the importer may enter these goods: " in question.message
    assert question.remedy.endswith("the Bureau of Industry and Security decides.")
    assert "check: FR Doc. 2026-19537" in (question.source or "")


@pytest.mark.parametrize(
    ("hts_code", "origin", "on", "ids"),
    [
        (MODULE, "VN", date(2026, 9, 21), []),
        (RAW, "DE", date(2026, 9, 22), ["polysilicon-stockpiling"]),
        ("8507600020", "CN", date(2027, 2, 8), []),
        ("8507600020", "CN", date(2027, 2, 9), ["unmanned-aircraft-components"]),
        ("8426190000", "CN", DAY, ["cranes-9903.92.10"]),
        ("8426190000", "FI", DAY, []),
        ("4421999880", "CA", DAY, ["softwood-parts"]),
        ("4421918020", "CA", DAY, []),
        ("7208390015", "GB", DAY, ["steel-of-the-netherlands"]),
        ("4202923120", "CN", date(2026, 11, 9), []),
        ("4202923120", "CN", date(2026, 11, 10), ["exclusions-after-2026-11-09"]),
        (MODULE, "MY", date(2026, 2, 6), ["solar-safeguard"]),
        (MODULE, "MY", date(2026, 2, 7), []),
        ("6109100012", "MX", date(2026, 2, 23), ["ieepa-by-country"]),
        ("7208390015", "CA", date(2025, 3, 11), ["metals-before-2025-03-12"]),
    ],
)
def test_question_names_the_goods_and_days_of_its_program(hts_code: str, origin: str, on: date, ids: list[str]) -> None:
    found = decide_line(LineFacts(hts_code, origin, on)).questions
    assert [each.id for each in found] == ids
    assert all(each.unknown and each.decides and each.source for each in found)


def test_program_that_can_only_lower_a_duty_gives_no_finding() -> None:
    on = [*enter_on("2026-12-04"), (f"{PAN}/htsCode", "4202923120"), (f"{PAN}/countryOfOrigin", "CN")]
    assert "Q01" not in {each.rule for each in findings(with_changes(*on), on=EVE)}


def estimate(hts_code: str, origin: str, **changes: Any) -> EntryLine:
    data = unit_data(1)
    data["invoice"] |= {"charges": [], "discounts": [], "assists": "none"}
    line = {"htsCode": hts_code, "countryOfOrigin": origin, "spi": None, "lineValue": "1000.00"} | changes
    data["lines"][0] |= {"treatment": {"chapter99": [], "section232": [], "pga": []}} | line
    (row,) = build_estimate(Unit.model_validate(data), DAY, [[1]]).lines
    return row


def open_rows(row: EntryLine) -> dict[str, DutyRow]:
    return {duty.heading: duty for duty in row.duties if duty.heading in (RATE, FLOOR)}


@pytest.mark.parametrize(
    ("hts_code", "changes", "whole", "rest"),
    [
        (MODULE, {"quantity": "4000", "unit": "W"}, "4000 x $0.38/W = 1520.00", "1520.00 - 1000 = 520.00"),
        (CELL, {"quantity": "4000", "unit": "W"}, "4000 x $0.22/W = 880.00", "0.00"),
        (WAFER, {"netWeightKg": "12.5"}, "12.5 x $100/kg = 1250.00", "1250.00 - 1000 = 250.00"),
        (RAW, {"netWeightKg": "47.62"}, "47.62 x $21/kg = 1000.02", "1000.02 - 1000 = 0.02"),
    ],
)
def test_estimate_has_the_floor_as_arithmetic_of_both_cases(
    hts_code: str, changes: dict[str, Any], whole: str, rest: str
) -> None:
    row = open_rows(estimate(hts_code, "VN", **changes))[FLOOR]
    note = f"check: {whole} without the importer's document at entry, {rest} with it"
    assert (row.rate, row.amount_usd, row.note) == (FLOORS[hts_code], None, note)


def test_floor_needs_the_quantity_of_its_unit() -> None:
    row = open_rows(estimate(MODULE, "VN", quantity="10", unit="NO"))[FLOOR]
    assert (row.amount_usd, row.note) == (None, "check: the plan does not give the quantity in W")


@pytest.mark.parametrize(
    ("origin", "headings", "amount", "others"),
    [("VN", [], 150, True), ("GB", [], 100, True), ("JP", [], 150, False), ("VN", ["9903.45.34"], None, True)],
)
def test_estimate_has_the_rate_once(origin: str, headings: list[str], amount: int | None, others: bool) -> None:  # noqa: FBT001
    rows = [{"heading": each, "program": "S232", "ratePercent": "15", "basis": "full_value"} for each in headings]
    line = estimate(MODULE, origin, treatment={"chapter99": rows, "section232": [], "pga": []})
    row = open_rows(line)[RATE]
    assert (row.amount_usd, "9903.45.34" in (row.note or "")) == (amount, bool(headings))
    assert ("column 1" in {duty.heading for duty in line.duties}) == others, "column 1 is in a total already"


def test_decision_and_diff_show_what_is_open() -> None:
    found = decide_line(LineFacts(MODULE, "GB", DAY))
    assert [(each.program, each.rate_percent, each.floor and each.floor.amount) for each in found.open_duties] == [
        (RATE, Decimal(10), None),
        (FLOOR, None, Decimal("0.38")),
    ]
    begun = {(each.kind, each.name): each.details for each in diff_days(ruleset(), EVE, DAY) if each.what == "began"}
    assert begun["open duty", f"{FLOOR}, solar cells"] == "$0.22/W"
    assert len([kind for kind, _ in begun if kind == "open duty"]) == 7
