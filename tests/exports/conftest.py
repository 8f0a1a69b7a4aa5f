"""Fixtures shared with other test folders."""

from tests.workflow.conftest import make_workflow, workflow, workflow_on_both

__all__ = ["make_workflow", "workflow", "workflow_on_both"]
