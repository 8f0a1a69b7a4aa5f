"""The connection test passes the good simulated mail server, and stops at the right stage for each fault."""

import ssl
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import get_args

import pytest

from config.settings import Settings
from pipeline.accounts.channels import EmailEndpoint
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.email import EmailChannel
from pipeline.deliveries.channels.protocol import OutgoingMessage, Stage
from pipeline.simulation.partners.smtp import MailFault, MailReceiver

MESSAGE = OutgoingMessage("cnt_1", "exports.connection.test.v1", "broker.br_1.connection.test.v1", b"{}")
TARGET = Target("acc_1", "br_1", test=False, endpoint=EmailEndpoint(addresses=["desk@broker.example"]))

STAGES = ["resolve", "connect", "TLS", "sign in", "recipients", "test mail"]

BAD: list[tuple[MailFault, str, str]] = [
    ("hangs-up", "connect", "EXPORTS_SMTP_URL"),
    ("no-tls", "TLS", "certificate"),
    ("another-name", "TLS", "certificate"),
    ("refuses-all", "sign in", "user and password"),
    ("no-sender", "recipients", "EXPORTS_MAIL_FROM"),
    ("no-recipients", "recipients", "addresses"),
    ("no-mail", "test mail", "does not take the e-mail"),
    ("slow", "test mail", "does not take the e-mail"),
]


def run_test(folder: Path, fault: MailFault | None = None) -> list[Stage]:
    with MailReceiver(folder, fault=fault) as there:
        settings = Settings.model_validate(
            {
                "smtp_url": there.url,
                "mail_from": "exports@maple.example",
                "delivery_timeout_seconds": 2 if fault == "slow" else 20,
            }
        )
        believed = ssl.create_default_context(cafile=str(there.certificate))
        return list(EmailChannel(settings, trusted=lambda: believed).test(MESSAGE, TARGET))


def test_connection_test_without_fault_passes_and_stores_the_mail(tmp_path: Path) -> None:
    stages = run_test(tmp_path)
    assert [(stage.name, stage.passed) for stage in stages] == [(name, True) for name in STAGES]
    (kept,) = tmp_path.glob("*.eml")
    assert message_from_bytes(kept.read_bytes(), policy=default)["Subject"] == "Connection test"


@pytest.mark.parametrize(("fault", "stage", "remedy"), BAD)
def test_connection_test_with_fault_stops_at_its_stage_with_a_remedy(
    tmp_path: Path, fault: MailFault, stage: str, remedy: str
) -> None:
    *passed, last = run_test(tmp_path, fault)
    assert (last.name, last.passed, all(each.passed for each in passed)) == (stage, False, True), last.found
    assert remedy in (last.remedy or "")
    assert [each.name for each in (*passed, last)] == STAGES[: len(passed) + 1]
    assert not list(tmp_path.glob("*.eml"))


def test_all_faults_are_tested() -> None:
    assert [row[0] for row in BAD] == list(get_args(MailFault))
