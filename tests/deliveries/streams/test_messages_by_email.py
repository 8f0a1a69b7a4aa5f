"""Sessions with the mail server: encrypted, limited in time, and tested in stages."""

import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from sqlmodel import select

from config.settings import Settings
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries import resend
from pipeline.deliveries.channels.email import EmailChannel
from pipeline.deliveries.channels.protocol import Stage
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import NewMessage
from pipeline.deliveries.streams import sender
from pipeline.exports.event_models import Event
from pipeline.ops import doctor
from pipeline.workflow.conversation import write_message
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts
from tests.support import factories, stored
from tests.support.mail_server import CLERK, DESK, MESSAGE, USER, MailServer, Script, certificate, channel, send, to
from tests.support.ports import LOOPBACK, free_port

PUBLIC = "https://exports.maple.example"


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_connection_is_encrypted_before_sign_in(scheme: str) -> None:
    pair = certificate()
    with MailServer(tls=pair.server, implicit=scheme == "smtps") as smtp_server:
        (receipt,) = send(smtp_server, scheme=scheme, trusted=pair.trusted)
        assert (receipt.status, smtp_server.signed_in, len(smtp_server.mails)) == ("250", [USER], 1)


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_certificate_of_other_name_or_authority_is_not_trusted(scheme: str) -> None:
    client_without_key, other = certificate("mail.example"), certificate()
    for shown, trusted in ((client_without_key, client_without_key.trusted), (other, client_without_key.trusted)):
        with MailServer(tls=shown.server, implicit=scheme == "smtps") as smtp_server:
            with pytest.raises(ChannelUnavailable, match="certificate is not trusted"):
                send(smtp_server, scheme=scheme, trusted=trusted)
            assert (smtp_server.signed_in, smtp_server.mails) == ([], [])


def test_server_without_encryption_gets_nothing() -> None:
    with MailServer() as smtp_server, pytest.raises(ChannelUnavailable, match="not offer STARTTLS"):
        send(smtp_server, scheme="smtp+starttls")
    assert smtp_server.mails == []


def test_wrong_mail_password_is_retried() -> None:
    pair = certificate()
    with MailServer(tls=pair.server) as smtp_server:
        wrong = f"smtp+starttls://{USER}:wrong@{LOOPBACK}:{smtp_server.port}"
        with pytest.raises(ChannelUnavailable) as caught:
            send(smtp_server, scheme="smtp+starttls", trusted=pair.trusted, smtp_url=wrong)
    assert caught.value.status == "535"
    assert "wrong" not in str(caught.value)


def test_closed_mail_port_is_retried() -> None:
    with pytest.raises(ChannelUnavailable, match="connecting to the mail server failed"):
        list(channel(free_port()).send([MESSAGE], to(DESK)))


@contextmanager
def serve_slowly(line: bytes, pause: float) -> Iterator[int]:
    """Run a server that sends single bytes, `pause` seconds apart, without end."""
    ended = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as listener:

        def drip() -> None:
            with suppress(OSError), listener.accept()[0] as connection:
                while True:
                    for byte in line:
                        connection.sendall(bytes([byte]))
                        if ended.wait(pause):
                            return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join(5)


@pytest.mark.parametrize(("scheme", "line"), [("smtp", b"220-wait\r\n"), ("smtps", b"\x16\x03\x03\x40\x00" + bytes(9))])
def test_slow_mail_server_is_bounded_by_total_time(scheme: str, line: bytes) -> None:
    began = time.monotonic()
    with serve_slowly(line, 0.02) as port, pytest.raises(ChannelUnavailable) as caught:
        list(channel(port, scheme, delivery_timeout_seconds=0.3).send([MESSAGE], to(DESK)))
    assert time.monotonic() - began < 15, "a timeout for each read would have waited for ever"
    assert (caught.value.status, "more than 0.3 s in total" in str(caught.value)) == ("TimeoutError", True)


def list_stages(made: EmailChannel, *addresses: str) -> list[Stage]:
    return list(made.test(replace(MESSAGE, email_body=None), to(*addresses)))


