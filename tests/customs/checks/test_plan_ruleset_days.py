"""The ruleset of a plan and the day of entry, compared with the rules of this service (R01, R02)."""

from datetime import timedelta

import pytest

from pipeline.customs.reference.ruleset import ruleset
from tests.customs.cases import enter_on, findings, list_findings, with_changes


@pytest.mark.parametrize(
    ("ruleset_id", "as_of", "severity"),
    [
        ("us-ca-2026-04-06", "2026-04-06", "warn"),
        ("us-ca-2026-10-07", "2026-10-07", "warn"),
        ("us-ca-2026-11-27", "2026-10-07", "warn"),
        ("us-ca-2026-11-27.2", "2026-10-07", "warn"),
        ("us-ca-2026-11-29", "2026-10-06", "warn"),
        ("of-my-own", "2026-10-07", "warn"),
        ("us-ca-2027-01-01", "2027-01-01", "warn"),
    ],
)
def test_plan_of_other_ruleset_gives_warning_and_keeps_treatment(ruleset_id: str, as_of: str, severity: str) -> None:
    changed = with_changes(("/ruleset", {"id": ruleset_id, "asOf": as_of}))
    assert list_findings(changed) == [("R01", severity, "/ruleset/asOf")]
    (finding,) = findings(changed)
    assert ruleset_id in finding.message
    assert finding.source == f"ruleset {ruleset().id}, {ruleset().content_hash}"


def test_plan_of_newer_ruleset_reports_outdated_service() -> None:
    (finding,) = findings(with_changes(("/ruleset", {"id": "us-ca-2027-04-01", "asOf": "2027-04-01"})))
    assert "us-ca-2027-04-01 as of 2027-04-01, which is newer than the rules of this service" in finding.message
    assert "ruleset_outdated" not in finding.message
    assert finding.remedy == "Update the rules of this installation before the plan is executed."


@pytest.mark.parametrize("ruleset_id", ["us-ca-of-a-later-correction", "of-my-own"])
def test_unknown_correction_is_not_called_outdated(ruleset_id: str) -> None:
    as_of = ruleset().as_of.isoformat()  # a correction keeps the day
    (finding,) = findings(with_changes(("/ruleset", {"id": ruleset_id, "asOf": as_of})))
    assert f"{ruleset_id} as of {as_of}, which this service does not know. It may be newer" in finding.message
    assert "ruleset_outdated" not in finding.message
    assert finding.remedy.startswith("Update the rules of this installation")


@pytest.mark.parametrize(
    ("ruleset_id", "as_of"),
    [
        ("us-ca-2026-10-07", "2026-10-07"),
        ("us-ca-2026-11-27", "2026-10-07"),
        ("us-ca-2026-11-29", "2026-10-06"),
        ("of-my-own", "2026-10-06"),
    ],
)
def test_plan_of_older_ruleset_is_called_outdated(ruleset_id: str, as_of: str) -> None:
    (finding,) = findings(with_changes(("/ruleset", {"id": ruleset_id, "asOf": as_of})))
    assert finding.message.endswith("ruleset_outdated.")
    assert "Make and approve the plan again with the newer rules" in finding.remedy


@pytest.mark.parametrize(("days", "found"), [(60, []), (61, ["R02"]), (603, ["R02"])])
def test_rules_too_old_on_entry_day_give_one_finding(days: int, found: list[str]) -> None:
    entered_on = ruleset().as_of + timedelta(days=days)
    changed = with_changes(*enter_on(entered_on.isoformat()))
    of_rules = [each for each in findings(changed) if each.rule.startswith("R")]
    assert [each.rule for each in of_rules] == found
    assert all(each.severity == "warn" and f"{days} days after" in each.message for each in of_rules)
