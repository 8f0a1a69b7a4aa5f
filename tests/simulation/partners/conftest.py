"""Fixtures shared with other tests."""

from __future__ import annotations

from tests.deliveries.conftest import full_pauses

__all__ = ["full_pauses"]
