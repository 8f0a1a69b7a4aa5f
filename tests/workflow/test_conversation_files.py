"""The files of a conversation: kept once by hash, sent, bundled, checked, rebuilt and purged."""

from datetime import date
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from pipeline.core.blob_store import BlobCondition
from pipeline.core.errors import NotInHandoff, PayloadTooLarge, Purged, ValidationFailed
from pipeline.deliveries.handoff_bundle import gather_bundle, stream_bundle
from pipeline.deliveries.submissions import attachments
from pipeline.deliveries.submissions.attachments import attach_files, check_file
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Artifact, Export
from pipeline.exports.schemas.submissions import AttachmentView
from pipeline.ops import legal_holds, retention, store_check
from pipeline.ops.verification.verifier import verify_bundle
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export
from tests.workflow.test_conversation import answer, ask, count_damaged, read_items, write

PDF = b"%PDF-1.7\n<script>"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\xff" * 40


def attach(
    workflow: WorkflowHarness,
    export_id: str,
    name: str = "7501.pdf",
    body: bytes = PDF,
    *,
    sender: str | None = factories.BROKER,
) -> AttachmentView:
    """Send a file: as the customs broker, or without a `sender` as the exporter."""
    return attach_files(workflow.runtime, [check_file(export_id, sender, name, body)], sender or "key_person")[0]


@pytest.mark.parametrize(
    ("name", "body", "kept"),
    [
        ("Entry 7501.PDF", PDF, "Entry-7501.pdf"),
        ("../../etc/passwd.png", PNG, "passwd.png"),
        ("C:\\scan.jpeg", b"\xff\xd8\xff\xe0", "scan.jpeg"),
        ("a.csv", "\ufeffcode;Wert\n1;\u00e4\n".encode(), "a.csv"),
        ("\u6c49.xml", b"<?xml version='1.0'?>\n<entry><line/></entry>", "file.xml"),
        ("x" * 300 + ".xml", b"<e/>", "x" * 80 + ".xml"),
    ],
)
def test_file_has_the_type_of_its_content_and_a_safe_name(name: str, body: bytes, kept: str) -> None:
    assert check_file("exp_1", None, name, body).filename == kept


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("a.pdf", b"", "is empty"),
        ("a.exe", b"MZ\x90\x00", "does not end as"),
        ("a.pdf", PNG, "named as PDF, but its content is PNG"),
        ("a.csv", b"<html><script>alert(1)</script>", "is a page"),
        ("a.csv", b"<html><b>1</b></html>", "is a page"),
        ("a.xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>", "is a page"),
        ("a.xml", b"<!DOCTYPE a [<!ENTITY b 'bbbb'>]><a>&b;</a>", "has a document type"),
        ("a.xml", b"<a><b></a>", "mismatched tag in line 1"),
        ("a.csv", b'{"a": 1, "b": 2}', "begins like JSON"),
        ("a.csv", b"one column", "no comma, semicolon or tab"),
        ("a.csv", b"a,b\n\x001", "is a control character"),
        ("a.csv", "a,\u00e4".encode("latin-1"), "byte 3 is not UTF-8"),
        ("a.csv", b"PK\x03\x04,\xff", "byte 6 is not UTF-8"),
    ],
)
def test_other_content_is_refused(name: str, body: bytes, words: str) -> None:
    with pytest.raises(ValidationFailed, match=words):
        check_file("exp_1", None, name, body)


def test_declared_type_must_be_that_of_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_file("exp_1", None, "evil.html", PDF, declared="application/pdf").filename == "evil.html.pdf"
    assert check_file("exp_1", None, "e", b"<e/>", declared="text/xml; charset=utf-8").media_type == "application/xml"
    with pytest.raises(ValidationFailed, match="is application/pdf, not 'image/png'"):
        check_file("exp_1", None, "a.pdf", PDF, declared="image/png")
    monkeypatch.setattr(attachments, "MAX_BYTES", 3)
    with pytest.raises(PayloadTooLarge):
        check_file("exp_1", None, "a.pdf", PDF)


