"""The catalog lists every dated row, and what changes between days and rulesets."""

from datetime import date

from pipeline.customs.reference.catalog import all_rows, chapter99_rows
from pipeline.customs.reference.diff import diff_days, diff_rulesets
from pipeline.customs.reference.ruleset import ruleset


def test_every_unconfirmed_row_has_source() -> None:
    assert [row.name for row in all_rows() if row.status == "check" and not (row.source or row.says)] == []


def test_catalog_has_every_row_of_the_headings_files() -> None:
    rules = ruleset()
    held = {
        "heading": rules.rows,
        "list": rules.resolved_lists,
        "ban": rules.bans,
        "open duty": rules.open_duties,
        "question": rules.questions,
    }
    shown = [row.kind for row in chapter99_rows()]
    assert {kind: shown.count(kind) for kind in held} == {kind: len(rows) for kind, rows in held.items()}


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
