"""The connection test of an SFTP server: a good server passes all stages, and each failure has a remedy."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelUnavailable
from pipeline.deliveries.channels.protocol import OutgoingMessage, Stage
from pipeline.deliveries.channels.sftp import SftpChannel
from pipeline.deliveries.remedies import find_remedy
from tests.support.sftp_server import SftpServer

STAGES = ("resolve", "connect", "host key", "sign in", "write, rename, read, delete", "read answers", "test event")
MESSAGE = OutgoingMessage("ntf_test", "exports.connection.tested.v1", "broker.br.connection.tested.v1", b"{}", "")


def run_trial(target: Target, **settings: Any) -> list[Stage]:
    given = {"allow_private_destinations": True, "delivery_timeout_seconds": 5} | settings
    return list(SftpChannel(Settings.model_validate(given)).test(MESSAGE, target))


def test_good_server_passes_every_stage_and_keeps_only_the_test_event(server: SftpServer) -> None:
    stages = run_trial(server.target())
    assert [(stage.name, stage.passed) for stage in stages] == [(name, True) for name in STAGES]
    assert list(server.files()) == ["out/ntf_test/manifest.json", "out/ntf_test/message.json"]
    assert {path.name for path in (server.root / "in").iterdir()} == {"done", "refused"}
    assert stages[0].found == "127.0.0.1 is a private address, which the settings allow"
    assert server.host_key.get_fingerprint() in stages[2].found


def test_waiting_answers_are_counted_and_not_taken(server: SftpServer) -> None:
    (server.root / "in").mkdir()
    (server.root / "in" / "a.json").write_text("{}")
    assert "waiting answers: 1" in run_trial(server.target())[5].found
    assert "in/a.json" in server.files()


def close_server(server: SftpServer) -> Target:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.port = taken.getsockname()[1]
    return server.target()


def other_key(server: SftpServer) -> Target:
    return server.target(pinned=asyncssh.generate_private_key("ssh-ed25519"))


def wrong_password(server: SftpServer) -> Target:
    return server.target(credential="wrong")


def no_right_to_write(server: SftpServer) -> Target:
    server.faults.write = refuse_at("connection-test")
    return server.target()


def no_folder_for_answers(server: SftpServer) -> Target:
    (server.root / "in").write_text("a file where a folder should be")
    return server.target()


def no_room_for_the_event(server: SftpServer) -> Target:
    server.faults.write = refuse_at("ntf_test/")
    return server.target()


def refuse_at(at: str) -> Callable[[str], None]:
    def refuse(path: str) -> None:
        if at in path:
            raise asyncssh.SFTPPermissionDenied("not here")

    return refuse


@pytest.mark.parametrize(
    ("stage", "make"),
    [
        ("connect", close_server),
        ("host key", other_key),
        ("sign in", wrong_password),
        ("write, rename, read, delete", no_right_to_write),
        ("read answers", no_folder_for_answers),
        ("test event", no_room_for_the_event),
    ],
)
def test_failed_stage_ends_the_test_with_a_remedy(
    server: SftpServer, stage: str, make: Callable[[SftpServer], Target]
) -> None:
    stages = run_trial(make(server))
    assert [each.name for each in stages] == list(STAGES[: STAGES.index(stage) + 1])
    assert [each.passed for each in stages] == [True] * (len(stages) - 1) + [False]
    assert stages[-1].remedy
    assert stages[-1].found


@pytest.mark.parametrize("fault", ["refused", "dropped"])
def test_missing_sftp_session_is_not_reported_as_wrong_credential(tmp_path: Path, fault: str) -> None:
    server = SftpServer(tmp_path)
    server.faults.session = fault
    with server:
        stage = run_trial(server.target())[-1]
        with pytest.raises(ChannelUnavailable) as caught:
            list(SftpChannel(Settings(allow_private_destinations=True)).send([MESSAGE], server.target()))
    assert (stage.name, stage.passed, server.sign_ins) == ("sign in", False, 2)
    assert stage.found.startswith("signed in, but the server gave no sftp session; see its log (chroot, subsystem)")
    assert "chroot" in (stage.remedy or "")
    assert "credential" not in (stage.remedy or "")
    assert caught.value.status == "NoSftpSession"
    assert "chroot" in find_remedy("acc_1", "br_1", "sftp", caught.value.status)
    assert server.files() == {}


def test_private_sftp_address_fails_at_first_stage(server: SftpServer) -> None:
    (stage,) = run_trial(server.target(), allow_private_destinations=False)
    assert (stage.name, stage.passed) == ("resolve", False)
    assert "private network" in stage.found


def test_unusable_sftp_settings_are_a_failed_stage(server: SftpServer) -> None:
    (stage,) = run_trial(server.target(credential=None))
    assert (stage.name, stage.passed) == ("settings", False)
