"""The answers that a customs broker leaves in `in/` on its SFTP server: read within bounds, then moved out of the way."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from asyncssh import (
    SFTPClient,
    SFTPConnectionLost,
    SFTPError,
    SFTPNoConnection,
    SFTPNoSuchFile,
    SFTPNoSuchPath,
)
from asyncssh.constants import FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_UNKNOWN

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.sftp_upload import ensure_folder, read_beginning
from pipeline.deliveries.channels.ssh_session import SshSession, parse_server

INBOX, DONE, REFUSED = "in", "done", "refused"

MAX_FILES: Final = 200
MAX_BYTES: Final = 64 * 1024
_MAX_NAMES: Final = 10_000

#: The names that we take into a path; the server could say anything.
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.json")
_PART: Final = b".part"
_GONE: Final = (SFTPNoSuchFile, SFTPNoSuchPath)


@dataclass(frozen=True)
class AnswerFile:
    """A file of in/: its bytes, or the problem that kept them from being read."""

    name: str
    body: bytes = b""
    problem: str | None = None


@dataclass(frozen=True)
class FolderListing:
    """What lies in in/: the files to read, the oldest first, and how many more things there are that we leave alone."""

    names: list[str]
    ignored: int


class AnswerFolder:
    """The folder in/ of a server, for one thread, within the seconds that its session was begun with."""

    def __init__(self, session: SshSession, client: SFTPClient) -> None:
        self._session = session
        self._client = client
        self._path = f"{session.server.folder}{INBOX}"

    def list_files(self) -> FolderListing:
        """Return what lies there; a server without the folder has nothing to say."""
        return self._session.run(self._list_files())

    def read_file(self, name: str) -> AnswerFile | None:
        """Return the file; None where it has gone meanwhile."""
        return self._session.run(self._read_file(name))

    def move_to_done(self, name: str) -> None:
        """Move what was recorded to in/done/."""
        self._session.run(self._move_file(name, DONE))

    def move_to_refused(self, name: str, reason: str) -> None:
        """Move what cannot be recorded to in/refused/, with the reason beside it."""
        self._session.run(self._move_to_refused(name, reason))

    async def _list_files(self) -> FolderListing:
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
            return FolderListing([], 0)
        found.sort()
        return FolderListing([name for _, name in found[:MAX_FILES]], ignored)

    async def _read_file(self, name: str) -> AnswerFile | None:
        path = f"{self._path}/{name}"
        try:
            kind = (await self._client.lstat(path)).type
            if kind not in (FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_UNKNOWN):
                return AnswerFile(name, problem="it is no plain file")
            body = await read_beginning(self._client, path, MAX_BYTES + 1)
        except _GONE:
            return None
        except (SFTPConnectionLost, SFTPNoConnection):
            raise
        except SFTPError as error:
            return AnswerFile(name, problem=f"the server does not give it: {type(error).__name__}")
        if len(body) > MAX_BYTES:
            return AnswerFile(name, problem=f"it has more than {MAX_BYTES} bytes")
        return AnswerFile(name, body)

    async def _move_to_refused(self, name: str, reason: str) -> None:
        moved = await self._move_file(name, REFUSED)
        if moved is not None:
            async with self._client.open(f"{moved}.reason.txt", "wb") as file:
                await file.write(f"{reason}\n".encode())

    async def _move_file(self, name: str, into: str) -> str | None:
        """Move the file into the folder, under another name where its own is taken; None where it has gone meanwhile."""
        folder = f"{self._path}/{into}"
        await ensure_folder(self._client, folder)
        place = f"{folder}/{name}"
        if await self._client.lexists(place):
            place = f"{folder}/{name.removesuffix('.json')}-{secrets.token_hex(4)}.json"
        try:
            await self._client.rename(f"{self._path}/{name}", place)
        except _GONE:
            return None
        return place


@contextmanager
def open_answer_folder(settings: Settings, target: Target) -> Iterator[AnswerFolder]:
    """Give the folder in/ of the target's server.

    Raises ChannelUnavailable where the server cannot be reached, ChannelRefused where it is not the one that it was.
    """
    with SshSession(parse_server(target), settings) as session:
        session.set_timeout(settings.delivery_timeout_seconds)
        client = session.sign_in()
        session.set_timeout(settings.sftp_timeout_seconds)
        yield AnswerFolder(session, client)


def _to_bytes(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def _is_expected(name: bytes) -> bool:
    # What is being written, what we moved away, and what servers and people hide.
    hidden = name.startswith(b".") and b"/" not in name
    return hidden or name.endswith(_PART) or name in (DONE.encode(), REFUSED.encode())
