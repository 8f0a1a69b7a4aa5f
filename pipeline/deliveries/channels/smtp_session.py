"""A session with the installation's mail server: one connection per e-mail, under one total time limit."""

import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import unquote, urlsplit

import httpcore
from pydantic import SecretStr

from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.outbound import GuardedNetwork, resolve_allowed
from pipeline.deliveries.channels.protocol import excerpt

Security = Literal["smtp", "smtp+starttls", "smtps"]

_PORTS: Final[Mapping[str, int]] = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}

_READY = 220
_TAKEN = (250, 251)

#: A mailbox in a server's reply, with its brackets.
_MAILBOX: Final = re.compile(rb"""<?[^\s<>()\[\]"',;:]+@[^\s<>()"',;:]+>?""")


@dataclass(frozen=True)
class MailServer:
    """The address of the mail server, and how the connection is secured."""

    host: str
    port: int
    security: Security
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_mail_server(url: SecretStr) -> MailServer:
    """Return the server of the setting `smtp_url`."""
    parts = urlsplit(url.get_secret_value())
    security: Security = "smtp" if parts.scheme == "smtp" else "smtps" if parts.scheme == "smtps" else "smtp+starttls"
    return MailServer(
        host=parts.hostname or "",
        port=parts.port or _PORTS[security],
        security=security,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


class MailSession:
    """One connection to the mail server for one e-mail. All steps share the same `seconds`.

    Call the methods in their order. Up to signing in, each failure is the installation's fault and raises
    ChannelUnavailable. After that, 4xx replies raise ChannelUnavailable and 5xx replies ChannelRefused.
    """

    def __init__(
        self, server: MailServer, *, seconds: float, own_name: str, trusted: Callable[[], ssl.SSLContext]
    ) -> None:
        self._server = server
        self._seconds = seconds
        self._own_name = own_name
        self._trusted = trusted
        self._time = GuardedNetwork(private=True)
        self._time.start_deadline(seconds)
        self._addresses: list[str] = []
        self._connection: socket.socket | None = None
        self._smtp = smtplib.SMTP(local_hostname=own_name)
        self._handle: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._timed_out = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Run all steps up to signing in."""
        self.resolve()
        self.connect()
        if self._server.security != "smtp":
            self.secure()
        self.sign_in()

    def resolve(self) -> list[str]:
        """Resolve the server's name. It may be a private address, because the installation's operator sets it."""
        with self._translate_errors("looking up the mail server"):
            self._addresses = resolve_allowed(
                self._server.host, self._server.port, self._time.remaining(), private=True
            )
        return self._addresses

    def connect(self) -> str:
        """Connect to the resolved address and return the server's greeting ("" on smtps: it comes after TLS)."""
        with self._translate_errors("connecting to the mail server"):
            opened = self._open_socket()
            self._handle = opened.dup()
            self._timer = threading.Timer(self._time.remaining(), self._abort, [self._handle])
            self._timer.daemon = True
            self._timer.start()
        self._use_connection(opened)
        return "" if self._server.security == "smtps" else self._read_greeting()

    def secure(self) -> str:
        """Encrypt the connection, check the certificate for the server's name, and return the TLS version."""
        with self._translate_errors("securing the connection to the mail server"):
            if self._server.security == "smtp+starttls":
                self._smtp.ehlo_or_helo_if_needed()
                if not self._smtp.has_extn("starttls"):
                    raise ChannelUnavailable("the mail server does not offer STARTTLS; nothing is sent unencrypted")
                code, reply = self._smtp.docmd("STARTTLS")
                if code != _READY:
                    raise _to_unavailable("the mail server did not start TLS", code, reply)
            secured = self._trusted().wrap_socket(self._require_connection(), server_hostname=self._server.host)
        # RFC 3207: discard what the server said before TLS, because an attacker may have sent it.
        self._use_connection(secured)
        if self._server.security == "smtps":
            self._read_greeting()
        return secured.version() or "TLS"

    def sign_in(self) -> str:
        """Sign in if the settings name a user, and return the server's reply."""
        user, password = self._server.user, self._server.password
        with self._translate_errors("signing in to the mail server"):
            if user is None or password is None:
                self._smtp.ehlo_or_helo_if_needed()
                return "skipped: no user is set"
            code, reply = self._smtp.login(user, password)
        return _format_reply(code, reply)

    def address_mail(self, sender: str, recipients: Sequence[str], size: int) -> list[str]:
        """Send the envelope of an e-mail of `size` bytes. Return which recipients were refused, and why.

        Recipients are identified by their number from 1, because the result is kept for good and addresses must not be.
        Raises ChannelRefused if all are refused permanently. Raises ChannelUnavailable if one is refused temporarily:
        then all recipients wait for it.
        """
        with self._translate_errors("addressing the mail"):
            options = [f"size={size}"] if self._smtp.has_extn("size") else []
            code, reply = self._smtp.mail(sender, options)
            if code not in _TAKEN:
                raise _to_error("the mail server did not take the sender", code, reply)
            refused: dict[int, tuple[int, bytes]] = {}
            for number, recipient in enumerate(recipients, 1):
                code, reply = self._smtp.rcpt(recipient)
                if code not in _TAKEN:
                    refused[number] = (code, reply)
        later = {number: answer for number, answer in refused.items() if answer[0] < 500}
        if later or len(refused) == len(recipients):
            number, (code, reply) = next(iter((later or refused).items()))
            raise _to_error(f"the mail server did not take recipient {number} of {len(recipients)}", code, reply)
        return [
            f"recipient {number} of {len(recipients)} refused: {_format_reply(*answer)}"
            for number, answer in refused.items()
        ]

    def send_mail(self, mail: bytes) -> tuple[int, str]:
        """Send the e-mail, and return the code and text of the server's reply.

        If the connection breaks after sending, ChannelUnavailable is raised and the result is unknown. The Message-ID
        lets the recipient detect a duplicate.
        """
        with self._translate_errors("sending the mail"):
            try:
                code, reply = self._smtp.data(mail)
            except smtplib.SMTPDataError as error:
                code, reply = error.smtp_code, _to_bytes(error.smtp_error)
        if code not in _TAKEN:
            raise _to_error("the mail server did not take the mail", code, reply)
        return code, _clean_reply(reply)

    def reset_mail(self) -> None:
        """Reset the envelope. No e-mail is sent."""
        with self._translate_errors("resetting the envelope"):
            self._smtp.rset()

    def close(self) -> None:
        """Close the connection without waiting for a reply: the server already has what it took."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handle is not None:
            self._handle.close()
        if self._connection is not None:
            with suppress(OSError, ValueError):
                self._connection.settimeout(0.5)
                self._smtp.putcmd("quit")
            self._smtp.close()
            self._connection.close()

    def _open_socket(self) -> socket.socket:
        # A name such as localhost may have addresses where no server listens.
        failure = OSError("the name has no address")
        for address in self._addresses:
            try:
                return socket.create_connection((address, self._server.port), self._time.remaining())
            except OSError as error:
                failure = error
        raise failure

    def _require_connection(self) -> socket.socket:
        if self._connection is None:
            raise ChannelUnavailable("not connected to the mail server")
        return self._connection

    def _use_connection(self, connection: socket.socket) -> None:
        self._connection = connection
        self._smtp = smtplib.SMTP(local_hostname=self._own_name)
        self._smtp.sock = connection

    def _read_greeting(self) -> str:
        with self._translate_errors("waiting for the mail server's greeting"):
            code, reply = self._smtp.getreply()
        if code != _READY:
            raise _to_unavailable("the mail server refused the connection", code, reply)
        return _format_reply(code, reply)

    def _abort(self, connection: socket.socket) -> None:
        # A timeout for each read would not stop a server that sends byte by byte. This ends any step.
        self._timed_out = True
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _translate_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except smtplib.SMTPResponseException as error:
            raise _to_unavailable(
                f"the mail server refused while {doing}", error.smtp_code, _to_bytes(error.smtp_error)
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise ChannelUnavailable(
                f"the mail server's certificate is not trusted: {error.verify_message}", status=type(error).__name__
            ) from error
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError, ValueError) as error:
            # smtplib makes a disconnection of each failed read; its context is the failure.
            failures = (error, error.__context__)
            late = self._timed_out or any(isinstance(e, (TimeoutError, httpcore.TimeoutException)) for e in failures)
            name = "TimeoutError" if late else type(error).__name__
            why = f"more than {self._seconds:g} s in total" if late else str(error) or name
            raise ChannelUnavailable(f"{doing} failed: {why}", status=name) from error


def _to_error(what: str, code: int, reply: bytes) -> ChannelUnavailable | ChannelRefused:
    if code < 500:
        return _to_unavailable(what, code, reply)
    return ChannelRefused(f"{what}: {_format_reply(code, reply)}", status=str(code), answer=_clean_reply(reply) or None)


def _to_unavailable(what: str, code: int, reply: bytes) -> ChannelUnavailable:
    return ChannelUnavailable(
        f"{what}: {_format_reply(code, reply)}", status=str(code), answer=_clean_reply(reply) or None
    )


def _to_bytes(reply: bytes | str) -> bytes:
    return reply if isinstance(reply, bytes) else reply.encode()


def _format_reply(code: int, reply: bytes) -> str:
    return f"{code} {_clean_reply(reply)}".strip()


def _clean_reply(reply: bytes) -> str:
    """Return the server's reply as printable text, without the mail addresses that servers often repeat."""
    return excerpt(_MAILBOX.sub(b"(address)", reply)) or ""
