"""The e-mail channel: a readable body, the message as JSON, and the documents up to a size limit."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import urlsplit

from config.settings import Settings
from pipeline.accounts.channels import EmailEndpoint
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ArtifactConflict, ChannelRefused, ChannelUnavailable, ExportsError, StoreUnavailable
from pipeline.core.outbound import describe_address, trusted_certificates
from pipeline.deliveries.channels import protocol
from pipeline.deliveries.channels.protocol import (
    Attachment,
    ChannelFactory,
    DeliveryReceipt,
    EmailBody,
    OutgoingMessage,
    Stage,
    StageFailed,
    excerpt,
)
from pipeline.deliveries.channels.smtp_session import MailServer, MailSession, parse_mail_server

#: Seven-bit encoding: every mail server takes it.
_POLICY: Final = SMTP.clone(cte_type="7bit")

_TEST_BODY: Final = EmailBody(
    subject="Connection test",
    text="This is a connection test. If you can read it, e-mail reaches you. You need not do anything.\n",
    html="<p>This is a connection test. If you can read it, e-mail reaches you. You need not do anything.</p>\n",
)

_SETTINGS: Final = "check EXPORTS_SMTP_URL, and that this machine can reach the mail server"


@dataclass(frozen=True)
class Attachments:
    """The documents of a message: attached ones, and ones that are too large and only linked."""

    attached: Sequence[Attachment]
    linked: Sequence[Attachment]


def split_attachments(attachments: Sequence[Attachment], max_bytes: int) -> Attachments:
    """Attach the documents in order as long as their total stays within `max_bytes`; link the others."""
    attached: list[Attachment] = []
    linked: list[Attachment] = []
    left = max_bytes
    for each in attachments:
        if each.size <= left:
            attached.append(each)
            left -= each.size
        else:
            linked.append(each)
    return Attachments(attached, linked)


def data_filename(message_type: str) -> str:
    """Return the file name of the attached JSON message."""
    return "handoff.json" if message_type.startswith("exports.handoff.") else "message.json"


def attachment_filename(attachment: Attachment) -> str:
    """Return the file name of an attached document: without folders, and printable because it goes into a header."""
    return "".join(each if each.isprintable() and each != "/" else "_" for each in attachment.name)


class EmailChannel:
    """Sends each message through the installation's mail server, as one e-mail to all addresses of the partner."""

    def __init__(self, settings: Settings, *, trusted: Callable[[], ssl.SSLContext] = trusted_certificates) -> None:
        self._settings = settings
        self._trusted = trusted

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order. See Channel.

        If the server refuses some recipients permanently, the others get the e-mail. The receipt says who was refused.
        """
        if not isinstance(target.endpoint, EmailEndpoint):
            raise ChannelRefused("the partner has no e-mail address; set the partner's channel again")
        for message in messages:
            mail = self._compose(message, target.endpoint.addresses)
            with self._session() as session:
                session.open()
                refused = session.address_mail(self._sender().addr_spec, target.endpoint.addresses, len(mail))
                target.check_lease()
                code, reply = session.send_mail(mail)
            yield DeliveryReceipt(str(code), excerpt("; ".join([reply, *refused]).encode()))

    def check_server(self) -> str:
        """Sign in to the mail server, and return its address. Raises ChannelUnavailable if that fails."""
        server = self._server()
        with self._session() as session:
            session.open()
        return f"{server.host}:{server.port} by {server.security}"

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Run the stages of a connection test. See Channel. The last sends `message` as a test e-mail."""
        endpoint = target.endpoint
        if not isinstance(endpoint, EmailEndpoint):
            raise ChannelRefused("the partner has no e-mail address; set the partner's channel again")
        if self._settings.smtp_url is None:
            unset = _with_remedy(lambda: self._server().host, "set EXPORTS_SMTP_URL and EXPORTS_MAIL_FROM")
            yield from protocol.run_stages([("resolve", unset)])
            return
        with self._session() as session:
            server = self._server()
            where = f"{server.host}:{server.port}"

            def accepted() -> str:
                refused = session.address_mail(self._sender().addr_spec, endpoint.addresses, 0)
                session.reset_mail()
                if refused:
                    raise StageFailed("; ".join(refused), "correct the partner's addresses")
                return ", ".join(endpoint.addresses)

            def mailed() -> str:
                mail = self._compose(message, endpoint.addresses, otherwise=_TEST_BODY)
                session.address_mail(self._sender().addr_spec, endpoint.addresses, len(mail))
                code, reply = session.send_mail(mail)
                return f"{code} {reply}".strip()

            encrypted = [
                (
                    "TLS",
                    _with_remedy(
                        session.secure,
                        "give the mail server a certificate for its host name; name that of its own authority in SSL_CERT_FILE",
                    ),
                )
            ]
            yield from protocol.run_stages(
                [
                    ("resolve", _with_remedy(lambda: describe_address(server.host, session.resolve()[0]), _SETTINGS)),
                    ("connect", _with_remedy(lambda: session.connect() or f"{where} listens", _SETTINGS)),
                    *(encrypted if server.security != "smtp" else ()),
                    ("sign in", _with_remedy(session.sign_in, "check user and password in EXPORTS_SMTP_URL")),
                    ("recipients", _with_remedy(accepted, "correct the partner's addresses, or EXPORTS_MAIL_FROM")),
                    (
                        "test mail",
                        _with_remedy(mailed, "ask the mail server's operator why it does not take the e-mail"),
                    ),
                ]
            )

    def _session(self) -> MailSession:
        return MailSession(
            self._server(),
            seconds=self._settings.delivery_timeout_seconds,
            own_name=_local_hostname(self._settings.public_url),
            trusted=self._trusted,
        )

    def _server(self) -> MailServer:
        if self._settings.smtp_url is None:
            raise ChannelUnavailable("no mail server is configured; set EXPORTS_SMTP_URL")
        return parse_mail_server(self._settings.smtp_url)

    def _sender(self) -> Address:
        name, _, address = f" <{self._settings.mail_from or ''}".rpartition(" <")
        user, _, domain = address.rstrip(">").rpartition("@")
        return Address(name.removeprefix(" <"), user, domain)

    def _compose(
        self, message: OutgoingMessage, addresses: Sequence[str], *, otherwise: EmailBody | None = None
    ) -> bytes:
        """Return the e-mail with its CloudEvent and documents. Raises ChannelUnavailable if one cannot be read."""
        body = message.email_body or otherwise
        if body is None:
            raise ChannelRefused(f"messages of type {message.type} are not sent by e-mail")
        if not body.subject.isprintable():
            # A control character could begin another header or another e-mail.
            raise ChannelRefused("the subject holds a line break or another control character")
        sender = self._sender()
        mail = EmailMessage(policy=_POLICY)
        mail["From"] = sender
        mail["To"] = ", ".join(addresses)
        mail["Subject"] = body.subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        # The same on every attempt, so that recipients recognize duplicates.
        mail["Message-ID"] = f"<{message.id}@{sender.domain}>"
        if message.thread not in (None, message.id):
            # Mail programs show what has the same root as one thread, also if they do not have the root.
            mail["In-Reply-To"] = mail["References"] = f"<{message.thread}@{sender.domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(body.text)
        mail.add_alternative(body.html, subtype="html")
        name = data_filename(message.type)
        mail.add_attachment(message.body, maintype="application", subtype="cloudevents+json", filename=name)
        for each in split_attachments(message.attachments, self._settings.mail_attach_max_bytes).attached:
            kind, _, rest = each.media_type.partition(";")[0].strip().partition("/")
            mail.add_attachment(_read_attachment(each), maintype=kind, subtype=rest, filename=attachment_filename(each))
        return mail.as_bytes()


CHANNEL: Final[ChannelFactory] = EmailChannel


def _read_attachment(attachment: Attachment) -> bytes:
    try:
        return attachment.read()
    except (StoreUnavailable, ArtifactConflict) as error:
        raise ChannelUnavailable(
            f"{attachment.name} cannot be attached: {error}", status=type(error).__name__
        ) from error


def _local_hostname(public_url: str) -> str:
    """Return the host name of the public URL, to introduce this client to the mail server."""
    host = urlsplit(public_url).hostname or "localhost"
    if ":" in host:
        return f"[IPv6:{host}]"
    return f"[{host}]" if host.replace(".", "").isdigit() else host


def _with_remedy(stage: Callable[[], str], remedy: str) -> Callable[[], str]:
    """Return the stage with a remedy for its failure."""

    def checked() -> str:
        try:
            return stage()
        except StageFailed:
            raise
        except ExportsError as error:
            raise StageFailed(str(error), remedy) from error

    return checked
