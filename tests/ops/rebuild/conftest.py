"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.workflow.conftest import answers, make_workflow, workflow

__all__ = ["answers", "workflow", "make_workflow"]
