"""Fixtures that these tests share with others."""

from __future__ import annotations

from tests.deliveries.conftest import clock, harness, opened, whole_pauses

__all__ = ["clock", "harness", "opened", "whole_pauses"]
