"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.workflow.conftest import house, make_house

__all__ = ["house", "make_house"]
