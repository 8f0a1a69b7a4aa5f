"""The reference data of config/rules: complete, dated, with sources, and rejected if it is inconsistent."""

from datetime import date

import pytest

from pipeline.customs.reference import entry, pga
from pipeline.customs.reference.ruleset import ruleset


def test_every_rules_file_loads() -> None:
    for load in (ruleset, pga.pga_rules, entry.entry_rules, entry.mid_rules):
        assert load() is load()


def test_row_is_in_force_on_first_and_last_day() -> None:
    surcharge = ruleset().find_family("9903.03.01")
    assert surcharge is not None
    assert [
        surcharge.in_force(day) for day in (date(2026, 2, 23), date(2026, 2, 24), date(2026, 7, 23), date(2026, 7, 24))
    ] == [False, True, True, False]


def test_future_row_has_not_ended() -> None:
    surcharge = ruleset().find_family("9903.03.01")
    assert surcharge is not None
    assert [surcharge.has_ended(day) for day in (date(2026, 2, 23), date(2026, 7, 23), date(2026, 7, 24))] == [
        False,
        False,
        True,
    ]
    assert not entry.entry_rules().foreign_importer.has_ended(date(2099, 1, 1))


def test_row_with_status_check_never_blocks() -> None:
    assert ruleset().metals.unknown_aluminum.status == "check"
    assert ruleset().metals.unknown_aluminum.severity == "warn"
    assert entry.entry_rules().foreign_importer.severity == "warn"


def test_yaml_truth_words_stay_text() -> None:
    assert entry.mid_rules().province("ON") == "XO"
    assert "OFF" in pga.pga_rules().find_programs("NHT", date(2026, 11, 24))


@pytest.mark.parametrize("number", ["12-345678900", "12-3456789AB", "123-45-6789", "261127-12345"])
def test_importer_number_has_known_form(number: str) -> None:
    assert entry.entry_rules().match_importer_number(number) is not None


@pytest.mark.parametrize("number", ["12-3456789", "123456789", "12-345678900 ", "12-345678900x", "261127-123456"])
def test_other_number_has_no_form(number: str) -> None:
    assert entry.entry_rules().match_importer_number(number) is None
