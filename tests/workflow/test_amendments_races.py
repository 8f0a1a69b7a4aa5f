"""Concurrent or failing amendments: exactly one revision is created, completely or not at all."""

import threading
from collections import Counter
from typing import NoReturn

import pytest

from pipeline.core.errors import DatabaseBusy, InvalidState
from pipeline.core.failpoints import hooks
from pipeline.exports.models import Export
from pipeline.workflow.idempotency import Acceptance
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, list_pending, make_amendment, packages, units

pytestmark = pytest.mark.databases


def test_concurrent_amendments_with_one_plan_create_one_revision(workflow: WorkflowHarness, database_url: str) -> None:
    old = execute_export(workflow)
    accepted: list[Acceptance] = []
    threads = [threading.Thread(target=lambda: accepted.append(make_amendment(workflow, old))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 8
    assert len({answer.export_id for answer in accepted}) == 1
    assert [answer.created for answer in accepted].count(True) == 1
    assert workflow.count(Export) == 2
    assert Counter(workflow.events(old))["EXPORT_AMENDED"] == 1


def test_concurrent_amendments_with_different_plans_create_one_revision(
    workflow: WorkflowHarness, database_url: str
) -> None:
    old = execute_export(workflow)
    won: list[str] = []
    lost: list[InvalidState] = []

    def run(lines: int) -> None:
        try:
            won.append(make_amendment(workflow, old, factories.plan(lines=lines)).export_id)
        except InvalidState as refused:
            lost.append(refused)

    threads = [threading.Thread(target=run, args=(lines,)) for lines in range(4, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert {(refused.details or {})["exportId"] for refused in lost} == set(won)
    assert workflow.count(Export) == 2
    assert workflow.state(won[0]) == "accepted"


def test_amendment_that_fails_late_changes_nothing(
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = execute_export(workflow)
    log, numbers, labels = workflow.events(old), units(workflow, old), packages(workflow, old)
    pending = [(each.id, each.state) for each in list_pending(workflow, old)]

    def fail() -> NoReturn:
        raise DatabaseBusy("away")

    # After everything that supersedes the old export is written.
    monkeypatch.setitem(hooks, "amend.mid", fail)
    with pytest.raises(DatabaseBusy, match="away"):
        make_amendment(workflow, old)
    assert (workflow.state(old), workflow.count(Export), workflow.events(old)) == ("executed", 1, log)
    assert (units(workflow, old), packages(workflow, old)) == (numbers, labels)
    assert [(each.id, each.state) for each in list_pending(workflow, old)] == pending


def test_amendment_without_task_messages_is_executed_by_the_sweep(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old).export_id  # its task messages are never sent
    workflow.clock.pass_seconds(3600)
    tasks = find_due(workflow.runtime)
    assert {(task.export_id, task.step or task.partner_id) for task in tasks} >= {
        (new, "record_packages"),
        (old, factories.BROKER),
        (old, factories.WAREHOUSE),
    }
    workflow.run(tasks)
    workflow.finish(new)
    assert workflow.state(new) == "executed"
