"""The engine does a step and the cheap steps after it in one transaction."""

from dataclasses import replace
from typing import NoReturn

import pytest

from pipeline.core.errors import InvalidState, StepFailed
from pipeline.core.failpoints import hooks
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import STEPS_BY_NAME
from tests.workflow.conftest import WorkflowHarness


def test_run_step_does_cheap_steps_in_the_transaction_that_opens_them(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    before = workflow.step_states(export_id)
    during: list[dict[tuple[int, str], str]] = []
    # Another session sees the result of a transaction only after its end.
    monkeypatch.setitem(hooks, "attach_customs.mid", lambda: during.append(workflow.step_states(export_id)))
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages", "attach_customs")
    assert during == [before]


@pytest.mark.parametrize("worker_lost", [False, True])
def test_failed_cheap_step_leaves_the_step_before_it_done(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, *, worker_lost: bool
) -> None:
    export_id = workflow.accept().export_id
    before: list[str] = []

    def fail(*_: object) -> NoReturn:
        before.append(workflow.step_states(export_id)[1, "record_packages"])
        raise StepFailed("a test refuses it")

    if worker_lost:
        assert claim_step(workflow.runtime, export_id, 1, "record_packages")
        workflow.clock.pass_seconds(3600)
    monkeypatch.setitem(STEPS_BY_NAME, "attach_customs", replace(STEPS_BY_NAME["attach_customs"], write=fail))
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages",)
    # Without a claim, with one, and by itself. After a lost worker each step has its own transaction from the start.
    assert before == (["done"] if worker_lost else ["ready", "ready", "done"])
    assert workflow.state(export_id) == "failed"
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED", "PACKAGES_RECORDED", "EXPORT_FAILED"]


def test_step_whose_end_fails_is_tried_once_more_by_itself(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    for name in ("record_packages", "render_documents"):
        workflow.step(export_id, 1, name)
    workflow.step(export_id, 0, "notify_broker")
    tries: list[str] = []

    def fail(*_: object) -> NoReturn:
        tries.append(workflow.state(export_id))
        raise InvalidState("a test refuses it")

    monkeypatch.setattr("pipeline.workflow.step_transaction.transition_export", fail)
    assert workflow.step(export_id, 0, "notify_warehouse") == ()
    assert tries == ["executing"] * 2
    assert workflow.step_states(export_id)[0, "notify_warehouse"] == "ready"
