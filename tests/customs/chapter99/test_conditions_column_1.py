"""Headings that depend on the rate of column 1: decided by the edition of the tariff, else left to a person."""

import re
from datetime import date, timedelta
from decimal import Decimal

import pytest

from pipeline.core.findings import Finding
from pipeline.customs.chapter99.conditions import Verdict
from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.stack import decide_headings, depends_on_rate, explain_headings
from pipeline.customs.checks.plan import check_plan
from pipeline.customs.decisions import decide_line
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts, list_pairs
from pipeline.customs.tariff.goods import read_goods_rate
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import SHIRT, TODAY, with_changes

CAR, SHIRT_NUMBER, CABLE = "8703230140", "6105100010", "8544421000"
RECENT, ARRIVAL = date(2026, 10, 1), date(2026, 11, 26)


def edition(starts: date = RECENT) -> KeptEdition:
    return KeptEdition(name="hts_rev_6", effective_from=starts, content_hash=f"sha256:{'a' * 64}")


def facts(number: str, origin: str, general: str | None, spi: str | None = None, special: str = "") -> LineFacts:
    kept = KeptRate(suffix=False, general=general or "", special=special)
    return LineFacts(number, origin, TODAY, spi, goods_rate=read_goods_rate(number, origin, spi, kept, edition()))


def decide(program: str, of: LineFacts) -> list[str]:
    choice = decide_headings(of).find_choice(program)
    assert choice is not None
    return [choice.decided.heading] if choice.decided else [each.heading for each in choice.outcomes]


@pytest.mark.parametrize(
    ("program", "number", "origin", "general", "headings"),
    [
        ("S232_AUTOS", CAR, "JP", "2.5%", ["9903.94.41"]),
        ("S232_AUTOS", CAR, "JP", "14.999%", ["9903.94.41"]),
        ("S232_AUTOS", CAR, "JP", "15%", ["9903.94.40"]),
        ("S232_AUTOS", CAR, "DE", "25%", ["9903.94.50"]),
        ("S232_AUTOS", CAR, "KR", "Free", ["9903.94.61"]),
        ("S301_FL", SHIRT_NUMBER, "DE", "19.7%", ["9903.05.38"]),
        ("S301_FL", SHIRT_NUMBER, "DE", "9.9%", ["9903.05.39"]),
        ("S301_FL", SHIRT_NUMBER, "JP", "12.5%", ["9903.05.48"]),
        ("S301_FL", SHIRT_NUMBER, "CH", "12.4%", ["9903.05.74"]),
        ("S301_FL", SHIRT_NUMBER, "TW", "10%", ["9903.05.75"]),
    ],
)
def test_rate_of_the_edition_decides(program: str, number: str, origin: str, general: str, headings: list[str]) -> None:
    assert decide(program, facts(number, origin, general)) == headings


@pytest.mark.parametrize(
    "general", [None, "3.3¢/kg", "$1.50/No. + 8.5%", "The duty provided in the applicable subheading"]
)
def test_without_a_rate_in_percent_a_person_decides_as_before(general: str | None) -> None:
    unknown = facts(CAR, "JP", general)
    assert unknown.goods_rate is None
    assert decide("S232_AUTOS", unknown)[-2:] == ["9903.94.40", "9903.94.41"]
    steps = {step.heading: step for step in explain_headings(unknown)}
    assert steps["9903.94.41"].verdict == "needs_person"
    assert steps["9903.94.41"].reasons[-1] == "a person must decide: the column 1 rate is below 15 %"


def test_claimed_program_decides_only_if_both_rates_agree() -> None:
    assert decide("S232_AUTOS", facts(CAR, "KR", "2.5%", "KR", "Free (KR)")) == ["9903.94.61"]
    assert decide("S232_AUTOS", facts(CAR, "KR", "25%", "KR", "Free (KR)"))[-2:] == ["9903.94.60", "9903.94.61"]


def test_reasons_have_rate_number_and_edition() -> None:
    steps = {step.heading: step for step in decide_line(facts(CAR, "JP", "2.5%")).steps}
    cited = "column 1 of 8703.23.01 is 2.5% (edition hts_rev_6 from 2026-10-01, sha256:aaaaaaaaaaaa)"
    assert steps["9903.94.41"].reasons[-1] == f"the column 1 rate is below 15 %: {cited}"
    assert steps["9903.94.40"].reasons == [f"it applies if the column 1 rate is 15 % or more, but {cited}"]
    assert (steps["9903.94.41"].applies, steps["9903.94.40"].verdict) == (True, "no")


