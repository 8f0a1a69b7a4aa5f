"""The table of steps: each is opened by exactly one, and every state leads on or is terminal."""

from __future__ import annotations

from pipeline.exports.states import EXPORT_TRANSITIONS, STEP_TRANSITIONS, ExportState, StepState
from pipeline.workflow.steps import STEPS


def test_every_state_is_terminal_or_leads_on() -> None:
    assert {state for state, moves in EXPORT_TRANSITIONS.items() if not moves} == {
        ExportState.CANCELLED,
        ExportState.SUPERSEDED,
    }
    assert {state for state, moves in STEP_TRANSITIONS.items() if not moves} == {StepState.DONE, StepState.CANCELLED}
    opened = [name for spec in STEPS for name in spec.opens]
    assert sorted(opened) == sorted(spec.name for spec in STEPS[1:]), "each step but the first is opened by exactly one"
