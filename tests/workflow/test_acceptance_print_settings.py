"""An export prints as its account did when it was accepted: later changes of the account do not change its documents."""

from __future__ import annotations

from typing import Final

import pytest
from sqlmodel import col, select, update

from pipeline.accounts.print_settings import PrintSettings, find_print_settings, set_languages
from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.exports.audit_trail import Action, list_acts
from pipeline.exports.models import Artifact, Event, Export
from pipeline.exports.step_context import build_context
from pipeline.ops.rebuild.service import rebuild_exports
from pipeline.workflow.render_documents import render_unit
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness

BOTH: Final = ["en", "fr"]
PAGE: Final = "cci_human_readable"


def read_page(workflow: WorkflowHarness, export_id: str) -> str:
    """Return the stored web page of the export's invoice."""
    with workflow.runtime.db.read() as session:
        of_page = col(Artifact.export_id) == export_id, col(Artifact.artifact_type) == PAGE
        (sha256,) = session.scalars(select(Artifact.sha256).where(*of_page)).all()
    return workflow.runtime.store.get(sha256).decode()


def render_again(workflow: WorkflowHarness, export_id: str) -> str:
    """Return the same page, rendered from the export's records."""
    with workflow.runtime.db.read() as session:
        export = session.get_one(Export, export_id)
        context = build_context(export, unit_no=1, step="render_documents", fence=1, attempt=1)
    return next(each.body.decode() for each in render_unit(workflow.runtime, context) if each.artifact_type == PAGE)


def set_account(workflow: WorkflowHarness, languages: list[str]) -> PrintSettings:
    return set_languages(workflow.runtime, factories.ACCOUNT, languages, changed_by="test")


def test_change_of_account_does_not_change_accepted_exports(workflow: WorkflowHarness) -> None:
    set_account(workflow, BOTH)
    french = workflow.accept(factories.plan(batch="batch_french", invoice="F1")).export_id
    set_account(workflow, ["en"])
    english = workflow.accept(factories.plan(batch="batch_english", invoice="E1")).export_id
    set_account(workflow, BOTH)
    for export_id in (french, english):
        workflow.finish(export_id)
    assert "Facture commerciale" in read_page(workflow, french)
    assert "Facture commerciale" not in read_page(workflow, english)
    for export_id in (french, english):
        assert render_again(workflow, export_id) == read_page(workflow, export_id)


def test_log_keeps_the_settings_and_a_rebuild_restores_them(workflow: WorkflowHarness) -> None:
    set_account(workflow, BOTH)
    export_id = workflow.accept().export_id
    with workflow.runtime.db.read() as session:
        accepted = session.get_one(Event, (export_id, 1))
    assert accepted.data["printsFrench"] is True
    with workflow.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == export_id).values(prints_french=False))
    (result,) = rebuild_exports(workflow.runtime, export_id=export_id, apply=True).damaged
    assert [each.columns for each in result.differences] == [["prints_french"]]
    with workflow.runtime.db.read() as session:
        assert session.get_one(Export, export_id).prints_french is True


def test_usual_settings_leave_no_trace_in_the_log(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    with workflow.runtime.db.read() as session:
        assert "printsFrench" not in session.get_one(Event, (export_id, 1)).data
        assert find_print_settings(session, factories.ACCOUNT) == PrintSettings()


@pytest.mark.parametrize("languages", [[], ["fr"], ["fr", "en"], ["en", "de"], ["en", "en"]])
def test_english_always_stays(workflow: WorkflowHarness, languages: list[str]) -> None:
    with pytest.raises(ValidationFailed, match="customs asks for English") as raised:
        set_account(workflow, languages)
    assert raised.value.field == "/languages"


def test_unknown_account_is_not_found(workflow: WorkflowHarness) -> None:
    with pytest.raises(NotFound, match="no account acc_none"):
        set_languages(workflow.runtime, "acc_none", BOTH, changed_by="test")


def test_change_is_in_the_audit_trail(workflow: WorkflowHarness) -> None:
    set_account(workflow, BOTH)
    with workflow.runtime.db.read() as session:
        (act,) = list_acts(session, factories.ACCOUNT, action=Action.LANGUAGES_CHANGED).items
    assert (act.actor, act.subject, act.detail) == ("test", factories.ACCOUNT, {"languages": "en, fr"})
