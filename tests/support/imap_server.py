"""A mailbox on loopback behind TLS: sign-in, one folder, search by flags, fetch and store by UID."""

import re
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.mail_server import USER, certificate
from tests.support.ports import LOOPBACK

PASSWORD = "imap"  # noqa: S105 - of this server
_UNSET = {b"UNSEEN": rb"\Seen", b"UNFLAGGED": rb"\Flagged", b"UNDELETED": rb"\Deleted"}


@dataclass
class KeptMail:
    """An e-mail in the folder, with its flags."""

    body: bytes
    flags: set[bytes] = field(default_factory=set)


class MailboxServer:
    """A running server. `reads` are the UIDs whose body was fetched; with `failing` it closes at that command."""

    def __init__(self, *mails: bytes) -> None:
        self.mails = [KeptMail(each) for each in mails]
        self.reads: list[int] = []
        self.failing: bytes | None = None
        self.certificate = certificate()

    def __enter__(self) -> Self:
        mailbox = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                mailbox._serve(self.request)

        self._server = socketserver.ThreadingTCPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, password: str = PASSWORD, folder: str = "INBOX") -> str:
        """Return the setting that leads to the folder."""
        return f"imaps://{USER.replace('@', '%40')}:{password}@{LOOPBACK}:{self._server.server_address[1]}/{folder}"

    def flags(self) -> list[set[bytes]]:
        """Return the flags of each e-mail."""
        return [each.flags for each in self.mails]

    def _serve(self, raw: Any) -> None:
        try:
            connection = self.certificate.server.wrap_socket(raw, server_side=True)
        except (ssl.SSLError, OSError):
            return
        with connection, connection.makefile("rwb") as stream:
            stream.write(b"* OK ready\r\n")
            stream.flush()
            while line := stream.readline():
                tag, _, command = line.strip().partition(b" ")
                if self.failing is not None and self.failing in command:
                    return
                for answer in self._answer(command):
                    stream.write(answer)
                stream.write(tag + (b" NO no\r\n" if self._refuses(command) else b" OK done\r\n"))
                stream.flush()
                if command == b"LOGOUT":
                    return

    def _refuses(self, command: bytes) -> bool:
        if command.startswith(b"LOGIN"):
            return PASSWORD.encode() not in command
        return command.startswith(b"SELECT") and b"INBOX" not in command

    def _answer(self, command: bytes) -> list[bytes]:
        if command == b"CAPABILITY":
            return [b"* CAPABILITY IMAP4rev1\r\n"]
        if command.startswith(b"SELECT"):
            return [b"* %d EXISTS\r\n" % len(self.mails)]
        if command.startswith(b"UID SEARCH"):
            return [b"* SEARCH %s\r\n" % b" ".join(b"%d" % uid for uid in self._search(command))]
        found = re.fullmatch(rb"UID (FETCH|STORE) (\d+) (.*)", command)
        if found is None:
            return []
        uid = int(found[2])
        mail = self.mails[uid - 1]
        if found[1] == b"STORE":
            mail.flags |= set(re.findall(rb"\\\w+", found[3]))
            return []
        if b"SIZE" in found[3]:
            return [b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (uid, uid, len(mail.body))]
        self.reads.append(uid)
        return [b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (uid, uid, len(mail.body), mail.body)]

    def _search(self, command: bytes) -> list[int]:
        words = command.split()[2:]
        unset = {flag for word, flag in _UNSET.items() if word in words}
        needed = {rb"\Flagged"} if b"FLAGGED" in words else set()
        return [uid for uid, each in enumerate(self.mails, 1) if not unset & each.flags and needed <= each.flags]
