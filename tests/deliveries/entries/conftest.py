"""Fixtures of the tests of entries."""

from tests.workflow.conftest import make_workflow, workflow

__all__ = ["make_workflow", "workflow"]
