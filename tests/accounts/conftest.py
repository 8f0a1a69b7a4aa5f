"""Fixtures shared with other tests."""

from __future__ import annotations

from tests.deliveries.conftest import clock, endpoint, full_pauses, harness, make_runtime, runtime

__all__ = ["clock", "endpoint", "full_pauses", "harness", "make_runtime", "runtime"]
