"""The documents of a unit are rendered with what its account knows: the name of the customs broker."""

from __future__ import annotations

from io import BytesIO

import pytest
from pypdf import PdfReader

from pipeline.accounts.models import Partner
from pipeline.exports.models import Export
from pipeline.exports.step_context import build_context
from pipeline.workflow.render_documents import render_unit
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def read_cover_sheet(workflow: WorkflowHarness, export_id: str) -> str:
    with workflow.runtime.db.read() as session:
        export = session.get_one(Export, export_id)
        context = build_context(export, unit_no=1, step="render_documents", fence=0, attempt=0)
    found = render_unit(workflow.runtime, context)
    body = next(each.body for each in found if each.artifact_type == "paps_cover_sheet")
    return " ".join(PdfReader(BytesIO(body)).pages[0].extract_text().split())


@pytest.mark.pdf_engine
def test_cover_sheet_names_customs_broker(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    assert "CUSTOMS BROKER Sandbox broker" in read_cover_sheet(workflow, export_id)
    with workflow.runtime.db.write() as session:
        session.get_one(Partner, (factories.ACCOUNT, factories.BROKER)).name = "Example Brokerage Inc."
    assert "CUSTOMS BROKER Example Brokerage Inc." in read_cover_sheet(workflow, export_id)
