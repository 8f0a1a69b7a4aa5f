"""A hold stops an export before its handoff, until a person releases it; a race has one winner."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from pipeline.core.errors import DatabaseBusy, InvalidState
from pipeline.core.failpoints import hooks
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.schemas.inbox import Remedy
from pipeline.exports.states import Outcome
from pipeline.ops.rebuild import service
from pipeline.workflow import inbox, read_model, remedies
from pipeline.workflow.acknowledgements import acknowledge_export
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import cancel_export, hold_export, release_export, retry_export
from pipeline.workflow.remedies import RemedyTarget
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment


def hold(workflow: WorkflowHarness, export_id: str, reason: str = "the buyer called") -> None:
    hold_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test", reason)


def release(workflow: WorkflowHarness, export_id: str) -> list[TaskMessage]:
    return release_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")


def view(workflow: WorkflowHarness, export_id: str) -> ExportView:
    with workflow.runtime.db.read() as session:
        return read_model.read_export(session, factories.ACCOUNT, export_id)


def differences(workflow: WorkflowHarness, export_id: str) -> list[tuple[str, str, list[str]]]:
    with workflow.runtime.db.read() as session:
        found = service.compare_export(session, export_id)
    assert found.refusal is None
    return [(each.table, each.kind, each.columns) for each in found.differences]


def fail() -> NoReturn:
    raise DatabaseBusy("away")


def during(workflow: WorkflowHarness, point: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `act` happen once at a failpoint."""

    def once() -> None:
        monkeypatch.delitem(hooks, point)
        act()

    monkeypatch.setitem(hooks, point, once)


@pytest.mark.parametrize(
    "moment",
    [
        "before the first step",
        "between the steps",
        "while the documents are made",
        "while the handoff is made",
        "while it waits for another attempt",
    ],
)
def test_hold_stops_before_the_handoff_at_each_moment(
    workflow: WorkflowHarness, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    late = {"while the documents are made": "render_documents.before", "while the handoff is made": "hand_off.before"}
    if moment in late:
        during(workflow, late[moment], lambda: hold(workflow, export_id), monkeypatch)
    if moment == "between the steps":
        workflow.step(export_id, 1, "record_packages")
    if moment == "while it waits for another attempt":
        during(workflow, "hand_off.before", fail, monkeypatch)
        for unit_no in (1, 2):
            workflow.run([TaskMessage(export_id, unit_no, "record_packages")])
            workflow.run([TaskMessage(export_id, unit_no, "render_documents")])
        assert workflow.read_step(export_id, "hand_off", 0).error == "away"
    if moment not in late:
        hold(workflow, export_id)
    workflow.finish(export_id)
    assert workflow.step_states(export_id)[0, "hand_off"] == "ready"
    assert workflow.count(BrokerSubmission) == 0
    assert (workflow.state(export_id), workflow.sweep()) == ("executing", [])
    assert differences(workflow, export_id) == []
    assert len(release(workflow, export_id)) == 1
    workflow.finish(export_id)
    assert (workflow.state(export_id), workflow.count(BrokerSubmission)) == ("executed", 1)
    assert workflow.events(export_id).count("HANDED_OFF") == 1
    assert differences(workflow, export_id) == []


def test_only_unit_is_recorded_without_its_handoff(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    during(workflow, "hand_off.before", lambda: hold(workflow, export_id), monkeypatch)
    run_step(workflow.runtime, export_id, 1, "render_documents")
    workflow.finish(export_id)
    assert workflow.count(BrokerSubmission) == 0
    workflow.run(release(workflow, export_id))
    workflow.finish(export_id)
    assert (workflow.state(export_id), workflow.count(BrokerSubmission)) == ("executed", 1)


def test_held_export_says_who_why_and_since_when(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    hold(workflow, export_id)
    workflow.finish(export_id)
    hold(workflow, export_id, "a second reason")
    shown = view(workflow, export_id)
    assert shown.outcome is Outcome.HANDOFF_HELD
    held = shown.handoff_hold
    assert held is not None
    assert (held.by, held.reason) == ("key_test", "the buyer called")
    assert shown.status == (
        f"The handoff is held by key_test since {held.at:%Y-%m-%d %H:%M:%S} UTC: the buyer called; 1 of 1 units are closed"
    )
    (item,) = inbox.load_inbox(workflow.runtime, factories.ACCOUNT).items
    assert (item.cause, item.text, item.since) == ("handoff_held", "held by key_test: the buyer called", held.at)
    assert item.remedies == (Remedy.RELEASE, Remedy.CANCEL)
    with pytest.raises(InvalidState, match="is held; release or cancel it"):
        acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    tasks = remedies.apply_remedy(workflow.runtime, workflow.caller, Remedy.RELEASE, RemedyTarget(export_id=export_id))
    assert tasks == [TaskMessage(export_id, step="hand_off")]
    assert release(workflow, export_id) == [], "a repeat changes nothing"
    assert inbox.load_inbox(workflow.runtime, factories.ACCOUNT).items == []
    assert workflow.events(export_id).count("HANDOFF_HOLD_RELEASED") == 1
    assert view(workflow, export_id).handoff_hold is None


def test_hold_loses_to_the_handoff_and_says_the_remedy(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    before = workflow.events(export_id)
    with pytest.raises(InvalidState, match="handed off already, so its handoff cannot be held; withdraw it"):
        hold(workflow, export_id)
    new = make_amendment(workflow, export_id).export_id
    with pytest.raises(InvalidState, match="was superseded; hold the newest revision"):
        hold(workflow, export_id)
    hold(workflow, new)
    cancel_export(workflow.runtime, factories.ACCOUNT, new, "key_test")
    assert (view(workflow, new).outcome, view(workflow, new).handoff_hold) == (Outcome.CANCELLED, None)
    with pytest.raises(InvalidState, match="is cancelled"):
        hold(workflow, new)
    assert workflow.events(export_id)[: len(before)] == before
    assert differences(workflow, new) == []


def test_held_export_that_failed_is_retried_up_to_its_handoff(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.fail_rendering(export_id)
    hold(workflow, export_id)
    assert view(workflow, export_id).outcome is Outcome.NEEDS_ATTENTION
    workflow.run(retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test"))
    workflow.finish(export_id)
    assert (view(workflow, export_id).outcome, workflow.count(BrokerSubmission)) == (Outcome.HANDOFF_HELD, 0)
    assert differences(workflow, export_id) == []
