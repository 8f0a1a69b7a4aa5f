"""Fixtures shared with other tests."""

from tests.workflow.conftest import failing_queues, make_workflow, workflow, workflow_on_both

__all__ = ["failing_queues", "make_workflow", "workflow", "workflow_on_both"]
