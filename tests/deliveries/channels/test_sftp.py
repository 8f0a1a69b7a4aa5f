"""Messages as files on a partner's SFTP server: complete or absent, and only on the pinned server."""

import hashlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import asyncssh
import pytest

from config.settings import Settings
from pipeline.accounts.channels import SftpEndpoint
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, StoreUnavailable
from pipeline.deliveries.channels.protocol import Attachment, DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.channels.sftp import SftpChannel
from tests.support.sftp_server import PASSWORD, SftpServer
from tests.system.faults.matrix import mark_own_stack

BODY = b'{"id": "ntf_1"}'
INVOICE, LIST = b"%PDF-1.7 " + bytes(range(256)) * 1500, b"[]"


def attachment(name: str, body: bytes, read: Callable[[], bytes] | None = None) -> Attachment:
    digest = hashlib.sha256(body).hexdigest()
    return Attachment(name, "application/pdf", len(body), digest, "/api/artifacts/art_1", read or (lambda: body))


def message(*attachments: Attachment, id: str = "ntf_1") -> OutgoingMessage:  # noqa: A002 - the field's name
    return OutgoingMessage(id, "exports.handoff.ready.v1", "broker.br.handoff.ready.v1", BODY, "exp_1", attachments)


HANDOFF = message(attachment("CP-1/invoice.pdf", INVOICE), attachment("CP-1/packing_list.json", LIST))


def channel(**settings: Any) -> SftpChannel:
    given = {"allow_private_destinations": True, "delivery_timeout_seconds": 5, "sftp_timeout_seconds": 5}
    return SftpChannel(Settings.model_validate(given | settings))


def send(target: Target, *messages: OutgoingMessage, **settings: Any) -> list[DeliveryReceipt]:
    return list(channel(**settings).send(messages or (HANDOFF,), target))


def fail_at(error: Exception, at: str = "") -> Callable[[str], None]:
    def fail(path: str) -> None:
        if at in path:
            raise error

    return fail


def list_final_files(server: SftpServer) -> list[str]:
    return [path for path in server.files() if not path.endswith(".part")]


def test_message_and_documents_are_in_one_folder(server: SftpServer) -> None:
    (receipt,) = send(server.target())
    assert receipt == DeliveryReceipt("written", "files written: 3; there already: 0")
    files = server.files()
    manifest = json.loads(files.pop("out/ntf_1/manifest.json"))
    assert files == {
        "out/ntf_1/message.json": BODY,
        "out/ntf_1/CP-1/invoice.pdf": INVOICE,
        "out/ntf_1/CP-1/packing_list.json": LIST,
    }
    assert {name: manifest[name] for name in ("id", "type", "exportId")} == {
        "id": "ntf_1",
        "type": "exports.handoff.ready.v1",
        "exportId": "exp_1",
    }
    assert {f"out/ntf_1/{each['name']}": (each["size"], each["sha256"]) for each in manifest["files"]} == {
        path: (len(body), hashlib.sha256(body).hexdigest()) for path, body in files.items()
    }


def test_files_are_renamed_after_writing_and_the_manifest_last(server: SftpServer) -> None:
    send(server.target())
    assert {path for what, path in server.done if what == "write"} == {f"{path}.part" for path in server.files()}
    renamed = [path for what, path in server.done if what == "rename"]
    assert renamed[-2:] == ["out/ntf_1/message.json", "out/ntf_1/manifest.json"]
    assert len(renamed) == 4


def test_several_messages_go_over_one_connection(server: SftpServer) -> None:
    assert len(send(server.target(), message(id="ntf_1"), message(id="ntf_2"), message(id="ntf_3"))) == 3
    assert server.sign_ins == 1
    assert [path for path in list_final_files(server) if path.endswith("manifest.json")] == [
        f"out/ntf_{number}/manifest.json" for number in (1, 2, 3)
    ]


def test_repeated_message_writes_only_its_manifest(server: SftpServer) -> None:
    send(server.target())
    before, server.done = server.files(), []
    assert send(server.target()) == [DeliveryReceipt("written", "files written: 0; there already: 3")]
    assert server.files() == before
    assert [path for what, path in server.done if what == "rename"] == ["out/ntf_1/manifest.json"]


def test_partial_upload_is_completed_and_foreign_file_is_replaced(server: SftpServer) -> None:
    folder = server.root / "out" / "ntf_1" / "CP-1"
    folder.mkdir(parents=True)
    (folder / "invoice.pdf").write_bytes(INVOICE[::-1])
    (folder / "packing_list.json.part").write_bytes(b"half of something longer than it")
    assert send(server.target()) == [DeliveryReceipt("written", "files written: 3; there already: 0")]
    assert server.files()["out/ntf_1/CP-1/invoice.pdf"] == INVOICE
    assert server.files()["out/ntf_1/CP-1/packing_list.json"] == LIST
    assert len(server.files()) == 4


