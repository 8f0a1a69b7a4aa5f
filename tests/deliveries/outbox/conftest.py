"""Fixtures of the tests of answers' messages."""

from tests.workflow.conftest import make_workflow, workflow

__all__ = ["make_workflow", "workflow"]