@pytest.mark.parametrize(
    ("general", "parts"),
    [
        (None, ["9903.82.23", "9903.82.24", "9903.82.25", "9903.82.26"]),
        ("2.5%", ["9903.82.23", "9903.82.25"]),
        ("10%", ["9903.82.24", "9903.82.25"]),
        ("15%", ["9903.82.24", "9903.82.26"]),
    ],
)
def test_rate_leaves_the_other_conditions_of_a_heading_to_a_person(general: str | None, parts: list[str]) -> None:
    choice = decide_headings(facts(CABLE, "DE", general)).find_choice("S232_METALS")
    assert choice is not None
    offered = [item for item in choice.candidates if "9903.82.22" < item.row.heading < "9903.82.27"]
    assert [item.row.heading for item in offered] == parts
    assert {item.verdict for item in offered} == {Verdict.NEEDS_PERSON}
    assert all("the part is only for making equipment" in item.open_conditions[0] for item in offered)


def test_every_heading_whose_text_names_the_rate_has_the_condition() -> None:
    named = {}
    for row in ruleset().rows:
        if found := re.search(r"column 1 rate (below|of) ([\d.]+) %", row.description):
            named[row.heading] = found
            limit = row.when.column_1_below if found[1] == "below" else row.when.column_1_least
            assert limit == Decimal(found[2]), row.heading
    assert len(named) > 20
    # A total of 15 % beside a heading for 15 % or more is for lower rates, and the text of the heading says so.
    totals = {row.heading for row in ruleset().rows if row.when.column_1_below is not None}
    assert {row.basis for row in ruleset().rows if row.heading in totals} == {"total_with_column_1"}


def test_only_goods_of_such_headings_need_the_rate() -> None:
    goods = [(CAR, "JP"), (SHIRT_NUMBER, "DE"), (CAR, "CA"), (SHIRT_NUMBER, "CN")]
    assert [depends_on_rate(LineFacts(*each, TODAY)) for each in goods] == [True, True, False, False]


def find_by_rate(general: str | None, *headings: str, starts: date = RECENT) -> list[Finding]:
    rows = [{"heading": each, "program": "P", "ratePercent": None, "basis": "full_value"} for each in headings]
    changes = (
        (f"{SHIRT}/countryOfOrigin", "JP"), (f"{SHIRT}/htsCode", CAR), (f"{SHIRT}/spi", None),
        (f"{SHIRT}/usmcaCertificateRef", None), (f"{SHIRT}/treatment/chapter99", rows),
    )  # fmt: skip
    plan = Plan.model_validate(with_changes(*changes))
    pairs = list_pairs(plan.units[0].lines)
    rates = [KeptRate(suffix=False, general=general) if general and number == CAR else None for number, _ in pairs]
    kept = None if general is None else [TariffFacts(edition=edition(starts), rates=tuple(rates))]
    found = check_plan(plan, on=TODAY, kept=kept)
    return [each for each in found if each.rule == "V11" and each.pointer.startswith(f"{SHIRT}/treatment")]


def test_wrong_heading_is_found_by_the_rate_and_names_the_edition() -> None:
    assert find_by_rate(None, "9903.05.90", "9903.94.40") == []
    (found,) = find_by_rate("2.5%", "9903.05.90", "9903.94.40")
    assert (found.severity, found.pointer) == ("block", f"{SHIRT}/treatment/chapter99/1/heading")
    assert "it applies if the column 1 rate is 15 % or more, but column 1 of 8703.23.01 is 2.5%" in found.message
    assert "column 1 of 8703.23.01 is 2.5%, edition hts_rev_6 from 2026-10-01" in (found.source or "")
    assert "9903.94.41" in [each.value for each in found.expected or ()]
    assert find_by_rate("2.5%", "9903.05.90", "9903.94.41") == []
    assert find_by_rate("3.3¢/kg", "9903.05.90", "9903.94.40") == []


@pytest.mark.parametrize(("age", "basis"), [(60, ("block", "confirmed")), (61, ("warn", "probable"))])
def test_old_edition_does_not_refuse_a_plan(age: int, basis: tuple[str, str]) -> None:
    (found,) = find_by_rate("2.5%", "9903.05.90", "9903.94.40", starts=ARRIVAL - timedelta(days=age))
    assert (found.severity, (found.source or "").split(":")[0]) == basis


def test_missing_heading_is_named_by_the_rate() -> None:
    (found,) = [each for each in find_by_rate("2.5%", "9903.05.90") if each.severity == "block"]
    assert "carries no 9903.94.41 (Japan: 15 % in all, 15 %)" in found.message
    assert "edition hts_rev_6" in (found.source or "")
