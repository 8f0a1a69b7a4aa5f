"""How the service says that it is."""

from __future__ import annotations

from typing import Literal

from pipeline.exports.schemas.export import View


class PartView(View):
    """One part of the service and how it is."""

    name: str
    status: Literal["ok", "failing"]
    message: str


class Health(View):
    """How the service is, part by part."""

    status: Literal["ok", "degraded"]
    version: str
    parts: list[PartView]
