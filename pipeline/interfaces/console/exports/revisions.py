"""The console's page of two revisions side by side."""

import json

from fastapi import APIRouter
from sqlmodel import Session, col, select
from starlette.responses import Response

from pipeline.core.errors import NotFound, Purged
from pipeline.exports.models import Artifact, Export, ExportUnit, PlanSnapshot
from pipeline.exports.queries import find_export
from pipeline.exports.revision_diff import compare_plans
from pipeline.interfaces.console.exports.revision_views import DocumentHash, RevisionFacts, show_comparison
from pipeline.interfaces.pages.pages import ConsoleRoute, Visitor
from pipeline.workflow.plan_input import load_places

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

#: The most documents of an export that are compared.
_MAX_DOCUMENTS = 5_000


@router.get("/exports/{id}/compare/{other}")
def compare_revisions(id: str, other: str, visit: Visitor) -> Response:
    """Show what differs between two revisions of a batch, and which fields the broker asked to correct."""
    with visit.runtime.db.read() as session:
        found = [find_export(session, visit.account_id, each, test=visit.caller.test) for each in (id, other)]
        older, newer = sorted(found, key=lambda each: each.revision)
        if (older.batch_id, older.test) != (newer.batch_id, newer.test):
            raise NotFound(f"{id} and {other} belong to different batches; compare revisions of one batch")
        facts = [_load_facts(session, each) for each in (older, newer)]
        remarks = {each.pointer: each.message for each in load_places(session, older.id)}
    changes = compare_plans(facts[0].plan, facts[1].plan)
    return visit.page("console/exports/compare.html", comparison=show_comparison(facts[0], facts[1], changes, remarks))


def _load_facts(session: Session, export: Export) -> RevisionFacts:
    if export.purged_at is not None:
        raise Purged.for_export(export.id, "its plan cannot be compared")
    document = session.exec(select(PlanSnapshot.document).where(col(PlanSnapshot.id) == export.plan_id)).one()
    documents = session.exec(
        select(ExportUnit.unit_ref, Artifact.artifact_type, Artifact.sha256, Artifact.id)
        .join(
            Artifact,
            (col(Artifact.export_id) == col(ExportUnit.export_id)) & (col(Artifact.unit_no) == col(ExportUnit.unit_no)),
        )
        .where(col(ExportUnit.export_id) == export.id)
        .order_by(col(ExportUnit.unit_no), col(Artifact.artifact_type))
        .limit(_MAX_DOCUMENTS)
    )
    by_place = {
        (unit_ref, kind): DocumentHash(sha256, artifact_id) for unit_ref, kind, sha256, artifact_id in documents
    }
    return RevisionFacts(export, json.loads(document), by_place)
