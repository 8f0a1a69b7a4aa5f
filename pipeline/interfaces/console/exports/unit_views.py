"""Views of units: each with its steps and documents."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pipeline.documents.registry import describe_kind
from pipeline.exports.schemas.export import ArtifactView, ExportView, StepView
from pipeline.interfaces.console.exports.document_views import document_link
from pipeline.interfaces.durations import format_duration
from pipeline.interfaces.event_text import format_size

#: The units on a page of an export's units.
UNITS_ON_A_PAGE: Final = 20


@dataclass(frozen=True)
class ShownStep:
    """A step, and how long it took."""

    name: str
    state: str
    took: str
    note: str


@dataclass(frozen=True)
class ShownArtifact:
    """A document, and the address of its page."""

    filename: str
    kind: str
    size: str
    link: str


@dataclass(frozen=True)
class ShownUnit:
    """A unit with its steps and documents."""

    unit_ref: str
    package_number: str
    state: str
    steps: list[ShownStep]
    artifacts: list[ShownArtifact]
    bundle_link: str  # empty if the export has no other unit
    opened: bool


def show_units(export: ExportView, count: int, *, opened: bool) -> list[ShownUnit]:
    """Return the first `count` units of the view; with `opened` their steps and documents are unfolded."""
    documents: defaultdict[str, list[ShownArtifact]] = defaultdict(list)
    for artifact in export.artifacts:
        documents[artifact.customs_package_id].append(_show_artifact(export.export_id, artifact))
    packages = {package.id: package for package in export.customs_packages}
    return [
        ShownUnit(
            unit.unit_ref,
            packages[unit.customs_package_id].package_number or "no number yet",
            packages[unit.customs_package_id].state,
            [show_step(step) for step in unit.steps],
            documents[unit.customs_package_id],
            "" if opened else f"/console/exports/{quote(export.export_id)}/bundle?unit={quote(unit.unit_ref, safe='')}",
            opened=opened,
        )
        for unit in export.units[:count]
    ]


def show_step(step: StepView) -> ShownStep:
    """Return a step for a table."""
    took = ""
    if step.started_at is not None and step.finished_at is not None:
        took = format_duration((step.finished_at - step.started_at).total_seconds())
    return ShownStep(step.name.replace("_", " "), step.state.value, took, step.error or "")


def _show_artifact(export_id: str, artifact: ArtifactView) -> ShownArtifact:
    return ShownArtifact(
        artifact.filename,
        describe_kind(artifact.artifact_type),
        format_size(artifact.size),
        document_link(export_id, artifact.id),
    )
