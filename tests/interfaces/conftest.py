"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.interfaces.api.conftest import desk, open_desk

__all__ = ["desk", "open_desk"]