@pytest.mark.parametrize("folder", ["/maple", "/maple/"])
def test_files_are_below_the_folder_of_the_address(server: SftpServer, folder: str) -> None:
    (server.root / "maple").mkdir()
    send(server.target(folder), message())
    assert list_final_files(server) == ["maple/out/ntf_1/manifest.json", "maple/out/ntf_1/message.json"]


def test_private_key_signs_in(server: SftpServer) -> None:
    key = server.user_key.export_private_key().decode()
    assert len(send(server.target(credential=key), message())) == 1


def test_server_without_overwriting_rename_gets_all_files(server: SftpServer) -> None:
    server.faults.rename = fail_at(asyncssh.SFTPOpUnsupported("not here"))
    send(server.target())
    assert send(server.target()) == [DeliveryReceipt("written", "files written: 0; there already: 3")]
    assert len(server.files()) == 4


# Failures


@mark_own_stack("F23")
def test_unpinned_host_key_is_refused_before_sign_in(server: SftpServer) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(ChannelRefused) as caught:
        send(server.target(pinned=other))
    assert server.host_key.get_fingerprint() in str(caught.value)
    assert (caught.value.status, server.sign_ins, server.files()) == ("HostKeyNotVerifiable", 0, {})


def test_unpinned_host_key_of_another_kind_is_refused_and_named(server: SftpServer) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    with pytest.raises(ChannelRefused, match="ssh-ed25519 SHA256:"):
        send(server.target(pinned=other))
    assert server.sign_ins == 0


def test_either_of_two_pinned_keys_is_accepted(server: SftpServer) -> None:
    endpoints = [server.endpoint(pinned=asyncssh.generate_private_key("ssh-ed25519")), server.endpoint()]
    both = endpoints[1] | {"hostKeys": [endpoint["hostKeys"][0] for endpoint in endpoints]}
    target = Target("acc_demo", "br_demo", test=False, endpoint=SftpEndpoint.model_validate(both), credential=PASSWORD)
    assert len(send(target, message())) == 1


def test_ssh_files_of_the_operator_are_not_used(
    server: SftpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    known = f"[127.0.0.1]:{server.port} {server.host_key.export_public_key().decode()}"
    (home / "known_hosts").write_text(known)
    (home / "config").write_text("Host *\n  StrictHostKeyChecking no\n  Port 1\n")
    (home / "id_ed25519").write_bytes(server.user_key.export_private_key())
    monkeypatch.setenv("HOME", str(home.parent))
    with pytest.raises(ChannelRefused):
        send(server.target(pinned=asyncssh.generate_private_key("ssh-ed25519")))
    with pytest.raises(ChannelUnavailable) as caught:
        send(server.target(credential="wrong"))
    assert (caught.value.status, server.sign_ins) == ("PermissionDenied", 0)


def test_wrong_password_is_retried(server: SftpServer) -> None:
    server.password = PASSWORD[::-1]
    with pytest.raises(ChannelUnavailable) as caught:
        send(server.target())
    assert caught.value.status == "PermissionDenied"
    server.password = PASSWORD
    assert len(send(server.target())) == 1


@mark_own_stack("F23")
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (asyncssh.SFTPFailure("no space left on device"), "SFTPFailure"),
        (asyncssh.SFTPNoSpaceOnFilesystem("disk full"), "SFTPFailure"),  # as version 3 of the protocol reports it
        (asyncssh.SFTPQuotaExceeded("quota"), "SFTPFailure"),
        (asyncssh.SFTPPermissionDenied("not yours"), "SFTPPermissionDenied"),
        (OSError(28, "No space left on device"), "SFTPFailure"),
    ],
)
def test_full_disk_leaves_no_final_or_partial_file(server: SftpServer, fault: Exception, status: str) -> None:
    server.faults.write = fail_at(fault, at="invoice")
    with pytest.raises(ChannelUnavailable, match=r"did not take ntf_1/CP-1/invoice\.pdf") as caught:
        send(server.target())
    assert caught.value.status == status
    assert caught.value.answer is not None
    assert [path for path in server.files() if "invoice" in path] == []
    assert "out/ntf_1/manifest.json" not in server.files()


