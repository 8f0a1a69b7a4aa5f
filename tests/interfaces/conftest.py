"""Fixtures shared with other tests."""

from tests.interfaces.api.conftest import harness, open_harness

__all__ = ["harness", "open_harness"]
