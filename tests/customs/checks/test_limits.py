"""What one entry holds: its lines, tariff numbers and digits; and the parts of a shipment with several entries."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.checks.limits import check_limits
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas.plan import Plan, Unit
from tests.customs.cases import UNIT, findings, heading, list_findings, with_changes
from tests.documents.samples import sample, unit_data
from tests.support.factories import Json, plan

ON = date(2026, 11, 26)
PART = f"{UNIT}/entry/part"


def limits(data: Json, on: date = ON) -> list[tuple[str, str, str]]:
    return [(each.rule, each.severity, each.pointer) for each in check_limits(Unit.model_validate(data), UNIT, on)]


def different_lines(count: int) -> Json:
    data = unit_data(1)
    line = data["lines"][0]
    data["lines"] = [{**line, "lineRef": f"L{at}", "attributes": {"model": f"M-{at}"}} for at in range(count)]
    return data


def split(*parts: tuple[int, int], same_shipment: bool = True, **entry: Any) -> Json:
    made = plan(units=len(parts))
    for unit, (number, of) in zip(made["units"], parts, strict=True):
        unit["entry"] |= {"part": {"number": str(number), "of": str(of)}, **entry}
        if same_shipment:
            unit["entry"]["shipmentControlNumber"] = "DEMO00000001"
    return made


def list_part_findings(made: Json) -> list[tuple[str, str, str]]:
    return [each for each in list_findings(made) if each[0] in {"E04", "V27"}]


@pytest.mark.parametrize(("count", "expected"), [(999, []), (1000, [("E01", "block", f"{UNIT}/lines")])])
def test_entry_has_at_most_999_lines(count: int, expected: list[tuple[str, str, str]]) -> None:
    assert limits(different_lines(count)) == expected


def test_remedy_says_how_many_parts() -> None:
    (found,) = check_limits(Unit.model_validate(different_lines(2001)), UNIT, ON)
    assert "2,001 entry lines" in found.message
    assert "at least 3 units" in found.remedy
    assert "1 of 3 to 3 of 3" in found.remedy


def test_merged_lines_count_once() -> None:
    data = different_lines(1000)
    data["lines"][-1]["attributes"] = data["lines"][0]["attributes"]
    assert limits(data) == []


def test_order_of_attributes_makes_one_entry_line() -> None:
    data = different_lines(2)
    for line, names in zip(data["lines"], (("a", "b"), ("b", "a")), strict=True):
        line["attributes"] = dict.fromkeys(names, "x")
    assert group_entry_lines(Unit.model_validate(data)) == ((1, 2),)


def test_groups_are_the_lines_of_the_documents() -> None:
    groups = group_entry_lines(Unit.model_validate(unit_data(12)))
    assert groups == tuple(line.line_numbers for line in sample(12).entry_lines)


@pytest.mark.parametrize(
    ("on", "headings", "count"), [("2025-06-27", 7, 0), ("2025-06-27", 8, 1), ("2025-06-28", 12, 0)]
)
def test_line_has_as_many_tariff_numbers_as_its_day_allows(on: str, headings: int, count: int) -> None:
    rows = [heading(f"9903.82.{at:02}") for at in range(headings)]
    data = unit_data(1)
    data["lines"][0]["treatment"]["chapter99"] = rows
    expected = [("E02", "block", f"{UNIT}/lines/0/treatment/chapter99")] * count
    assert limits(data, date.fromisoformat(on)) == expected


def test_provision_of_chapter_98_is_a_tariff_number_too() -> None:
    data = unit_data(1)
    line = data["lines"][0]
    line["treatment"]["chapter99"] = [heading(f"9903.82.{at:02}") for at in range(7)]
    line["chapter98"] = {"provision": "9801.00.10", "exemptValue": line["lineValue"], "dutiableValue": "0"}
    assert [rule for rule, _, _ in limits(data, date(2025, 6, 27))] == ["E02"]


@pytest.mark.parametrize(
    ("value", "places"), [("9999999999.49", []), ("9999999999.50", [1]), ("4999999999.00", []), ("12345678901.00", [1])]
)
def test_value_fits_its_field(value: str, places: list[int]) -> None:
    data = unit_data(3)
    data["lines"][1]["lineValue"] = value
    assert limits(data) == [("E03", "block", f"{UNIT}/lines/{place}/lineValue") for place in places]


def test_value_without_rate_is_not_judged() -> None:
    data = unit_data(1)
    data["invoice"] |= {"currency": "CAD", "exchangeRate": None}
    data["lines"][0]["lineValue"] = "99999999999.00"
    assert limits(data) == []


def test_complete_parts_have_no_finding() -> None:
    assert list_part_findings(split((1, 3), (3, 3), (2, 3))) == []


@pytest.mark.parametrize(
    ("parts", "listed"), [([(1, 3), (2, 3)], "1, 2."), ([(1, 2), (1, 2)], "1, 1."), ([(2, 2)], "2.")]
)
def test_missing_and_repeated_part_is_found(parts: list[tuple[int, int]], listed: str) -> None:
    found = [each for each in findings(split(*parts)) if each.rule == "E04"]
    assert [(each.severity, each.pointer) for each in found] == [("warn", PART)]
    assert found[0].message.endswith(listed)


def test_parts_of_two_shipments_do_not_complete_one_another() -> None:
    found = list_part_findings(split((1, 2), (2, 2), same_shipment=False))
    assert found == [("E04", "warn", PART), ("E04", "warn", "/units/1/entry/part")]


def test_part_beyond_the_number_of_parts_is_refused() -> None:
    assert ("E04", "block", f"{PART}/number") in list_findings(split((3, 2)))


@pytest.mark.parametrize(
    "part",
    [
        {"number": "0", "of": "2"},
        {"number": "1", "of": "1"},
        {"number": "x", "of": "2"},
        {"number": 1, "of": 2},
        {"of": "2"},
    ],
)
def test_malformed_part_is_an_error_of_the_plan(part: Json) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(with_changes((PART, part)))


def test_informal_parts_are_added_up() -> None:
    made = split((1, 2), (2, 2), type="11")
    assert [each for each in list_part_findings(made) if each[2] == PART] == []
    for unit in made["units"]:
        unit["lines"][1] |= {"unitPrice": "400.00", "lineValue": "1600.00"}
    assert ("V27", "warn", PART) in list_part_findings(made)


def test_plan_without_part_is_unchanged() -> None:
    assert "part" not in Plan.model_validate(plan()).model_dump(by_alias=True)["units"][0]["entry"]


def test_rules_of_an_older_folder_have_no_limits() -> None:
    assert entry_rules().model_copy(update={"limits": (), "one_entry": None}).find_limit("entry lines", ON) is None


def test_every_limit_says_how_certain_it_is() -> None:
    rows = {(row.name, row.most): row.status for row in entry_rules().limits}
    assert rows == {
        ("entry lines", 999): "probable", ("tariff numbers", 8): "probable", ("tariff numbers", 32): "probable",
        ("value digits", 10): "probable",
    }  # fmt: skip


def test_documents_number_the_parts() -> None:
    transport = sample(1, change={"entry/part": {"number": "1", "of": "2"}}).transport
    assert transport.entry_type.shown.endswith(", entry 1 of 2")
    assert (transport.entry_type.exact, transport.entry_part, transport.entry_parts) == ("01", 1, 2)
