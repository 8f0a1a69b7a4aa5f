"""Fixtures of the tests of answers."""

from tests.interfaces.api.conftest import open_harness

__all__ = ["open_harness"]
