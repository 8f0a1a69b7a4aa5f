"""The forms of answers: each field that they offer is a place of the plan."""

from collections.abc import Mapping

import pytest

from pipeline.deliveries.entries.facets import AnswerStatus
from pipeline.deliveries.submissions.answer_forms import (
    CHOICES,
    MAX_DETAILED_LINES,
    RARE_CHOICES,
    AnswerableUnit,
    can_detail,
    list_fields,
)
from tests.support import factories


def list_offered(units: int, lines: int) -> Mapping[str, str]:
    answerable = [AnswerableUnit(place, f"U{place}", [f"S{line}" for line in range(lines)]) for place in range(units)]
    return list_fields(answerable, alone=units == 1, detailed=can_detail(answerable))


@pytest.mark.parametrize(
    ("units", "lines", "count"),
    [
        (2, 3, 2 * (18 + 3 * 12)),
        (1, MAX_DETAILED_LINES, 18 + MAX_DETAILED_LINES * 12),
        (1, MAX_DETAILED_LINES + 1, 18 + MAX_DETAILED_LINES + 1),
    ],
)
def test_each_offered_field_is_a_place_of_the_plan(units: int, lines: int, count: int) -> None:
    offered = list_offered(units, lines)
    assert len(offered) == count
    plan = factories.plan(units=units, lines=lines)
    for pointer in offered.values():
        factories.read_pointer(plan, pointer)


def test_form_offers_each_status_once() -> None:
    assert sorted([*CHOICES, *(status for choices in RARE_CHOICES.values() for status in choices)]) == sorted(
        AnswerStatus
    )