def test_files_go_both_ways_once_and_are_proven(workflow: WorkflowHarness, tmp_path: Path, database_url: str) -> None:
    export_id = ask(workflow)
    entry, picture = attach(workflow, export_id), attach(workflow, export_id, "lid.png", PNG, sender=None)
    assert attach(workflow, export_id) == entry
    for send, named in ((write, entry), (partial(answer, status="remark", message="x"), picture)):
        with pytest.raises(NotInHandoff, match=f"sent no file {named.id}"):
            send(workflow, export_id, "m-9", attachments=[named.id])
    for _ in range(2):
        answer(workflow, export_id, "a-2", "filed", attachments=[entry.id])
        write(workflow, export_id, attachments=[picture.id])
    assert {each.id: [file.filename for file in each.attachments] for each in read_items(workflow, export_id)} == {
        "a-1": [],
        "a-2": ["7501.pdf"],
        "m-1": ["lid.png"],
    }
    assert workflow.events(export_id).count("FILE_ATTACHED") == 2
    with workflow.runtime.db.read() as session:
        packed = gather_bundle(session, workflow.runtime.settings, session.get_one(Export, export_id))
    place = tmp_path / "bundle.zip"
    place.write_bytes(b"".join(stream_bundle(workflow.runtime.store, packed)))
    checks = {each.path: each.failure for each in verify_bundle(place).checks}
    assert {each for each in checks if each.startswith("conversation/")} == {
        f"conversation/{entry.id}/7501.pdf",
        f"conversation/{picture.id}/lid.png",
    }
    assert not any(failure for path, failure in checks.items() if path.startswith("conversation"))
    place.write_bytes(place.read_bytes().replace(PDF, PDF.replace(b"script", b"scrape")))
    assert {each.path: each.failure for each in verify_bundle(place).checks}[f"conversation/{entry.id}/7501.pdf"]
    assert count_damaged(workflow) == 0
    workflow.change(delete(ConversationFile))
    assert (count_damaged(workflow), count_damaged(workflow, apply=True)) == (1, 0)
    assert [file for each in read_items(workflow, export_id) for file in each.attachments if file == entry] == [entry]


def test_lost_file_is_found_by_the_check_of_the_store(workflow: WorkflowHarness) -> None:
    export_id = ask(workflow)
    file = attach(workflow, export_id)
    workflow.runtime.store.delete(file.sha256)
    damaged: list[store_check.DamagedDocument] = []
    report = store_check.check_store(workflow.runtime, damaged.append, lambda _: None, restore=True)
    assert [(each.filename, each.condition, each.reason) for each in damaged] == [
        ("7501.pdf", "missing", "only its sender and a backup have it; restore it from the backup")
    ]
    assert report.documents == report.total == len(workflow.rows(select(Artifact))) + 1
    attach(workflow, export_id)
    assert store_check.check_store(workflow.runtime, damaged.append, lambda _: None).unrestored == 0


def test_purge_deletes_bytes_and_names_but_no_bytes_of_another_export(workflow: WorkflowHarness) -> None:
    first = ask(workflow)
    second = execute_export(workflow, factories.plan(batch="batch_2", invoice="B"))
    answer(workflow, first, "a-2", "filed", attachments=[attach(workflow, first).id])
    shared = attach(workflow, second)
    held = legal_holds.place_hold(
        workflow.runtime, factories.ACCOUNT, export_id=second, reason="Audit.", placed_by="key_person"
    )
    for condition in (BlobCondition.INTACT, BlobCondition.MISSING):
        assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports == 1
        assert workflow.runtime.store.condition(shared.sha256) is condition
        if condition is BlobCondition.INTACT:
            legal_holds.release_hold(workflow.runtime, held.id, released_by="key_person")
    rows = workflow.rows(select(ConversationFile))
    assert [(each.filename, each.purged_at is None) for each in rows] == [(None, False)] * 2
    assert count_damaged(workflow) == 0
    with pytest.raises(Purged):
        attach(workflow, first)


def test_one_side_sends_a_bounded_number_of_files(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = ask(workflow)
    monkeypatch.setattr(attachments, "MAX_FILES", 1)
    attach(workflow, export_id)
    attach(workflow, export_id)
    attach(workflow, export_id, sender=None)
    with pytest.raises(ValidationFailed, match="1 files of"):
        attach(workflow, export_id, "other.pdf")
