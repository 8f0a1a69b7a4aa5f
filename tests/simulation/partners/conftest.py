"""Fixtures shared with other tests."""

from tests.deliveries.conftest import full_pauses

__all__ = ["full_pauses"]
