"""Reads the answers that a customs broker writes to `in/` on its SFTP server, within limits, and moves them away."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncssh import SFTPClient, SFTPConnectionLost, SFTPError, SFTPNoConnection, SFTPNoSuchFile, SFTPNoSuchPath
from asyncssh.constants import FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_UNKNOWN

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.protocol import AnswerFile, AnswerListing, Answers
from pipeline.deliveries.channels.sftp_upload import ensure_folder, read_beginning
from pipeline.deliveries.channels.ssh_session import SshSession, parse_server

INBOX, DONE, REFUSED = "in", "done", "refused"

MAX_FILES: Final = 200
MAX_BYTES: Final = 64 * 1024
#: The largest file beside an answer.
ATTACHMENT_BYTES: Final = 20 * 1024 * 1024
_MAX_NAMES: Final = 10_000

#: The file names that are used in a path. The server is not trusted.
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.json")
_ATTACHMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
_PART: Final = b".part"
_GONE: Final = (SFTPNoSuchFile, SFTPNoSuchPath)


class SftpAnswers(Answers):
    """The folder in/ of a server. For one thread, within the timeout of its session."""

    def __init__(self, session: SshSession, client: SFTPClient) -> None:
        self._session = session
        self._client = client
        self._path = f"{session.server.folder}{INBOX}"

    def list_files(self) -> AnswerListing:
        """Return the contents of the folder. A server without the folder has none."""
        return self._session.run(self._list_files())

    def read_file(self, name: str) -> AnswerFile | None:
        """Return the file, or None if it is gone."""
        return self._session.run(self._read_file(name))

    def read_attachment(self, name: str) -> AnswerFile | None:
        """Return a file beside an answer that names it, or None if it is not there."""
        if not _ATTACHMENT.fullmatch(name) or name.endswith((".json", _PART.decode())) or name in (DONE, REFUSED):
            return AnswerFile(
                name, problem="its name is not safe; use letters, digits, `.`, `_` and `-`, and no `.json`"
            )
        return self._session.run(self._read_file(name, ATTACHMENT_BYTES))

    def move_to_done(self, name: str) -> None:
        """Move a recorded file to in/done/."""
        self._session.run(self._move_file(name, DONE))

    def move_to_refused(self, name: str, reason: str) -> None:
        """Move a refused file to in/refused/, and write the reason beside it."""
        self._session.run(self._move_to_refused(name, reason))

    async def _list_files(self) -> AnswerListing:
        found: list[tuple[int, str]] = []
        seen = ignored = 0
        try:
            async for entry in self._client.scandir(self._path.encode()):
                seen += 1
                if seen > _MAX_NAMES:
                    break
                name = _to_bytes(entry.filename)
                if _NAME.fullmatch(name):
                    found.append((entry.attrs.mtime or 0, name.decode()))
                elif not _is_expected(name):
                    ignored += 1
        except _GONE:
            return AnswerListing([], 0)
        found.sort()
        return AnswerListing([name for _, name in found[:MAX_FILES]], ignored)

    async def _read_file(self, name: str, max_bytes: int | None = None) -> AnswerFile | None:
        path, most = f"{self._path}/{name}", max_bytes or MAX_BYTES
        try:
            kind = (await self._client.lstat(path)).type
            if kind not in (FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_UNKNOWN):
                return AnswerFile(name, problem="it is not a regular file")
            body = await read_beginning(self._client, path, most + 1)
        except _GONE:
            return None
        except (SFTPConnectionLost, SFTPNoConnection):
            raise
        except SFTPError as error:
            return AnswerFile(name, problem=f"the server does not return it: {type(error).__name__}")
        if len(body) > most:
            return AnswerFile(name, problem=f"it has more than {most} bytes")
        return AnswerFile(name, body)

    async def _move_to_refused(self, name: str, reason: str) -> None:
        moved = await self._move_file(name, REFUSED)
        if moved is not None:
            async with self._client.open(f"{moved}.reason.txt", "wb") as file:
                await file.write(f"{reason}\n".encode())

    async def _move_file(self, name: str, into: str) -> str | None:
        """Move the file into the folder, with a new name if its own is taken. Return the path, None if it is gone."""
        folder = f"{self._path}/{into}"
        await ensure_folder(self._client, folder)
        place = f"{folder}/{name}"
        if await self._client.lexists(place):
            stem, dot, suffix = name.rpartition(".")
            place = f"{folder}/{stem}-{secrets.token_hex(4)}{dot}{suffix}"
        try:
            await self._client.rename(f"{self._path}/{name}", place)
        except _GONE:
            return None
        return place


@contextmanager
def open_answers(settings: Settings, target: Target) -> Iterator[SftpAnswers]:
    """Open the folder in/ of the target's server.

    Raises ChannelUnavailable if the server cannot be reached, ChannelRefused if its host key is not the pinned one.
    """
    with SshSession(parse_server(target), settings) as session:
        session.set_timeout(settings.delivery_timeout_seconds)
        client = session.sign_in()
        session.set_timeout(settings.sftp_timeout_seconds)
        yield SftpAnswers(session, client)


def _to_bytes(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def _is_expected(name: bytes) -> bool:
    # Partial files, our own folders, and hidden files.
    hidden = name.startswith(b".") and b"/" not in name
    return hidden or name.endswith(_PART) or name in (DONE.encode(), REFUSED.encode())
