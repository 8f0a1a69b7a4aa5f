"""Fixtures shared with other test folders."""

from tests.deliveries.conftest import clock, endpoint, full_pauses, make_runtime, runtime

__all__ = ["clock", "endpoint", "full_pauses", "make_runtime", "runtime"]
