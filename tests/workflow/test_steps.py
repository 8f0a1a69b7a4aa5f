"""The table of steps: exactly one step opens each, and every state has a transition or is terminal."""

from __future__ import annotations

from pipeline.exports.states import EXPORT_TRANSITIONS, STEP_TRANSITIONS, ExportState, StepState
from pipeline.workflow.steps import STEPS


def test_states_have_transitions_or_are_terminal() -> None:
    assert {state for state, moves in EXPORT_TRANSITIONS.items() if not moves} == {
        ExportState.CANCELLED,
        ExportState.SUPERSEDED,
    }
    assert {state for state, moves in STEP_TRANSITIONS.items() if not moves} == {StepState.DONE, StepState.CANCELLED}
    opened = [name for spec in STEPS for name in spec.opens]
    assert sorted(opened) == sorted(spec.name for spec in STEPS[1:]), (
        "exactly one step opens each step except the first"
    )
