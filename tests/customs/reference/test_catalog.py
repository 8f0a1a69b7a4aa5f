"""The reference data of config/rules: complete, dated, with sources; what is not confirmed is an open question."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from yaml import safe_load

from pipeline.customs.reference import entry, pga
from pipeline.customs.reference.catalog import all_rows
from pipeline.customs.reference.diff import diff_days, diff_rulesets
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


RULES = Path(__file__).parents[3] / "config" / "rules"
#: The files of rules, each with the kind of its rows in the catalog.
FILES = {
    "attributes": "attributes", "valuation": "values and fees", "entry": "entry", "filing": "filing", "chapter98": "chapter 98",
    "transport": "transport", "mid": "MID", "ports": "ports and modes of transport", "descriptions": "descriptions",
    "units": "units",
}  # fmt: skip


def walk_mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each mapping of a file of rules, from the outside to the inside."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk_mappings(inner)


def count_rows(pattern: str, key: str) -> int:
    """Return how many mappings of the files have the key, as they are written."""
    texts = (path.read_text(encoding="utf-8") for path in RULES.glob(pattern))
    return sum(key in each for text in texts for each in walk_mappings(safe_load(text)))


def test_every_row_but_a_source_has_a_source() -> None:
    rows = all_rows()
    assert len(rows) > 900
    assert [row.name for row in rows if not row.source and not row.name.startswith("sources ")] == []


def test_catalog_has_every_row_of_the_files() -> None:
    shown = Counter(row.kind for row in all_rows())
    assert {kind: count_rows(f"{name}.yaml", "status") for name, kind in FILES.items()} == {
        kind: shown[kind] for kind in FILES.values()
    }
    assert count_rows("headings/*.yaml", "heading") == shown["heading"]
    assert count_rows("headings/questions.yaml", "unknown") == shown["question"]


def test_diff_of_days_shows_headings_and_lists() -> None:
    changes = {
        (change.kind, change.name): change for change in diff_days(ruleset(), date(2026, 6, 7), date(2026, 6, 8))
    }
    assert (changes["heading", "9903.82.22"].what, changes["list", "16(c)(xi)"].what) == ("began", "began")
    assert changes["list", "16(c)(vi)"].details == (
        "+ 3701.30.00  - 8415.90.8010, 8415.90.8020, 8415.90.8045, 8415.90.8085, 8708.29.21"
    )
    ended = diff_days(ruleset(), date(2026, 7, 23), date(2026, 7, 24))
    assert "9903.03.01" in {change.name for change in ended if change.what == "ended"}


def test_diff_shows_changed_rate() -> None:
    details = {change.name: change.details for change in diff_days(ruleset(), date(2026, 12, 31), date(2027, 1, 1))}
    assert details["9903.76.03"].startswith("25 % (full_value) is now 50 % (full_value); ")


def test_ruleset_has_no_diff_to_itself() -> None:
    assert diff_rulesets(ruleset(), ruleset()) == ()
    assert diff_days(ruleset(), date(2026, 11, 24), date(2026, 11, 24)) == ()
