"""All steps of a unit share its parsed document, which none of them changes."""

from sqlmodel import col, select

from pipeline.exports.models import ExportUnit
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import parse_unit
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def test_no_step_changes_the_unit_that_all_steps_share(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    workflow.finish(export_id)
    rows = workflow.rows(select(ExportUnit).where(col(ExportUnit.export_id) == export_id))
    for row in rows:
        assert parse_unit(row) is parse_unit(row)
        assert parse_unit(row) == Unit.model_validate_json(row.document)


def test_large_unit_is_not_remembered(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(lines=400, packages=1)).export_id
    row = workflow.one(select(ExportUnit).where(col(ExportUnit.export_id) == export_id))
    assert parse_unit(row) is not parse_unit(row)
