"""Files of a conversation by the API: sent by key or signature, named once, and read only by who may."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from pipeline.accounts import partners
from pipeline.client import Exports, InvalidArgument
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.portal.test_handoffs import BROKER, hand_off, read_submission
from tests.support.command_line import Commands

PDF = b"%PDF-1.7\n<script>alert(1)</script>"
CSV = b"entry,port\nABC-1,0901\n"


def send(client: Any, address: str, body: bytes = PDF, kind: str = "application/pdf", name: str = "7501.pdf") -> Any:
    return client.post(
        f"{address}/attachments", params={"filename": name}, content=body, headers={"Content-Type": kind}
    )


def test_both_sides_send_files_and_read_those_of_the_other(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    handoff = f"/api/broker-submissions/{read_submission(harness, export_id)['id']}"
    exporter, broker = harness.client(), harness.client(f"partner:{BROKER}")
    sent = send(broker, handoff)
    assert (sent.status_code, send(broker, handoff).json()) == (200, sent.json())
    answer = {"id": "R-1", "status": "filed", "attachments": [sent.json()["id"]]}
    answers = [answer, answer, answer | {"attachments": []}]
    codes = [broker.post(f"{handoff}/acknowledgements", json=each).status_code for each in answers]
    assert codes == [200, 200, 409]
    file = send(exporter, f"/api/exports/{export_id}", CSV, "text/csv", "../a b.csv").json()
    assert broker.get(file["download_url"]).status_code == 404
    message = {"id": "m-1", "text": "See the table.", "attachments": [file["id"]]}
    assert exporter.post(f"/api/exports/{export_id}/messages", json=message).status_code == 201
    items = exporter.get(f"/api/exports/{export_id}/conversation").json()["items"]
    assert [[each["filename"] for each in item["attachments"]] for item in items] == [["7501.pdf"], ["a-b.csv"]]
    for reader, each, body in ((exporter, sent.json(), PDF), (broker, sent.json(), PDF), (broker, file, CSV)):
        read = reader.get(each["download_url"])
        assert (read.content, read.headers["content-disposition"]) == (
            body,
            f'attachment; filename="{each["filename"]}"',
        )
        assert read.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert read.headers["x-content-type-options"] == "nosniff"
    assert harness.client(account=OTHER).get(file["download_url"]).status_code == 404
    renewed = broker.post(f"{handoff}/links").json()["links"]
    assert {file["id"], sent.json()["id"]} < {each["id"] for each in renewed}
    signed = next(each["signedUrl"] for each in renewed if each["id"] == file["id"])
    assert harness.client_with_key(None).get(httpx.URL(signed).path).content == CSV


def test_partner_without_a_key_signs_its_file(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    handoff = f"/api/broker-submissions/{read_submission(harness, export_id)['id']}"
    secret = partners.rotate_secret(harness.runtime, "acc_demo", BROKER, 0, actor="key_person").secret
    now = datetime.now(UTC)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "content-type": "text/csv"}
    signature = {"webhook-signature": Webhook(secret).sign("msg_1", now, CSV.decode())}
    for body, status in ((CSV, 200), (CSV + b"x,y\n", 401)):
        sent = harness.client_with_key(None).post(
            f"{handoff}/attachments?filename=a.csv", content=body, headers=headers | signature
        )
        assert sent.status_code == status


def test_client_and_command_line_send_and_download(harness: ApiHarness, tmp_path: Path) -> None:
    export_id, bearer = hand_off(harness, units=1), harness.key("read", "operate").bearer
    picture = tmp_path / "lid.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    command_line = Commands(
        {"EXPORTS_API_URL": harness.url, "EXPORTS_API_KEY": bearer, "XDG_CONFIG_HOME": str(tmp_path)}
    )
    for _ in range(2):
        command_line.json("reply", export_id, "See it.", "--file", str(picture))
    with Exports(harness.url, bearer) as api:
        handoff = read_submission(harness, export_id)["id"]
        filed = api.attach_to_handoff(handoff, "7501.pdf", PDF)
        assert api.attach_to_handoff(handoff, "7501.pdf", PDF) == filed
        assert api.download(filed) == PDF
        (item,) = api.conversation(export_id)
        with pytest.raises(InvalidArgument, match="must end with one of"):
            api.attach(export_id, "7501.doc", PDF)
    shown = command_line("conversation", export_id, "--out", str(tmp_path / "out")).stdout
    (file,) = item.attachments
    assert "file lid.png" in shown
    assert (tmp_path / "out" / file.id / "lid.png").read_bytes() == picture.read_bytes()


@pytest.mark.parametrize(
    ("body", "kind", "field", "status", "words"),
    [
        (b"", "application/pdf", "file", 400, "is empty"),
        (PDF, "image/png", "Content-Type", 400, "the content is application/pdf"),
        (b"a,b", "application/octet-stream", "filename", 400, "is named as PDF, but its content is CSV"),
        (b"<html><b/></html>", "text/csv", "file", 400, "is a page"),
        (PDF + b" " * 20 * 1024**2, "application/pdf", "file", 413, "at most 20971520 bytes"),
    ],
)
def test_other_files_are_refused(
    harness: ApiHarness, body: bytes, kind: str, field: str, status: int, words: str
) -> None:
    export_id = hand_off(harness, units=1)
    refused = send(harness.client(), f"/api/exports/{export_id}", body, kind)
    assert (refused.status_code, refused.json()["field"]) == (status, field)
    assert words in refused.json()["message"]
