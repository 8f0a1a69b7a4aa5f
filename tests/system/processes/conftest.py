"""The command line on an empty database."""

from __future__ import annotations

from tests.support.command_line import commands

__all__ = ["commands"]
