"""Fixtures shared with other tests."""

from __future__ import annotations

from tests.workflow.conftest import failing_queues, make_workflow, workflow

__all__ = ["failing_queues", "make_workflow", "workflow"]
