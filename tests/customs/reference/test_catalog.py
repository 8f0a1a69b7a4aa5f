"""The reference data of config/rules: complete, dated, with sources, and rejected if it is inconsistent."""

from datetime import date

from pipeline.customs.reference import entry, pga
from pipeline.customs.reference.ruleset import ruleset
from tests.support.tables import table


def test_row_is_in_force_from_its_first_to_its_last_day() -> None:
    surcharge = ruleset().find_family("9903.03.01")
    assert surcharge is not None
    days = (date(2026, 2, 23), date(2026, 2, 24), date(2026, 7, 23), date(2026, 7, 24))
    assert [(surcharge.in_force(day), surcharge.has_ended(day)) for day in days] == [
        (False, False), (True, False), (True, False), (False, True),
    ]  # fmt: skip
    assert not entry.entry_rules().foreign_importer.has_ended(date(2099, 1, 1))


def test_row_with_status_check_never_blocks() -> None:
    assert ruleset().metals.unknown_aluminum.status == "check"
    assert ruleset().metals.unknown_aluminum.severity == "warn"
    assert entry.entry_rules().foreign_importer.severity == "warn"


def test_yaml_truth_words_stay_text() -> None:
    assert entry.mid_rules().province("ON") == "XO"
    assert "OFF" in pga.pga_rules().find_programs("NHT", date(2026, 11, 24))


@table(
    ("number", "known"),
    [
        *((number, True) for number in ("12-345678900", "12-3456789AB", "123-45-6789", "261127-12345")),
        *((number, False) for number in ("12-3456789", "123456789", "12-345678900 ", "12-345678900x", "261127-123456")),
    ],
)
def test_importer_number_has_a_known_form_and_nothing_beside_it(number: str, *, known: bool) -> None:
    assert (entry.entry_rules().match_importer_number(number) is not None) == known
