"""Amendments at once: one revision, whoever comes first."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from pipeline.acceptance import Acceptance
from pipeline.errors import InvalidState
from pipeline.models import Export
from tests import builders
from tests.execution.conftest import House
from tests.execution.revisions import amended, executed


def test_many_at_once_with_one_plan_are_one_revision(make_house: Callable[[str], House], database_url: str) -> None:
    house = make_house(database_url)
    old = executed(house)
    answers: list[Acceptance] = []
    threads = [threading.Thread(target=lambda: answers.append(amended(house, old))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len({answer.export_id for answer in answers}) == 1
    assert [answer.created for answer in answers].count(True) == 1
    assert house.count(Export) == 2
    assert Counter(house.events(old))["EXPORT_AMENDED"] == 1


def test_of_many_plans_at_once_one_wins(make_house: Callable[[str], House], database_url: str) -> None:
    house = make_house(database_url)
    old = executed(house)
    won: list[str] = []
    lost: list[InvalidState] = []

    def run(lines: int) -> None:
        try:
            won.append(amended(house, old, builders.plan(lines=lines)).export_id)
        except InvalidState as refused:
            lost.append(refused)

    threads = [threading.Thread(target=run, args=(lines,)) for lines in range(4, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert {(refused.details or {})["exportId"] for refused in lost} == set(won)
    assert house.count(Export) == 2
    assert house.state(won[0]) == "accepted"