def test_connection_test_passes_all_stages_and_sends_one_mail() -> None:
    pair = certificate()
    with MailServer(tls=pair.server) as smtp_server:
        stages = list_stages(channel(smtp_server.port, "smtp+starttls", pair.trusted), DESK)
        (mail,) = smtp_server.mails
    assert [(each.name, each.passed) for each in stages] == [
        (name, True) for name in ("resolve", "connect", "TLS", "sign in", "recipients", "test mail")
    ]
    assert stages[0].found == f"{LOOPBACK} is a private address, which the settings allow"
    assert stages[2].found.startswith("TLSv1.")
    assert stages[4].found == DESK
    assert mail.parsed["Subject"] == "Connection test"


def test_failed_mail_stage_has_a_remedy() -> None:
    pair, client_without_key = certificate(), certificate("mail.example")
    unknown = Script(recipients={DESK: "550 5.1.1 no such user"})
    closed = channel(free_port())
    nowhere = channel(25, smtp_url="smtp://no-such-name.invalid")
    unset = EmailChannel(Settings.model_validate({}))
    with (
        MailServer(tls=pair.server) as secured,
        MailServer(unknown) as strict,
        MailServer(Script(data=["554 5.7.1 spam"])) as picky,
    ):
        wrong = f"smtp+starttls://{USER}:wrong@{LOOPBACK}:{secured.port}"
        cases = [
            (unset, "resolve", "no mail server is configured"),
            (nowhere, "resolve", "the name cannot be resolved"),
            (closed, "connect", "Connection refused"),
            (channel(secured.port, "smtp+starttls", client_without_key.trusted), "TLS", "certificate is not trusted"),
            (channel(secured.port, "smtp+starttls", pair.trusted, smtp_url=wrong), "sign in", "535"),
            (channel(strict.port), "recipients", "550 5.1.1 no such user"),
            (channel(picky.port), "test mail", "554 5.7.1 spam"),
        ]
        for made, name, found in cases:
            last = list_stages(made, DESK)[-1]
            assert (last.name, last.passed) == (name, False)
            assert found in last.found
            assert last.remedy
        assert secured.mails == strict.mails == picky.mails == []


def test_silent_mail_server_is_bounded_by_total_time() -> None:
    began = time.monotonic()
    with MailServer(Script(silent=20)) as smtp_server, pytest.raises(ChannelUnavailable) as caught:
        send(smtp_server, delivery_timeout_seconds=0.3)
    assert (caught.value.status, time.monotonic() - began < 15) == ("TimeoutError", True)


