"""A broker's own files."""

from __future__ import annotations

from typing import Final

ARTIFACT_TYPE: Final = "broker_profile"
