"""An export prints as its account did when it was accepted: later changes of the account do not change its documents."""

from base64 import b64encode
from hashlib import sha256
from typing import Final

import pytest
from sqlmodel import col, select, update

from pipeline.accounts.print_settings import (
    PrintSettings,
    find_logo,
    find_print_settings,
    remove_logo,
    set_languages,
    set_logo,
)
from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.exports.audit_trail import ActFilter, Action, list_acts
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export, LogoFile
from pipeline.exports.step_context import build_context
from pipeline.ops.rebuild.service import rebuild_exports
from pipeline.workflow.render_documents import render_unit
from tests.support import factories
from tests.support.logos import draw_logo
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment

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
    accepted = workflow.get(Event, (export_id, 1))
    assert accepted.data["printsFrench"] is True
    workflow.change(update(Export).where(col(Export.id) == export_id).values(prints_french=False))
    (result,) = rebuild_exports(workflow.runtime, export_id=export_id, apply=True).damaged
    assert [each.columns for each in result.differences] == [["prints_french"]]
    assert workflow.get(Export, export_id).prints_french is True


@pytest.mark.pdf_engine
def test_change_of_logo_does_not_change_accepted_exports(workflow: WorkflowHarness) -> None:
    red = set_logo(workflow.runtime, factories.ACCOUNT, draw_logo(), changed_by="test").picture
    first = workflow.accept(factories.plan(batch="batch_first", invoice="F1")).export_id
    other = set_logo(workflow.runtime, factories.ACCOUNT, draw_logo(size=(300, 200)), changed_by="test").picture
    second = workflow.accept(factories.plan(batch="batch_second", invoice="S1")).export_id
    remove_logo(workflow.runtime, factories.ACCOUNT, changed_by="test")
    third = workflow.accept(factories.plan(batch="batch_third", invoice="T1")).export_id
    for export_id in (first, second, third):
        workflow.finish(export_id)
        assert render_again(workflow, export_id) == read_page(workflow, export_id)
    assert b64encode(red).decode() in read_page(workflow, first)
    assert b64encode(other).decode() in read_page(workflow, second)
    assert "<img" not in read_page(workflow, third)
    with workflow.runtime.db.read() as session:
        assert session.get_one(Event, (first, 1)).data["logo"] == sha256(red).hexdigest()
        assert "logo" not in session.get_one(Event, (third, 1)).data
        assert find_logo(session, factories.ACCOUNT) is None
    assert rebuild_exports(workflow.runtime).intact


@pytest.mark.pdf_engine
def test_amendment_takes_the_logo_of_its_own_acceptance(workflow: WorkflowHarness) -> None:
    set_logo(workflow.runtime, factories.ACCOUNT, draw_logo(), changed_by="test")
    old = execute_export(workflow)
    remove_logo(workflow.runtime, factories.ACCOUNT, changed_by="test")
    new = make_amendment(workflow, old).export_id
    workflow.finish(new)
    assert ("<img" in read_page(workflow, old), "<img" in read_page(workflow, new)) == (True, False)


@pytest.mark.pdf_engine
def test_same_logo_is_stored_once_and_their_number_is_limited(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.accounts.print_settings.MAX_LOGOS", 2)
    for size in ((90, 30), (60, 30), (90, 30)):
        set_logo(workflow.runtime, factories.ACCOUNT, draw_logo(size=size), changed_by="test")
    assert workflow.count(LogoFile) == 2
    with pytest.raises(ValidationFailed, match="has had 2 logos, the maximum"):
        set_logo(workflow.runtime, factories.ACCOUNT, draw_logo(size=(40, 30)), changed_by="test")
    with workflow.runtime.db.read() as session:
        logo = find_logo(session, factories.ACCOUNT)
    assert logo is not None
    assert (logo.width, logo.height) == (90, 30), "a refused logo changes nothing"


@pytest.mark.pdf_engine
def test_refused_picture_changes_nothing(workflow: WorkflowHarness) -> None:
    set_logo(workflow.runtime, factories.ACCOUNT, draw_logo(), changed_by="test")
    with pytest.raises(ValidationFailed, match="neither PNG nor JPEG"):
        set_logo(workflow.runtime, factories.ACCOUNT, b"<svg/>", changed_by="test")
    with pytest.raises(NotFound, match="no account acc_none"):
        set_logo(workflow.runtime, "acc_none", draw_logo(), changed_by="test")
    with pytest.raises(NotFound, match="no account acc_none"):
        remove_logo(workflow.runtime, "acc_none", changed_by="test")
    with workflow.runtime.db.read() as session:
        assert find_logo(session, factories.ACCOUNT) is not None


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
        (act,) = list_acts(session, factories.ACCOUNT, ActFilter(action=Action.LANGUAGES_CHANGED)).items
    assert (act.actor, act.subject, act.detail) == ("test", factories.ACCOUNT, {"languages": "en, fr"})
