"""A legal hold keeps a whole batch or account, whatever its age, and its record is kept."""

from datetime import date

import pytest

from pipeline.core.errors import InvalidState, NotFound
from pipeline.exports.models import ExportPackage
from pipeline.ops import legal_holds, retention
from tests.ops.test_retention import (
    documents,
    end_export,
    execute_export,
    list_due,
    place_hold,
    plan,
    register_plan,
    rows,
    today,
)
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import make_amendment

__all__ = ["today"]


def test_hold_on_one_revision_keeps_all_revisions_and_plans_of_its_batch(
    workflow: WorkflowHarness, database_url: str
) -> None:
    first, other = execute_export(workflow, plan("one")), execute_export(workflow, plan("two"))
    changed = plan("one", arrival="2026-11-27T18:00:00Z")
    second = end_export(workflow, make_amendment(workflow, first, changed).export_id)
    for held_id in (first, second):
        held = place_hold(workflow, held_id, "audit")
        found = list_due(workflow, date(2040, 1, 1))
        assert (found[first][1], found[second][1]) == (held.id, held.id)
        assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports == (held_id == first)
        assert (rows(workflow, ExportPackage, first) != [], rows(workflow, ExportPackage, second) != []) == (True, True)
        assert sorted(documents(workflow).values()) == [False, True, True]
        legal_holds.release_hold(workflow.runtime, held.id, released_by="Counsel")
    assert rows(workflow, ExportPackage, other) == []
    assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports == 2


def test_hold_placed_during_purge_keeps_a_plan(
    workflow: WorkflowHarness, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = register_plan(workflow, plan("one"))
    found = list(retention.find_expired(workflow.runtime, date(2032, 11, 27)))
    place_hold(workflow, None, "a dispute")
    monkeypatch.setattr(retention, "find_expired", lambda *_: iter(found))
    assert retention.purge_expired(workflow.runtime, date(2032, 11, 27)).plans == 0
    assert documents(workflow) == {one: True}


def test_hold_keeps_export_or_account_and_stays_on_record(workflow: WorkflowHarness, today: date) -> None:
    one, other = execute_export(workflow, plan("one")), execute_export(workflow, plan("two"))
    day = date(2032, 11, 27)
    held = place_hold(workflow, one, "audit of 2026")
    assert list_due(workflow, day) == {one: ("CA", held.id), other: ("CA", None)}
    assert retention.purge_expired(workflow.runtime, day).exports == 1
    assert rows(workflow, ExportPackage, one)
    with pytest.raises(InvalidState, match="nothing is left"):
        place_hold(workflow, other, "too late")

    whole = place_hold(workflow, None, "a dispute")
    legal_holds.release_hold(workflow.runtime, held.id, released_by="Counsel")
    assert list_due(workflow, day) == {one: ("CA", whole.id)}
    assert retention.purge_expired(workflow.runtime, day).exports == 0
    with pytest.raises(InvalidState, match="was released by Counsel already"):
        legal_holds.release_hold(workflow.runtime, held.id, released_by="Somebody")
    legal_holds.release_hold(workflow.runtime, whole.id, released_by="Counsel")
    assert retention.purge_expired(workflow.runtime, day).exports == 1
    assert [(row.reason, row.placed_by, row.released_by) for row in legal_holds.list_holds(workflow.runtime)] == [
        ("audit of 2026", "Legal", "Counsel"),
        ("a dispute", "Legal", "Counsel"),
    ]
    for unknown in ({"account_id": "acc_none", "export_id": None}, {"account_id": "acc_none", "export_id": one}):
        with pytest.raises(NotFound):
            legal_holds.place_hold(workflow.runtime, reason="r", placed_by="p", **unknown)
