"""The exporter's files reach a customs broker by each channel: the same bytes, also of two files of one name."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.channels.sftp_upload import MANIFEST
from pipeline.deliveries.models import Notification
from pipeline.deliveries.streams import sender
from tests.deliveries.channels.test_queue import take_messages
from tests.deliveries.conftest import empty_queues
from tests.deliveries.test_polling_endpoint import RECEIVED
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script
from tests.support.mail_server import DESK, MailServer
from tests.support.sftp_server import PASSWORD, SftpServer

Json = dict[str, Any]
NAME = "lid.pdf"
FILES = (b"%PDF-1.7\nsmall", b"%PDF-1.7\nlarger" + b"." * 2000)


def hand_off(open_harness: Open, channel: Json, **settings: Any) -> tuple[ApiHarness, str]:
    """Hand off an export to a customs broker with this channel; return the API and the export's id."""
    harness = open_harness(allow_private_destinations=True, delivery_timeout_seconds=20, **settings)
    new = {"id": "br_own", "kind": "customs_broker", "name": "Demo Brokers", "live": True} | channel
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    export_id = harness.execute(factories.plan(broker="br_own"))
    harness.run(export_id)
    return harness, export_id


def write(harness: ApiHarness, export_id: str, *bodies: bytes, name: str = "m-1") -> str:
    """Send a message with these files, all of one name; return the id of the notification."""
    exporter = harness.client()
    address, sent = f"/api/exports/{export_id}", []
    for body in bodies:
        kind = {"Content-Type": "application/pdf"}
        file = exporter.post(f"{address}/attachments", params={"filename": NAME}, content=body, headers=kind)
        sent.append(file.raise_for_status().json()["id"])
    harness.publisher.tasks.clear()
    message = {"id": name, "text": "See the lid.", "attachments": sent}
    exporter.post(f"{address}/messages", json=message).raise_for_status()
    (task,) = harness.publisher.tasks
    assert sender.deliver_stream(harness.runtime, export_id, "br_own", str(task.channel)).delivered == 1
    written = select(Notification).where(Notification.event_type == "exports.handoff.replied.v1")
    (found,) = (each.id for each in stored.rows(harness.runtime, written) if f'"{name}"' in each.data)
    return found


def fetch(harness: ApiHarness, url: str) -> bytes:
    """Return what a signed link leads to, without a key."""
    return harness.client_with_key(None).get(httpx.URL(url).path).raise_for_status().content


@pytest.mark.parametrize("via", ["queue", "webhook", "borderbuddy"])
def test_message_has_a_link_to_each_file_that_needs_no_key(via: str, open_harness: Open) -> None:
    empty_queues()
    with Endpoint([RECEIVED if via == "borderbuddy" else Script()]) as endpoint:
        channel: Json = {"path": "borderbuddy"} if via == "borderbuddy" else {"channels": [{"channel": via}]}
        if via == "webhook":
            channel["channels"][0]["address"] = endpoint.url
        harness, export_id = hand_off(open_harness, channel, borderbuddy_url=endpoint.url)
        write(harness, export_id, *FILES)
        bodies = [each.body for each in endpoint.requests] or [
            bytes(str(each.body), "utf-8") if isinstance(each.body, str) else each.body
            for each in take_messages("memory://", "exports.broker", 2)
        ]
    event = json.loads(bodies[-1])
    assert event["type"] == "exports.handoff.replied.v1"
    links: list[Mapping[str, Any]] = event["data"]["attachments"]
    assert [(each["filename"], each["size"], each["sha256"]) for each in links] == [
        (NAME, len(body), hashlib.sha256(body).hexdigest()) for body in FILES
    ]
    assert tuple(fetch(harness, each["signedUrl"]) for each in links) == FILES


def test_email_attaches_files_and_links_one_that_is_too_large(open_harness: Open) -> None:
    with MailServer() as smtp:
        mail = {"smtp_url": f"smtp://127.0.0.1:{smtp.port}", "mail_from": "exports@maple.example"}
        channel = {"channels": [{"channel": "email", "addresses": [DESK]}]}
        harness, export_id = hand_off(open_harness, channel, mail_attach_max_bytes=1000, **mail)
        write(harness, export_id, *FILES)
        write(harness, export_id, FILES[0], FILES[0] + b"2", name="m-2")
        *_, one, two = ([*each.parsed.iter_attachments()] for each in smtp.mails)
        (body,) = (part for part in smtp.mails[-2].parsed.walk() if part.get_content_type() == "text/plain")
        text = body.get_content()
    read = [[(part.get_filename(), part.get_payload(decode=True)) for part in each[1:]] for each in (one, two)]
    first, second = f"1_{NAME}", f"2_{NAME}"
    assert read == [[(first, FILES[0])], [(first, FILES[0]), (second, FILES[0] + b"2")]]
    (link,) = re.findall(r"\S+/documents/\S+", text)
    assert fetch(harness, link) == FILES[1]


def test_sftp_server_gets_each_file_in_a_folder_of_its_own(open_harness: Open, tmp_path: Path) -> None:
    with ExitStack() as opened:
        server = opened.enter_context(SftpServer(tmp_path))
        channel = {"path": "byob", "channels": [server.endpoint() | {"password": PASSWORD}]}
        harness, export_id = hand_off(open_harness, channel)
        folders = [f"out/{write(harness, export_id, *files, name=f'm-{len(files)}')}" for files in (FILES, ())]
        written = server.files()
    with_files, without = ({path for path in written if path.startswith(f"{each}/")} for each in folders)
    assert without == {f"{folders[1]}/{MANIFEST}", f"{folders[1]}/message.json"}
    assert len(with_files) == 4
    assert tuple(written[f"{folders[0]}/{number}/{NAME}"] for number in (1, 2)) == FILES
    for folder, names in zip(folders, ([f"1/{NAME}", f"2/{NAME}", "message.json"], ["message.json"]), strict=True):
        manifest = json.loads(written[f"{folder}/{MANIFEST}"])
        assert manifest["type"] == "exports.handoff.replied.v1"
        assert [(each["name"], each["sha256"]) for each in manifest["files"]] == [
            (name, hashlib.sha256(written[f"{folder}/{name}"]).hexdigest()) for name in names
        ]
