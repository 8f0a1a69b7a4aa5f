"""Fixtures shared with other tests."""

from __future__ import annotations

from tests.deliveries.conftest import clock, full_pauses, harness, make_runtime

__all__ = ["clock", "full_pauses", "harness", "make_runtime"]
