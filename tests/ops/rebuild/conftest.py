"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.workflow.conftest import answers, house, make_house

__all__ = ["answers", "house", "make_house"]
