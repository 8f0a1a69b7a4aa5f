"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.workflow.conftest import failing_queues, make_workflow, workflow

__all__ = ["failing_queues", "make_workflow", "workflow"]
