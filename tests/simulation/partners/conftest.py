"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.deliveries.conftest import whole_pauses

__all__ = ["whole_pauses"]
