"""A simulated mail server of the installation: it stores every mail in a folder and forwards none."""

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Final, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from config.network import LOOPBACK
from pipeline.simulation.partners.server import LoopServer, create_self_signed

#: The faults of a mail receiver.
MailFault = Literal[
    "hangs-up",  # closes every connection at once
    "no-tls",  # offers no encryption
    "another-name",  # has a certificate for another address
    "refuses-all",  # rejects every login
    "no-sender",  # rejects every sender
    "no-recipients",  # rejects every recipient
    "no-mail",  # rejects every mail
    "slow",  # accepts the mail, but answers too late
]

_USERNAME: Final = "exports"
_MAX_BYTES: Final = 32 * 1024 * 1024


class MailReceiver(LoopServer):
    """An SMTP server with STARTTLS over `folder`; `url` has its address and login; with a `fault` it shows that fault.

    `certificate` is the file of its certificate; the mails are stored beside it as 1.eml, 2.eml, and so on.
    """

    def __init__(self, folder: Path, *, fault: MailFault | None = None, port: int = 0) -> None:
        """Bind to `port`, or to a free one for 0; raise OSError if the port is taken."""
        super().__init__("mail-receiver", port)
        password = secrets.token_urlsafe(18)
        self.url = f"smtp+starttls://{_USERNAME}:{password}@{LOOPBACK}:{self.port}"
        self.certificate = folder / "certificate.pem"
        self._password = password
        self._fault = fault
        self._folder = folder
        self._tls, certificate = create_self_signed("192.0.2.1" if fault == "another-name" else LOOPBACK)
        self.certificate.write_bytes(certificate)
        self._server: asyncio.Server | None = None

    async def _start(self) -> None:
        # aiosmtpd warns of a property that it sets itself.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        self._server = await self._loop.create_server(self._serve, sock=self._listener)

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def _serve(self) -> asyncio.Protocol:
        if self._fault == "hangs-up":
            return _HangUpProtocol()
        # A login over an unencrypted connection is refused.
        encrypted = self._fault != "no-tls"
        return SMTP(
            _MailHandler(self._folder, self._fault),
            hostname="receiver",
            ident="exports receiver",
            data_size_limit=_MAX_BYTES,
            tls_context=self._tls if encrypted else None,
            authenticator=self._authenticate,
            auth_required=encrypted,
            auth_require_tls=encrypted,
            loop=self._loop,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        password_matches = secrets.compare_digest(given.password, self._password.encode())
        is_authentic = password_matches and given.login == _USERNAME.encode() and self._fault != "refuses-all"
        return AuthResult(success=is_authentic, handled=False)


class _HangUpProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _MailHandler:
    def __init__(self, folder: Path, fault: MailFault | None) -> None:
        self._folder = folder
        self._fault = fault

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._fault == "no-sender":
            return "550 5.7.1 this receiver simulates the fault no-sender"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._fault == "no-recipients":
            return "550 5.1.1 this receiver simulates the fault no-recipients"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self._fault == "no-mail":
            return "554 5.7.1 this receiver simulates the fault no-mail"
        if self._fault == "slow":
            await asyncio.Event().wait()
        content = envelope.content or b""
        number = sum(1 for _ in self._folder.glob("*.eml")) + 1
        (self._folder / f"{number}.eml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"250 2.0.0 kept as {number}.eml"
