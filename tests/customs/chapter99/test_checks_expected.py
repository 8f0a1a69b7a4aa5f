"""A finding about headings carries the whole list that the rules expect, so that a planner can correct itself."""

from pipeline.customs.chapter99.facts import line_facts
from pipeline.customs.decisions import decide_line
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, SHIRT, TODAY, findings, heading, with_changes

HEADINGS = f"{PAN}/treatment/chapter99"


def test_missing_heading_names_the_headings_that_why_decides() -> None:
    changed = with_changes((HEADINGS, []))
    found = next(each for each in findings(changed) if each.pointer == HEADINGS and each.severity != "note")
    decision = decide_line(line_facts(Plan.model_validate(changed).units[0].lines[0], TODAY))
    assert found.expected is not None
    assert [each.value for each in found.expected if each.applies_if is None] == decision.headings != []
    assert {each.group for each in found.expected} <= {step.program for step in decision.steps}


def test_correcting_a_plan_by_what_a_finding_expects_ends_the_finding() -> None:
    changed = with_changes((HEADINGS, [heading("9903.82.02", "50")]))
    found = [each for each in findings(changed) if each.pointer.startswith(HEADINGS) and each.expected]
    assert found
    certain = [each for each in found[0].expected or () if each.applies_if is None]
    corrected = with_changes((HEADINGS, [{**heading(each.value), "program": each.group} for each in certain]))
    left = [
        each for each in findings(corrected) if each.pointer.startswith(HEADINGS) and each.pointer.endswith("heading")
    ]
    assert left == []


def test_finding_on_another_field_expects_no_headings() -> None:
    for found in findings(with_changes((f"{SHIRT}/description", "goods"))):
        assert found.expected is None
