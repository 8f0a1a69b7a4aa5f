"""The command line on an empty database, and one for a running service."""

from __future__ import annotations

from tests.support.command_line import commands, service

__all__ = ["commands", "service"]
