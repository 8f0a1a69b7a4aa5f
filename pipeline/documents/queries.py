"""Reads of a document's row with its unit, its neighbours in the export, and the data that it shows."""

from dataclasses import dataclass

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from pipeline.core.errors import NotFound
from pipeline.documents import registry, repository
from pipeline.exports.models import Artifact, Export, ExportUnit


@dataclass(frozen=True)
class DocumentPlace:
    """A document in its export: the unit, the documents before and after it, and the one with its data, or None."""

    artifact: Artifact
    batch_id: str
    unit_ref: str
    package_number: str | None
    previous: Artifact | None
    following: Artifact | None
    data: Artifact | None


def find_place(session: Session, account_id: str, export_id: str, artifact_id: str) -> DocumentPlace:
    """Return the document of this export; raises NotFound, also if it belongs to another account or was purged."""
    artifact = repository.find_artifact(session, account_id, artifact_id).artifact
    if artifact.export_id != export_id:
        raise NotFound(f"export {export_id} has no document {artifact_id}; it belongs to export {artifact.export_id}")
    batch_id, unit_ref, package_number = session.exec(
        select(Export.batch_id, ExportUnit.unit_ref, ExportUnit.package_number)
        .join(Export, col(Export.id) == col(ExportUnit.export_id))
        .where(col(ExportUnit.export_id) == export_id, col(ExportUnit.unit_no) == artifact.unit_no)
    ).one()
    order = tuple_(col(Artifact.unit_no), col(Artifact.artifact_type))
    here = artifact.unit_no, artifact.artifact_type
    others = select(Artifact).where(col(Artifact.export_id) == export_id).limit(1)
    data_type = registry.find_data_kind(artifact.artifact_type)
    return DocumentPlace(
        artifact,
        batch_id,
        unit_ref,
        package_number,
        previous=session.exec(
            others.where(order < here).order_by(col(Artifact.unit_no).desc(), col(Artifact.artifact_type).desc())
        ).first(),
        following=session.exec(
            others.where(order > here).order_by(col(Artifact.unit_no), col(Artifact.artifact_type))
        ).first(),
        data=None
        if data_type is None
        else session.exec(
            others.where(col(Artifact.unit_no) == artifact.unit_no, col(Artifact.artifact_type) == data_type)
        ).first(),
    )