@mark_own_stack("F23")
@pytest.mark.parametrize("at", ["invoice.pdf", "message.json", "manifest.json"])
def test_failed_rename_leaves_no_final_file(server: SftpServer, at: str) -> None:
    server.faults.rename = fail_at(asyncssh.SFTPFailure("no"), at=at)
    with pytest.raises(ChannelUnavailable):
        send(server.target())
    assert [path for path in server.files() if at in path] == []
    assert "out/ntf_1/manifest.json" not in server.files()
    server.faults.rename = None
    send(server.target())
    assert len(server.files()) == 4


@mark_own_stack("F23")
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_server_crash_during_upload_shows_only_complete_files(server: SftpServer, writes: int) -> None:
    server.faults.end_at_write = writes
    with pytest.raises(ChannelUnavailable):
        send(server.target())
    whole = {"invoice.pdf": INVOICE, "packing_list.json": LIST, "message.json": BODY}
    assert all(server.files()[path] == whole[Path(path).name] for path in list_final_files(server))
    assert "out/ntf_1/manifest.json" not in server.files()
    server.faults.end_at_write = None
    send(server.target())
    assert len(list_final_files(server)) == 4
    assert json.loads(server.files()["out/ntf_1/manifest.json"])["files"][0]["size"] == len(INVOICE)


@mark_own_stack("F23")
def test_server_that_stores_other_bytes_is_detected(server: SftpServer) -> None:
    server.faults.report_wrong_size = True
    with pytest.raises(ChannelUnavailable) as caught:
        send(server.target())
    assert (caught.value.status, list_final_files(server)) == ("FileCorrupt", [])


def test_slow_sftp_server_is_bounded_by_total_time(server: SftpServer) -> None:
    server.faults.write_seconds = 30
    began = time.monotonic()
    with pytest.raises(ChannelUnavailable, match="time"):
        send(server.target(), sftp_timeout_seconds=0.3)
    assert time.monotonic() - began < 15
    assert list_final_files(server) == []


def test_silent_port_is_bounded_by_sign_in_time(server: SftpServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server.port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(ChannelUnavailable):
            send(server.target(), delivery_timeout_seconds=0.3)
        assert time.monotonic() - began < 15


def test_closed_port_is_retried(server: SftpServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        server.port = closed.getsockname()[1]
    with pytest.raises(ChannelUnavailable, match="does not answer"):
        send(server.target())


def test_private_sftp_server_is_not_contacted(server: SftpServer) -> None:
    with pytest.raises(ChannelUnavailable, match="private network"):
        send(server.target(), allow_private_destinations=False)
    assert server.sign_ins == 0


def test_missing_or_changed_documents_are_not_sent(server: SftpServer) -> None:
    def down() -> NoReturn:
        raise StoreUnavailable("down")

    with pytest.raises(ChannelUnavailable, match="store"):
        send(server.target(), message(attachment("CP-1/invoice.pdf", INVOICE, down)))
    with pytest.raises(ChannelRefused, match=r"invoice\.pdf"):
        send(server.target(), message(attachment("CP-1/invoice.pdf", INVOICE, lambda: b"another")))
    assert server.files() == {}


@pytest.mark.parametrize(
    "name", ["../x.pdf", "CP-1/../../x", "x.pdf", "a/b/c", "CP-1/.hidden", "CP-1/a\nb", "/etc/x", "CP-1/"]
)
def test_unsafe_file_name_is_refused(server: SftpServer, name: str) -> None:
    with pytest.raises(ChannelRefused):
        send(server.target(), message(attachment(name, LIST)))
    with pytest.raises(ChannelRefused):
        send(server.target(), message(id=name))
    assert server.files() == {}


@pytest.mark.parametrize(
    ("changes", "credential"),
    [
        ({}, None),
        ({}, "-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense"),
        ({"address": "sftp://exports@127.0.0.1:99999"}, PASSWORD),
        ({"hostKeys": ["ssh-ed25519 AAAA"]}, PASSWORD),
    ],
)
def test_unusable_sftp_settings_are_refused(
    server: SftpServer, changes: dict[str, Any], credential: str | None
) -> None:
    endpoint = SftpEndpoint.model_validate(server.endpoint() | changes)
    with pytest.raises(ChannelRefused):
        send(Target("acc_demo", "br_demo", test=False, endpoint=endpoint, credential=credential))


def test_private_key_with_passphrase_is_refused_with_remedy(server: SftpServer) -> None:
    key = server.user_key.export_private_key("pkcs8-pem", passphrase="words").decode()
    with pytest.raises(ChannelRefused, match="without a passphrase"):
        send(server.target(credential=key))
