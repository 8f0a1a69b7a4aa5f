"""The ruleset of a plan and the day of entry, compared with the rules of this service (R01, R02)."""

from datetime import timedelta

import pytest

from pipeline.customs.reference.ruleset import ruleset
from tests.customs.cases import enter_on, findings, with_changes
from tests.support.tables import table

AS_OF = ruleset().as_of.isoformat()  # a correction keeps the day


NEWER = "which is newer than the rules of this service"
UNKNOWN = "which this service does not know. It may be newer"


OUTDATED = "ruleset_outdated."


@table(
    ("ruleset_id", "as_of", "said"),
    [
        ("us-ca-2026-04-06", "2026-04-06", OUTDATED),
        ("us-ca-2026-10-07", "2026-10-07", OUTDATED),
        ("us-ca-2026-11-27.2", "2026-10-07", OUTDATED),
        ("us-ca-2026-11-29", "2026-10-06", OUTDATED),
        ("of-my-own", "2026-10-06", OUTDATED),
        ("us-ca-2027-04-01", "2027-04-01", NEWER),
        ("us-ca-of-a-later-correction", AS_OF, UNKNOWN),
        ("of-my-own", AS_OF, UNKNOWN),
    ],
)
def test_plan_of_other_ruleset_gives_one_warning(ruleset_id: str, as_of: str, said: str) -> None:
    (finding,) = findings(with_changes(("/ruleset", {"id": ruleset_id, "asOf": as_of})))
    assert (finding.rule, finding.severity, finding.pointer) == ("R01", "warn", "/ruleset/asOf")
    assert f"{ruleset_id} as of {as_of}" in finding.message
    assert [each for each in (OUTDATED, NEWER, UNKNOWN) if each in finding.message] == [said]
    remedy = "Make and approve the plan again" if said == OUTDATED else "Update the rules of this installation"
    assert finding.remedy.startswith(remedy)
    assert finding.source == f"ruleset {ruleset().id}, {ruleset().content_hash}"


@pytest.mark.parametrize(("days", "found"), [(60, []), (61, ["R02"]), (603, ["R02"])])
def test_rules_too_old_on_entry_day_give_one_finding(days: int, found: list[str]) -> None:
    changed = with_changes(*enter_on((ruleset().as_of + timedelta(days=days)).isoformat()))
    of_rules = [each for each in findings(changed) if each.rule.startswith("R")]
    assert [each.rule for each in of_rules] == found
    assert all(each.severity == "warn" and f"{days} days after" in each.message for each in of_rules)
