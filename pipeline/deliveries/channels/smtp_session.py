"""The installation's mail server as one delivery speaks to it: one connection, from look-up to farewell, within a time."""

from __future__ import annotations

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

#: A mailbox in what a server says, with its brackets.
_MAILBOX: Final = re.compile(rb"""<?[^\s<>()\[\]"',;:]+@[^\s<>()"',;:]+>?""")


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in, and how the connection is secured."""

    host: str
    port: int
    security: Security
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_mail_server(url: SecretStr) -> MailServer:
    """Return what the setting `smtp_url` names."""
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
    """One connection to the mail server, for one mail; every step of it counts against the same `seconds`.

    The steps come in the order of the methods. Up to signing in, whatever goes wrong is the installation's own affair and
    raises ChannelUnavailable; after it the server's 4xx do, and its 5xx raise ChannelRefused.
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
        """Do everything up to signing in."""
        self.resolve()
        self.connect()
        if self._server.security != "smtp":
            self.secure()
        self.sign_in()

    def resolve(self) -> list[str]:
        """Look the server up; its address is the installation's own setting, so that it may be a private one."""
        with self._translate_errors("looking up the mail server"):
            self._addresses = resolve_allowed(
                self._server.host, self._server.port, self._time.remaining(), private=True
            )
        return self._addresses

    def connect(self) -> str:
        """Connect to the address that was judged, and return what the server greets with (nothing yet on smtps)."""
        with self._translate_errors("connecting to the mail server"):
            opened = self._open_socket()
            self._handle = opened.dup()
            self._timer = threading.Timer(self._time.remaining(), self._abort, [self._handle])
            self._timer.daemon = True
            self._timer.start()
        self._use_connection(opened)
        return "" if self._server.security == "smtps" else self._read_greeting()

    def secure(self) -> str:
        """Encrypt the connection, with the certificate checked for the server's name; return the version of TLS."""
        with self._translate_errors("securing the connection to the mail server"):
            if self._server.security == "smtp+starttls":
                self._smtp.ehlo_or_helo_if_needed()
                if not self._smtp.has_extn("starttls"):
                    raise ChannelUnavailable("the mail server offers no STARTTLS; nothing is sent to it in the clear")
                code, reply = self._smtp.docmd("STARTTLS")
                if code != _READY:
                    raise _to_unavailable("the mail server would not start TLS", code, reply)
            secured = self._trusted().wrap_socket(self._require_connection(), server_hostname=self._server.host)
        # What the server said before is forgotten, as RFC 3207 asks: somebody on the way may have said it.
        self._use_connection(secured)
        if self._server.security == "smtps":
            self._read_greeting()
        return secured.version() or "TLS"

    def sign_in(self) -> str:
        """Sign in where the settings name a user, and return what the server said."""
        user, password = self._server.user, self._server.password
        with self._translate_errors("signing in to the mail server"):
            if user is None or password is None:
                self._smtp.ehlo_or_helo_if_needed()
                return "nobody needs to"
            code, reply = self._smtp.login(user, password)
        return _format_reply(code, reply)

    def address_mail(self, sender: str, recipients: Sequence[str], size: int) -> list[str]:
        """Say from whom and to whom a mail of `size` bytes is; return which recipients were refused, and why.

        They are told by their number among `recipients`, from 1: what is said here is kept for good, and addresses are not.
        Raises ChannelRefused where all were refused for good. Where one was refused for now, all have to wait for it:
        ChannelUnavailable.
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
        """Send the mail, and return the code and words that the server took it with.

        A connection that breaks after the mail was sent raises ChannelUnavailable too: whether it was taken is not known,
        and its Message-ID lets the recipient's end tell.
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
        """Take back what was addressed; no mail is sent."""
        with self._translate_errors("withdrawing the mail"):
            self._smtp.rset()

    def close(self) -> None:
        """Take leave without waiting for an answer: whatever the server took is its own by now."""
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
        # A name such as localhost has addresses of which not all are listened at.
        failure = OSError("the name has no address")
        for address in self._addresses:
            try:
                return socket.create_connection((address, self._server.port), self._time.remaining())
            except OSError as error:
                failure = error
        raise failure

    def _require_connection(self) -> socket.socket:
        if self._connection is None:
            raise ChannelUnavailable("there is no connection to the mail server")
        return self._connection

    def _use_connection(self, connection: socket.socket) -> None:
        self._connection = connection
        self._smtp = smtplib.SMTP(local_hostname=self._own_name)
        self._smtp.sock = connection

    def _read_greeting(self) -> str:
        with self._translate_errors("waiting for the mail server's greeting"):
            code, reply = self._smtp.getreply()
        if code != _READY:
            raise _to_unavailable("the mail server turned us away", code, reply)
        return _format_reply(code, reply)

    def _abort(self, connection: socket.socket) -> None:
        # A timeout of each read would let a server that drips go on for ever; this ends whatever is going on.
        self._timed_out = True
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _translate_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except smtplib.SMTPResponseException as error:
            raise _to_unavailable(
                f"the mail server said no while {doing}", error.smtp_code, _to_bytes(error.smtp_error)
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise ChannelUnavailable(
                f"the mail server's certificate is not good: {error.verify_message}", status=type(error).__name__
            ) from error
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError, ValueError) as error:
            late = self._timed_out or isinstance(error, (TimeoutError, httpcore.TimeoutException))
            name = "TimeoutError" if late else type(error).__name__
            why = f"more than {self._seconds:g} s in all" if late else str(error) or name
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
    """Return what the server said as printable text, with its mailboxes left out: it likes to repeat whom it means."""
    return excerpt(_MAILBOX.sub(b"(address)", reply)) or ""