def test_read_that_times_out_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a read may end a moment before that of the whole attempt."""

    def time_out(_: smtplib.SMTP) -> NoReturn:
        try:
            raise TimeoutError("timed out")
        except OSError as error:
            raise smtplib.SMTPServerDisconnected(f"Connection unexpectedly closed: {error}")  # noqa: B904 - as smtplib

    monkeypatch.setattr(smtplib.SMTP, "getreply", time_out)
    with MailServer() as smtp_server, pytest.raises(ChannelUnavailable, match="s in total") as caught:
        send(smtp_server)
    assert caught.value.status == "TimeoutError"


def test_doctor_signs_in_to_mail_server_or_says_what_to_fix() -> None:
    def found(port: int) -> tuple[bool, str, str | None]:
        made = Settings.model_validate(
            {"database_url": "sqlite://", "smtp_url": f"smtp://{LOOPBACK}:{port}", "mail_from": "exports@maple.example"}
        )
        (check,) = [each for each in doctor.run_checks(made) if each.name == "mail server"]
        return check.ok, check.found, check.remedy

    with MailServer() as smtp_server:
        assert found(smtp_server.port) == (True, f"signed in at {LOOPBACK}:{smtp_server.port} by smtp", None)
        assert smtp_server.mails == []
    ok, message, remedy = found(free_port())
    assert (ok, "Connection refused" in message) == (False, True)
    assert "EXPORTS_SMTP_URL" in (remedy or "")


@pytest.fixture
def smtp_server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


def hand_off_by_email(
    make_runtime: OpenRuntime, smtp_server: MailServer, **broker: Any
) -> tuple[Runtime, exports.PreparedExport]:
    """Hand off an export to a customs broker behind the mail server."""
    runtime = make_runtime(
        smtp_url=f"smtp://{LOOPBACK}:{smtp_server.port}", mail_from="exports@maple.example", public_url=PUBLIC
    )
    endpoint = {"channel": "email", "addresses": [DESK, CLERK]}
    exports.register(runtime, factories.BROKER, "customs_broker", channels=[endpoint], **broker)
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, factories.OPERATOR, "operator")
    exports.hand_off(runtime, export := exports.prepare_export(runtime))
    return runtime, export


def test_taken_mail_is_delivered_and_resent_with_same_id_and_link(
    make_runtime: OpenRuntime, smtp_server: MailServer
) -> None:
    runtime, export = hand_off_by_email(make_runtime, smtp_server, artifactTypes=["cci_ubl"])
    assert sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email").delivered == 1
    submission = stored.one(runtime, select(BrokerSubmission))
    assert (submission.state, submission.channel, submission.recipient) == ("delivered", "email", f"{DESK}, {CLERK}")
    (sent,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    assert [(each.status, each.answer) for each in attempts(runtime)] == [("250", "2.0.0 queued as 1")]
    resend.resend_delivery(runtime, factories.ACCOUNT, sent.id, "key_1")
    sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email")
    first, second = smtp_server.mails
    assert first.parsed["Message-ID"] == second.parsed["Message-ID"] == f"<{sent.notification_id}@maple.example>"
    assert first.read_text("plain") == second.read_text("plain")


def test_reply_is_in_the_thread_of_the_handoff(make_runtime: OpenRuntime, smtp_server: MailServer) -> None:
    runtime, export = hand_off_by_email(make_runtime, smtp_server, artifactTypes=["cci_ubl"])
    sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email")
    new = NewMessage(id="m-1", text="<b>Steel</b>\r\nBcc: a@b", customs_package_numbers=[])
    write_message(runtime, factories.ACCOUNT, export.export_id, new, "key_1")
    assert sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email").delivered == 1
    handoff, reply = (mail.parsed for mail in smtp_server.mails)
    assert (handoff["In-Reply-To"], handoff["References"]) == (None, None)
    assert reply["In-Reply-To"] == reply["References"] == handoff["Message-ID"] != reply["Message-ID"]
    assert (reply["Subject"], reply["Bcc"]) == (f"Re: {handoff['Subject']}", None)
    assert "&lt;b&gt;Steel&lt;/b&gt;" in smtp_server.mails[1].read_text("html")


def test_handoff_without_its_documents_is_not_sent(make_runtime: OpenRuntime, smtp_server: MailServer) -> None:
    runtime, export = hand_off_by_email(make_runtime, smtp_server)
    assert sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email").retried == 1
    (delivery,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    assert "cannot be attached" in (delivery.error or "")
    assert smtp_server.connections == 0


def test_refused_mail_is_dead_and_the_operator_is_notified(make_runtime: OpenRuntime, smtp_server: MailServer) -> None:
    smtp_server.script.recipients = {each: f"550 5.1.1 <{each}>: no such user" for each in (DESK, CLERK)}
    runtime, export = hand_off_by_email(make_runtime, smtp_server, artifactTypes=["cci_ubl"])
    report = sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email")
    assert (report.dead, [stream.channel for stream in report.pending_streams]) == (1, ["queue"])
    (dead,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    refused = "the mail server did not take recipient 1 of 2: 550 5.1.1 (address): no such user"
    log = str(stored.rows(runtime, select(Event.data)))
    assert (dead.state, dead.error, refused in log, "@" in log) == ("dead", refused, True, False)


def test_test_export_does_not_reach_a_live_mailbox(make_runtime: OpenRuntime, smtp_server: MailServer) -> None:
    runtime, _ = hand_off_by_email(make_runtime, smtp_server)
    export = exports.prepare_export(runtime, factories.plan(batch="batch_test"), test=True)
    exports.hand_off(runtime, export)
    (delivery,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    assert delivery.channel == "borderbuddy"
    assert smtp_server.connections == 0
