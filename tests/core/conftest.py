"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.deliveries.conftest import clock, endpoint, opened, whole_pauses
from tests.workflow.conftest import make_house

__all__ = ["clock", "endpoint", "make_house", "opened", "whole_pauses"]
