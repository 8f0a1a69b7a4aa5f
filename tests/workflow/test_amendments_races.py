"""Amendments at once, or broken off: one revision whoever comes first, and all of it or nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from pipeline.accounts.models import Partner
from pipeline.core.errors import InvalidState, PartnerNotLive
from pipeline.exports.models import Export
from pipeline.workflow.idempotency import Acceptance
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, list_pending, make_amendment, packages, units


def test_many_at_once_with_one_plan_are_one_revision(
    make_workflow: Callable[[str], WorkflowHarness], database_url: str
) -> None:
    workflow = make_workflow(database_url)
    old = execute_export(workflow)
    failing_queues: list[Acceptance] = []
    threads = [threading.Thread(target=lambda: failing_queues.append(make_amendment(workflow, old))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failing_queues) == 8
    assert len({answer.export_id for answer in failing_queues}) == 1
    assert [answer.created for answer in failing_queues].count(True) == 1
    assert workflow.count(Export) == 2
    assert Counter(workflow.events(old))["EXPORT_AMENDED"] == 1


def test_of_many_plans_at_once_one_wins(make_workflow: Callable[[str], WorkflowHarness], database_url: str) -> None:
    workflow = make_workflow(database_url)
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


def test_an_amendment_that_fails_at_its_end_has_changed_nothing(
    make_workflow: Callable[[str], WorkflowHarness], database_url: str
) -> None:
    workflow = make_workflow(database_url)
    old = execute_export(workflow)
    log, numbers, labels = workflow.events(old), units(workflow, old), packages(workflow, old)
    pending = [(each.id, each.state) for each in list_pending(workflow, old)]
    with workflow.runtime.db.write() as session:
        session.get_one(Partner, (factories.ACCOUNT, factories.WAREHOUSE)).state = "paused"
    # The partners are looked at once everything that ends the old export is written.
    with pytest.raises(PartnerNotLive):
        make_amendment(workflow, old)
    assert (workflow.state(old), workflow.count(Export), workflow.events(old)) == ("executed", 1, log)
    assert (units(workflow, old), packages(workflow, old)) == (numbers, labels)
    assert [(each.id, each.state) for each in list_pending(workflow, old)] == pending


def test_an_amendment_whose_every_message_is_lost_is_still_executed_and_notified(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old).export_id  # nothing of what it launches and tasks is ever sent
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
