"""The health of the service, as the API returns it."""

from __future__ import annotations

from typing import Literal

from pipeline.exports.schemas.export import View


class PartView(View):
    """One part of the service and its health."""

    name: str
    status: Literal["ok", "failing"]
    message: str


class Health(View):
    """The health of the service, part by part."""

    status: Literal["ok", "degraded"]
    version: str
    parts: list[PartView]
