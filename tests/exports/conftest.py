"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.workflow.conftest import make_workflow, workflow

__all__ = ["make_workflow", "workflow"]
