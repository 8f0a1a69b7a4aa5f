"""The documents of a unit are rendered with what its account knew at acceptance: the name of the customs broker."""

from io import BytesIO

import pytest
from pypdf import PdfReader
from sqlmodel import col, update

from pipeline.accounts.models import Partner
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from pipeline.exports.step_context import build_context
from pipeline.ops.rebuild.service import rebuild_exports
from pipeline.workflow.render_documents import render_unit
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def render_cover_sheet(workflow: WorkflowHarness, export_id: str) -> bytes:
    with workflow.runtime.db.read() as session:
        export = session.get_one(Export, export_id)
        context = build_context(export, unit_no=1, step="render_documents", fence=0, attempt=0)
    found = render_unit(workflow.runtime, context)
    return next(each.body for each in found if each.artifact_type == "paps_cover_sheet")


def read_words(body: bytes) -> str:
    return " ".join(PdfReader(BytesIO(body)).pages[0].extract_text().split())


@pytest.mark.pdf_engine
def test_cover_sheet_keeps_name_of_customs_broker_at_acceptance(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    before = render_cover_sheet(workflow, export_id)
    assert "CUSTOMS BROKER Sandbox broker" in read_words(before)
    with workflow.runtime.db.write() as session:
        session.get_one(Partner, (factories.ACCOUNT, factories.BROKER)).name = "Example Brokerage Inc."
    assert render_cover_sheet(workflow, export_id) == before
    second = workflow.accept(factories.plan(batch="batch_second", invoice="S1")).export_id
    workflow.step(second, 1, "record_packages")
    assert "CUSTOMS BROKER Example Brokerage Inc." in read_words(render_cover_sheet(workflow, second))


def test_log_keeps_broker_name_and_a_rebuild_restores_it(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    with workflow.runtime.db.write() as session:
        assert session.get_one(Event, (export_id, 1)).data["brokerName"] == "Sandbox broker"
        session.execute(update(Export).where(col(Export.id) == export_id).values(broker_name="Other"))
    (result,) = rebuild_exports(workflow.runtime, export_id=export_id, apply=True).damaged
    assert [each.columns for each in result.differences] == [["broker_name"]]
    assert workflow.get(Export, export_id).broker_name == "Sandbox broker"
