"""The reference data of config/rules: complete, dated, sourced, and refused where it cannot be right."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from pipeline.customs import entry_rules, pga_rules, rules


def test_every_rules_file_loads() -> None:
    for load in (
        rules.section232_rules,
        rules.metal_lists,
        pga_rules.pga_rules,
        entry_rules.entry_rules,
        entry_rules.mid_rules,
    ):
        assert load() is load()


def test_the_lists_hold_as_many_provisions_as_were_published() -> None:
    counts = {listed.list: len(listed.codes) for listed in rules.metal_lists().lists}
    # List (iv) was published with 139: one of them, of chapter 76, stands on list (ii) where it belongs.
    assert counts == {
        "i": 9, "ii": 17, "iii": 39, "iv": 138, "v": 76, "vi": 105, "vii": 301, "viii": 4, "ix": 13, "x": 35,
    }  # fmt: skip


def test_a_list_refuses_a_code_of_another_chapter() -> None:
    with pytest.raises(ValidationError, match=r"list \(iv\) holds 7614\.10\.10"):
        rules.MetalList(
            list="iv", metal="steel", kind="derivative", chapters=frozenset({"72", "73"}), codes=("7614.10.10",)
        )


@pytest.mark.parametrize(
    ("hts_code", "lists"),
    [
        ("7323930045", ["vii"]),
        ("7606123091", ["i"]),  # by its heading, 7606
        ("7302100000", ["iii"]),  # by its subheading, 7302.10
        ("7308200035", ["ii", "iv"]),  # ten digits before eight
        ("8302106030", ["vi", "vii"]),
        ("7614101000", ["ii"]),
        ("7326908688", ["iv"]),
        ("7326908680", []),  # its neighbours are listed by ten digits, it is not
        ("6105100010", []),
    ],
)
def test_a_code_is_looked_up_by_its_longest_listed_beginning(hts_code: str, lists: list[str]) -> None:
    assert [listed.list for listed in rules.metal_lists().of(hts_code)] == lists


def test_a_row_holds_on_its_first_and_its_last_day() -> None:
    (surcharge,) = [window for window in rules.section232_rules().windows if window.prefix == "9903.03.01"]
    assert [
        surcharge.holds(day) for day in (date(2026, 2, 23), date(2026, 2, 24), date(2026, 7, 23), date(2026, 7, 24))
    ] == [False, True, True, False]


def test_hearsay_refuses_no_plan() -> None:
    assert rules.section232_rules().unknown_aluminum.status == "check"
    assert rules.section232_rules().unknown_aluminum.severity == "warn"
    assert entry_rules.entry_rules().informal.severity == "warn"


def test_words_that_yaml_takes_for_truth_values_stay_words() -> None:
    assert entry_rules.mid_rules().province("ON") == "XO"
    assert "OFF" in pga_rules.pga_rules().programs_of("NHT", date(2026, 11, 24))


@pytest.mark.parametrize("number", ["12-345678900", "12-3456789AB", "123-45-6789", "261127-12345"])
def test_the_forms_of_importers_numbers(number: str) -> None:
    assert entry_rules.entry_rules().importer_number(number) is not None


@pytest.mark.parametrize("number", ["12-3456789", "123456789", "12-345678900 ", "12-345678900x", "261127-123456"])
def test_other_numbers_have_no_form(number: str) -> None:
    assert entry_rules.entry_rules().importer_number(number) is None
