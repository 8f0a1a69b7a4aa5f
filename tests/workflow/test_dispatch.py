"""The task messages of a new export."""

from __future__ import annotations

from pipeline.workflow.dispatch import initial_tasks
from pipeline.workflow.steps import TaskMessage


def test_new_export_has_a_task_message_for_the_first_step_of_each_unit() -> None:
    assert initial_tasks("exp_1", 2) == [TaskMessage("exp_1", unit_no, "record_packages") for unit_no in (1, 2)]
