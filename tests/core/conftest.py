"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.deliveries.conftest import clock, endpoint, opened, whole_pauses
from tests.workflow.conftest import make_workflow

__all__ = ["clock", "endpoint", "make_workflow", "opened", "whole_pauses"]
