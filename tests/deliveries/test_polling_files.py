"""Files that go with an answer in in/ on a customs broker's SFTP server: kept once, or refused with the reason."""

import hashlib
from base64 import b64encode

import pytest
from sqlmodel import select

from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels import sftp_inbox
from pipeline.deliveries.models import Acknowledgement
from pipeline.exports.file_models import ConversationFile
from tests.deliveries import test_polling_folder as folder
from tests.support import stored
from tests.support.sftp_server import SftpServer

server, runtime = folder.server, folder.runtime


def test_files_beside_an_answer_are_kept_once_and_moved_with_it(runtime: Runtime, server: SftpServer) -> None:
    sent = folder.hand_over(runtime)
    pdf = b"%PDF-1.7\n"
    files = [{"filename": "7501.pdf", "sha256": hashlib.sha256(pdf).hexdigest()}]
    files.append({"filename": "notes.csv", "content": b64encode(b"a,b\n").decode()})
    for _ in range(2):
        folder.write_inbox_file(server, "7501.pdf", pdf)
        folder.write_inbox_file(server, "a.json", folder.build_answer(sent.id, "filed", files=files))
        folder.read_inbox(runtime)
    (answer,) = stored.rows(runtime, select(Acknowledgement))
    kept = {each.id: each.filename for each in stored.rows(runtime, select(ConversationFile))}
    assert [kept[each] for each in answer.attachments or ()] == ["7501.pdf", "notes.csv"]
    assert len(kept) == 2
    moved = folder.list_inbox(server)
    assert len(moved) == 4, "each file is in in/done/, with the answer"
    assert all(name.startswith("done/") for name in moved)
    assert moved["done/7501.pdf"] == pdf


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ({"filename": "late.pdf"}, "is not beside the answer"),
        ({"filename": "../secret.pdf"}, "its name is not safe"),
        ({"filename": "done"}, "its name is not safe"),
        ({"filename": "link.pdf"}, "it is not a regular file"),
        ({"filename": "large.pdf"}, "it has more than 9 bytes"),
        ({"filename": "7501.pdf", "sha256": "0" * 64}, "has another SHA-256"),
        ({"filename": "page.csv"}, "the XML is a page"),
        ({"filename": "7501.pdf", "content": "!"}, "is not base64"),
    ],
)
def test_answer_with_a_wrong_file_is_refused_with_the_reason(
    runtime: Runtime, server: SftpServer, monkeypatch: pytest.MonkeyPatch, file: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr(sftp_inbox, "ATTACHMENT_BYTES", 9)
    sent = folder.hand_over(runtime)
    (server.root / "secret.pdf").write_bytes(b"%PDF-1.7\n")
    (server.root / "in" / "link.pdf").symlink_to(server.root / "secret.pdf")
    for name, body in (("7501.pdf", b"%PDF-1.7\n"), ("large.pdf", b"%PDF-1.7 \n"), ("page.csv", b"<html />")):
        folder.write_inbox_file(server, name, body)
    folder.write_inbox_file(server, "a.json", folder.build_answer(sent.id, files=[file]))
    assert folder.read_inbox(runtime).refused == 1
    assert reason in folder.list_inbox(server)["refused/a.json.reason.txt"].decode()
    assert (server.root / "in" / "7501.pdf").exists(), "a corrected answer finds it"
    assert not folder.list_answers(runtime)
    assert not stored.rows(runtime, select(ConversationFile))
