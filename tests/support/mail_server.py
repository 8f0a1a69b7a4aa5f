"""A mail server on loopback with scripted answers, which records the e-mails that it took."""

import asyncio
import ssl
from asyncio import WriteTransport
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from config.settings import Settings
from pipeline.accounts.channels import EmailEndpoint
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.email import EmailChannel
from pipeline.deliveries.channels.protocol import DeliveryReceipt, EmailBody, OutgoingMessage
from pipeline.simulation.partners.server import create_self_signed
from tests.support.ports import LOOPBACK, free_port

USER, PASSWORD = "exports", "p@ss/word"

DESK, CLERK = "entries@broker.example", "clerk@broker.example"
LETTER = EmailBody("Export batch-1: invoice A-00001", "Grüße, 您好\n", "<p>Grüße, 您好</p>\n")
MESSAGE = OutgoingMessage(
    "5f1c2d9e-8a4b-5c67-9d10-3b7e6a2f4c88",
    "exports.handoff.ready.v1",
    "broker.br.handoff.ready.v1",
    b'{"id": "5f1c2d9e-8a4b-5c67-9d10-3b7e6a2f4c88"}',
    email_body=LETTER,
)


def channel(port: int, scheme: str = "smtp", trusted: ssl.SSLContext | None = None, **changes: Any) -> EmailChannel:
    signing_in = f"{USER}:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@" if scheme != "smtp" else ""
    given = {
        "smtp_url": f"{scheme}://{signing_in}{LOOPBACK}:{port}",
        "mail_from": "Export desk, Montréal <exports@maple.example>",
        "public_url": "https://exports.maple.example",
        "delivery_timeout_seconds": 20,
    }
    made = Settings.model_validate(given | changes)
    return EmailChannel(made) if trusted is None else EmailChannel(made, trusted=lambda: trusted)


def to(*addresses: str) -> Target:
    return Target("acc_demo", "br_demo", test=False, endpoint=EmailEndpoint(addresses=list(addresses or (DESK,))))


@dataclass(frozen=True)
class Mail:
    """A received e-mail."""

    sender: str
    recipients: list[str]
    raw: bytes

    @property
    def parsed(self) -> EmailMessage:
        """The parsed e-mail."""
        read = message_from_bytes(self.raw, policy=default)
        assert isinstance(read, EmailMessage)
        return read

    def read_text(self, subtype: str) -> str:
        """Return the body as plain text or HTML."""
        part = self.parsed.get_body((subtype,))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")


@dataclass
class Script:
    """The server's replies instead of 250, by recipient or for the whole e-mail.

    `drops` closes the connection after the data. `silent` waits so many seconds after the data without a reply.
    """

    sender: str | None = None
    recipients: Mapping[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    drops: int = 0
    silent: float = 0


class MailServer:
    """A running mail server. `mails` are the taken e-mails, `dropped` those taken without a reply."""

    def __init__(
        self, script: Script | None = None, *, tls: ssl.SSLContext | None = None, implicit: bool = False, **options: Any
    ) -> None:
        self.mails: list[Mail] = []
        self.dropped: list[Mail] = []
        self.signed_in: list[str] = []
        self.connections = 0
        self._connected: list[SMTP] = []
        self.script = script or Script()
        secured: dict[str, Any] = {"ssl_context": tls} if implicit else {"tls_context": tls}
        if tls is not None:
            secured |= {"authenticator": self._known, "auth_required": not implicit, "auth_require_tls": not implicit}
        self._controller = Controller(self, hostname=LOOPBACK, port=free_port(), ready_timeout=60, **secured, **options)
        self.port = self._controller.port

    def __enter__(self) -> Self:
        self._controller.start()
        self.connections = 0
        return self

    def __exit__(self, *_: object) -> None:
        # The loop ends at once: a connection that is open then would be reported in another test.
        asyncio.run_coroutine_threadsafe(self._disconnect(), self._controller.loop).result(60)
        self._controller.stop()

    async def _disconnect(self) -> None:
        for each in self._connected:
            if each.transport is not None:
                each.transport.close()
        await asyncio.sleep(0)  # the loop closes them in its next turn

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, answers: list[str]
    ) -> list[str]:
        self.connections += 1
        self._connected.append(server)
        session.host_name = hostname
        return answers

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.script.sender is not None:
            return self.script.sender
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.script.recipients:
            return self.script.recipients[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = Mail(envelope.mail_from or "", list(envelope.rcpt_tos), envelope.content)
        await asyncio.sleep(self.script.silent)
        if self.script.drops:
            self.script.drops -= 1
            self.dropped.append(mail)
            assert isinstance(server.transport, WriteTransport)
            server.transport.abort()
            return "250 never received"
        if self.script.data:
            return self.script.data.pop(0)
        self.mails.append(mail)
        return f"250 2.0.0 queued as {len(self.mails)}"

    def _known(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        login, password = given.login.decode(), given.password.decode()
        self.signed_in.append(login)
        return AuthResult(success=(login, password) == (USER, PASSWORD), handled=False)


@dataclass(frozen=True)
class Certificate:
    """A certificate for the loopback address, and the client settings that trust it."""

    server: ssl.SSLContext
    trusted: ssl.SSLContext


def certificate(name: str = LOOPBACK) -> Certificate:
    """Return a new certificate for `name`, trusted only by its own `trusted`."""
    server, shown = create_self_signed(name)
    return Certificate(server, ssl.create_default_context(cadata=shown.decode()))


def send(
    server: MailServer, *messages: OutgoingMessage, addresses: Sequence[str] = (DESK,), **changes: Any
) -> list[DeliveryReceipt]:
    return list(channel(server.port, **changes).send(messages or (MESSAGE,), to(*addresses)))
