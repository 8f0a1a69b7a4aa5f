"""An export estimates duty by the tariff of its acceptance: later editions never change its documents."""

import json
from datetime import date
from io import BytesIO
from zipfile import ZipFile

from sqlmodel import col, select, update

from pipeline.customs.tariff.editions import remove_edition
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.step_context import build_context
from pipeline.ops.rebuild.service import rebuild_exports
from pipeline.workflow.render_documents import render_unit
from tests.support import factories
from tests.support.tariff import DUTY_CASES, REVISION_6, REVISION_7, import_revision, import_table
from tests.workflow.conftest import WorkflowHarness

KINDS = ("entry_estimate", "entry_import")


def render(workflow: WorkflowHarness, export_id: str) -> dict[str, bytes]:
    """Return the documents of the entry, rendered from the export's records."""
    with workflow.runtime.db.read() as session:
        export = session.get_one(Export, export_id)
        context = build_context(export, unit_no=1, step="render_documents", fence=1, attempt=1)
    return {each.artifact_type: each.body for each in render_unit(workflow.runtime, context)}


def kept(workflow: WorkflowHarness, export_id: str) -> str | None:
    with workflow.runtime.db.read() as session:
        unit = session.scalars(select(ExportUnit).where(col(ExportUnit.export_id) == export_id)).one()
        return unit.tariff


def test_later_editions_do_not_change_an_accepted_export(workflow: WorkflowHarness) -> None:
    import_revision(workflow.runtime, REVISION_6, date(2026, 10, 1))
    export_id = workflow.accept().export_id
    workflow.finish(export_id)
    before = render(workflow, export_id)
    body = json.loads(before["entry_estimate"])
    duties = body["estimate"]["lines"][0]["duties"]
    assert duties[-1]["heading"] == "column 1"
    assert (duties[-1]["rate"], duties[-1]["arithmetic"]) == ("2%", "48 x 2 % = 0.96")
    assert duties[-1]["source"] == "general rate of 7323.93.00"
    (edition,) = body["estimate"]["editions"]
    assert edition.startswith("Rates of column 1: edition hts_2026_revision_6 from 2026-10-01, sha256:")
    with ZipFile(BytesIO(before["entry_import"])) as archive:
        assert '48 x 2 % = 0.96,"general rate of 7323.93.00; Rates of column 1: edition' in archive.read(
            "estimate.csv"
        ).decode("utf-8-sig")
    import_revision(workflow.runtime, REVISION_7, date(2026, 11, 20))
    assert render(workflow, export_id) == before
    for name in (REVISION_6.stem, REVISION_7.stem):
        remove_edition(workflow.runtime, name)
    assert render(workflow, export_id) == before


def test_export_without_edition_keeps_nothing_and_gains_nothing_later(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.finish(export_id)
    before = render(workflow, export_id)
    import_revision(workflow.runtime, REVISION_6, date(2026, 10, 1))
    assert render(workflow, export_id) == before
    assert kept(workflow, export_id) is None
    (package,) = workflow.get(Event, (export_id, 1)).data["customsPackages"]
    assert "tariff" not in package


def test_rebuild_restores_the_tariff_from_the_log(workflow: WorkflowHarness) -> None:
    import_revision(workflow.runtime, REVISION_6, date(2026, 10, 1))
    export_id = workflow.accept(factories.plan(2, 5, 2)).export_id
    remove_edition(workflow.runtime, REVISION_6.stem)
    with workflow.runtime.db.read() as session:
        data = session.get_one(Event, (export_id, 1)).data
        rows = list(session.scalars(select(ExportUnit.tariff).order_by(col(ExportUnit.unit_no))))
    assert [
        json.dumps(each["tariff"], separators=(",", ":"), sort_keys=True) for each in data["customsPackages"]
    ] == rows
    assert "7323930045" not in json.dumps(data), "the log outlives the plan, so it has no number of it"
    assert rebuild_exports(workflow.runtime).intact
    workflow.change(update(ExportUnit).where(col(ExportUnit.unit_no) == 2).values(tariff=None))
    (result,) = rebuild_exports(workflow.runtime, export_id=export_id, apply=True).damaged
    assert [each.columns for each in result.differences] == [["tariff"]]
    assert list(workflow.rows(select(col(ExportUnit.tariff)).order_by(col(ExportUnit.unit_no)))) == rows


def test_deposits_are_those_of_the_acceptance(workflow: WorkflowHarness) -> None:
    import_table(workflow.runtime, DUTY_CASES, date(2026, 10, 1))
    plan = factories.plan()
    plan["units"][0]["lines"][0]["attributes"] = {"adCvdCase": "A-570-779-000"}
    export_id = workflow.accept(plan).export_id
    workflow.finish(export_id)
    before = render(workflow, export_id)
    remove_edition(workflow.runtime, DUTY_CASES.stem)
    assert render(workflow, export_id) == before
    body = json.loads(before["entry_estimate"])["estimate"]
    deposit = body["lines"][0]["duties"][-1]
    assert (deposit["heading"], deposit["rate"], deposit["arithmetic"]) == (
        "A-570-779-000",
        "1.50%",
        "48 x 1.50 % = 0.72",
    )
    assert body["editions"][0].startswith("Deposit rates: edition duty_cases from 2026-10-01")
    assert kept(workflow, export_id) is not None
    assert rebuild_exports(workflow.runtime).intact
