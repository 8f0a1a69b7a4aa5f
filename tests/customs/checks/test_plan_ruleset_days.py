"""The ruleset of a plan, compared with the rules of this service (R01)."""

from datetime import timedelta

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


def test_age_of_the_rules_is_not_a_finding_of_a_plan() -> None:
    changed = with_changes(*enter_on((ruleset().as_of + timedelta(days=603)).isoformat()))
    assert [each for each in findings(changed) if each.rule.startswith("R")] == []
