"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.deliveries.conftest import clock, endpoint, opened, runtime, whole_pauses

__all__ = ["clock", "endpoint", "opened", "runtime", "whole_pauses"]
