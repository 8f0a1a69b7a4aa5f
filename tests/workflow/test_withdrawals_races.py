"""Holds and withdrawals against what happens at the same time: one is first, and the other says so."""

import threading
from collections.abc import Callable

import pytest

from pipeline.core.errors import InvalidState
from pipeline.core.failpoints import hooks
from pipeline.deliveries.models import BrokerSubmission
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment
from tests.workflow.test_interventions_hold import differences, hold, release, view
from tests.workflow.test_withdrawals import answer, withdraw

pytestmark = pytest.mark.databases


def run_at_once(*acts: Callable[[], object]) -> list[InvalidState | None]:
    """Run the acts in threads that start together; return the refusal of each."""
    refused: list[InvalidState | None] = [None] * len(acts)
    barrier = threading.Barrier(len(acts))

    def run(place: int) -> None:
        barrier.wait()
        try:
            acts[place]()
        except InvalidState as error:
            refused[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def test_hold_and_handoff_have_one_winner(
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    refused: list[InvalidState] = []

    def try_to_hold() -> None:
        try:
            hold(workflow, export_id)
        except InvalidState as error:
            refused.append(error)

    thread = threading.Thread(target=try_to_hold)

    def once() -> None:
        monkeypatch.delitem(hooks, "hand_off.before")
        thread.start()

    monkeypatch.setitem(hooks, "hand_off.before", once)
    for unit_no in (1, 2):
        workflow.run([TaskMessage(export_id, unit_no, "record_packages")])
        workflow.run([TaskMessage(export_id, unit_no, "render_documents")])
    thread.join()
    workflow.run([TaskMessage(export_id, step="hand_off")])
    assert workflow.count(BrokerSubmission) == len(refused)
    assert view(workflow, export_id).outcome == ("with_broker" if refused else "handoff_held")
    assert differences(workflow, export_id) == []
    if not refused:
        workflow.run(release(workflow, export_id))
    assert workflow.events(export_id).count("HANDED_OFF") == 1


def test_withdrawal_and_entry_are_both_kept_or_one_is_refused(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute_export(workflow)
    refused = run_at_once(
        lambda: withdraw(workflow, export_id), lambda: answer(workflow, "filed", entry_number="ABC-1234567-8")
    )
    assert refused[1] is None, "an answer is never refused"
    assert view(workflow, export_id).outcome == ("filed" if refused[0] else "not_withdrawn")
    assert refused[0] is None or refused[0].code == "ENTRY_FILED"
    assert differences(workflow, export_id) == []


def test_withdrawal_and_amendment_have_one_winner(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute_export(workflow)
    refused = run_at_once(lambda: withdraw(workflow, export_id), lambda: make_amendment(workflow, export_id))
    assert sorted(each is None for each in refused) == [False, True]
    assert view(workflow, export_id).outcome == ("superseded" if refused[0] else "withdrawing")
    assert differences(workflow, export_id) == []


def test_repeated_withdrawals_write_one_event(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute_export(workflow)
    assert run_at_once(*[lambda: withdraw(workflow, export_id)] * 6) == [None] * 6
    assert workflow.events(export_id).count("EXPORT_WITHDRAWAL_REQUESTED") == 1
