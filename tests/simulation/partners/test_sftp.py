"""The connection test passes the good simulated SFTP server, and stops at the right stage for each fault."""

from pathlib import Path
from typing import get_args

import pytest

from config.settings import Settings
from pipeline.accounts.channels import SftpEndpoint
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.protocol import OutgoingMessage, Stage
from pipeline.deliveries.channels.sftp import SftpChannel
from pipeline.simulation.partners.sftp import FileFault, FileReceiver

MESSAGE = OutgoingMessage("cnt_1", "exports.connection.test.v1", "broker.br_1.connection.test.v1", b"{}")

STAGES = ["resolve", "connect", "host key", "sign in", "write, rename, read, delete", "read answers", "test event"]

BAD: list[tuple[FileFault, str, str]] = [
    ("another-key", "host key", "pin the key if it is theirs"),
    ("refuses-all", "sign in", "check user and credential"),
    ("no-writes", "write, rename, read, delete", "all rights below out/"),
    ("no-renames", "write, rename, read, delete", "all rights below out/"),
    ("other-bytes", "write, rename, read, delete", "all rights below out/"),
    ("no-deletes", "write, rename, read, delete", "all rights below out/"),
    ("no-answers", "read answers", "all rights below in/"),
]


def run_test(folder: Path, fault: FileFault | None = None) -> list[Stage]:
    settings = Settings.model_validate({"allow_private_destinations": True, "delivery_timeout_seconds": 20})
    with FileReceiver(folder, fault=fault) as there:
        endpoint = SftpEndpoint(address=there.address, host_keys=[there.host_key])
        target = Target("acc_1", "br_1", test=False, endpoint=endpoint, credential=there.password)
        return list(SftpChannel(settings).test(MESSAGE, target))


def test_connection_test_without_fault_passes_and_delivers_test_event(tmp_path: Path) -> None:
    stages = run_test(tmp_path)
    assert [(stage.name, stage.passed) for stage in stages] == [(name, True) for name in STAGES]
    assert (tmp_path / "out" / "cnt_1" / "message.json").read_bytes() == MESSAGE.body


@pytest.mark.parametrize(("fault", "stage", "remedy"), BAD)
def test_connection_test_with_fault_stops_at_its_stage_with_a_remedy(
    tmp_path: Path, fault: FileFault, stage: str, remedy: str
) -> None:
    *passed, last = run_test(tmp_path, fault)
    assert (last.name, last.passed, all(each.passed for each in passed)) == (stage, False, True), last.found
    assert remedy in (last.remedy or "")
    assert [each.name for each in (*passed, last)] == STAGES[: len(passed) + 1]


def test_all_faults_are_tested() -> None:
    assert [row[0] for row in BAD] == list(get_args(FileFault))
