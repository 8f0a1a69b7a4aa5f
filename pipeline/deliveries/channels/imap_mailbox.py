"""The mailbox that gets the answers to the service's e-mails: unread mails are listed, read and marked."""

import imaplib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from pipeline.core.errors import ChannelUnavailable
from pipeline.core.outbound import trusted_certificates

#: An e-mail with ten files of 3 MB in base64. Mail servers take at most about as much.
MAX_BYTES: Final = 40 * 1024 * 1024
#: How many e-mails are read over one connection.
MAX_MAILS: Final = 50

#: A mail that is taken is seen; one that is left to a person is flagged. Neither is read again.
_WAITING: Final = "UNSEEN UNFLAGGED UNDELETED"
_SIZE: Final = re.compile(rb"RFC822\.SIZE (\d+)")


@dataclass(frozen=True)
class MailboxPlace:
    """The address of the mailbox."""

    host: str
    port: int
    starttls: bool
    user: str
    password: str = field(repr=False)
    folder: str


def parse_mailbox(url: SecretStr) -> MailboxPlace:
    """Return the mailbox of the setting `imap_url`."""
    parts = urlsplit(url.get_secret_value())
    starttls = parts.scheme == "imap+starttls"
    return MailboxPlace(
        host=parts.hostname or "",
        port=parts.port or (143 if starttls else 993),
        starttls=starttls,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        folder=unquote(parts.path.removeprefix("/")) or "INBOX",
    )


class Mailbox:
    """An opened folder. Its methods raise ChannelUnavailable inside `open_mailbox`."""

    def __init__(self, imap: imaplib.IMAP4) -> None:
        self._imap = imap

    def list_waiting(self) -> list[str]:
        """Return the ids of the oldest e-mails that are neither taken nor left."""
        return self._search(_WAITING)[:MAX_MAILS]

    def count_left(self) -> int:
        """Return how many e-mails are left to a person: flagged, and not seen yet."""
        return len(self._search("UNSEEN FLAGGED UNDELETED"))

    def read_mail(self, uid: str) -> bytes | None:
        """Return the e-mail as its bytes, None if it is gone or larger than MAX_BYTES. It stays unseen."""
        size = _SIZE.search(b" ".join(_flatten(self._uid("FETCH", uid, "(RFC822.SIZE)"))))
        if size is None or int(size[1]) > MAX_BYTES:
            return None
        found = self._uid("FETCH", uid, "(BODY.PEEK[])")
        return next((each[1] for each in found if isinstance(each, tuple) and len(each) > 1), None)

    def mark_taken(self, uid: str) -> None:
        """Mark the e-mail as seen."""
        self._uid("STORE", uid, "+FLAGS.SILENT", r"(\Seen)")

    def mark_left(self, uid: str) -> None:
        """Flag the e-mail: a person must look."""
        self._uid("STORE", uid, "+FLAGS.SILENT", r"(\Flagged)")

    def _search(self, criteria: str) -> list[str]:
        found = b" ".join(_flatten(self._uid("SEARCH", criteria))).split()
        return [each.decode() for each in found if each.isdigit()]

    def _uid(self, command: str, *arguments: str) -> list[object]:
        answer, data = self._imap.uid(command, *arguments)
        if answer != "OK":
            raise ChannelUnavailable(f"the mailbox answered {answer} to {command}", status=answer)
        return list(data)


@contextmanager
def open_mailbox(place: MailboxPlace, seconds: float) -> Iterator[Mailbox]:
    """Sign in over TLS and open the folder, for at most `seconds` in all. Raises ChannelUnavailable, also inside."""
    imap: imaplib.IMAP4 | None = None
    timer: threading.Timer | None = None
    late = threading.Event()
    try:
        imap = _connect(place, seconds)
        # A timeout for each read would not stop a server that sends byte by byte.
        timer = threading.Timer(seconds, _abort, [imap.sock, late])
        timer.daemon = True
        timer.start()
        imap.login(place.user, place.password)
        answer, _ = imap.select(_quote(place.folder))
        if answer != "OK":
            raise ChannelUnavailable(f"the mailbox has no folder {place.folder}", status=answer)
        yield Mailbox(imap)
    except ssl.SSLCertVerificationError as error:
        raise ChannelUnavailable(
            f"the mailbox's certificate is not trusted: {error.verify_message}", status=type(error).__name__
        ) from error
    except (imaplib.IMAP4.error, OSError, EOFError, ValueError) as error:
        why = f"more than {seconds:g} s in total" if late.is_set() else str(error)[:200] or type(error).__name__
        raise ChannelUnavailable(
            f"the mailbox did not answer as expected: {why}", status=type(error).__name__
        ) from error
    finally:
        if imap is not None:
            # A logout on a broken connection fails, and then does not close it.
            with suppress(imaplib.IMAP4.error, OSError):
                imap.logout()
            with suppress(OSError):
                imap.shutdown()
        if timer is not None:
            timer.cancel()


def _connect(place: MailboxPlace, seconds: float) -> imaplib.IMAP4:
    if not place.starttls:
        return imaplib.IMAP4_SSL(place.host, place.port, ssl_context=trusted_certificates(), timeout=seconds)
    imap = imaplib.IMAP4(place.host, place.port, timeout=seconds)
    try:
        imap.starttls(trusted_certificates())
    except Exception:
        imap.shutdown()
        raise
    return imap


def _abort(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _quote(folder: str) -> str:
    escaped = folder.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _flatten(data: list[object]) -> Iterator[bytes]:
    for each in data:
        if isinstance(each, tuple):
            yield from (part for part in each if isinstance(part, bytes))
        elif isinstance(each, bytes):
            yield each
