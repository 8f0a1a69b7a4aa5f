"""Fixtures shared with other tests."""

from __future__ import annotations

from tests.workflow.conftest import make_workflow, workflow

__all__ = ["make_workflow", "workflow"]
