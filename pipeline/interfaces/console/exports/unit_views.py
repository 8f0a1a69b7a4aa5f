"""Views of units: each with its steps and documents."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from pipeline.exports.schemas.export import ArtifactView, ExportView, StepView

#: The units on a page of an export's units.
UNITS_ON_A_PAGE: Final = 20


@dataclass(frozen=True)
class ShownUnit:
    """A unit with its steps and documents."""

    unit_ref: str
    package_number: str
    state: str
    steps: list[StepView]
    artifacts: list[ArtifactView]
    opened: bool


def show_units(export: ExportView, count: int, *, opened: bool) -> list[ShownUnit]:
    """Return the first `count` units of the view; with `opened` their steps and documents are unfolded."""
    documents: defaultdict[str, list[ArtifactView]] = defaultdict(list)
    for artifact in export.artifacts:
        documents[artifact.customs_package_id].append(artifact)
    packages = {package.id: package for package in export.customs_packages}
    return [
        ShownUnit(
            unit.unit_ref,
            packages[unit.customs_package_id].package_number or "no number yet",
            packages[unit.customs_package_id].state,
            unit.steps,
            documents[unit.customs_package_id],
            opened=opened,
        )
        for unit in export.units[:count]
    ]
