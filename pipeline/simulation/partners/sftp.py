"""A simulated SFTP server of a partner, over a folder."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Literal

import asyncssh

from config.network import LOOPBACK
from pipeline.simulation.partners.server import LoopServer

#: The faults of an SFTP receiver.
FileFault = Literal[
    "another-key",  # has another host key than its `host_key` says
    "refuses-all",  # rejects every login
    "no-writes",  # rejects every write
    "no-renames",  # rejects every rename
    "other-bytes",  # stores other bytes than were sent
    "no-deletes",
    "no-answers",  # refuses to list in/
]

_USERNAME: Final = "partner"


class FileReceiver(LoopServer):
    """An SFTP server on loopback over `folder`, with the login `password`; with a `fault` it shows that fault."""

    def __init__(self, folder: Path, *, fault: FileFault | None = None, port: int = 0) -> None:
        """Bind to `port`, or to a free one for 0; raise OSError if the port is taken."""
        super().__init__("file-receiver", port)
        self.address = f"sftp://{_USERNAME}@{LOOPBACK}:{self.port}"
        self.fault = fault
        self.folder = folder
        self.password = secrets.token_urlsafe(18)
        server_key = asyncssh.generate_private_key("ssh-ed25519")
        published_key = asyncssh.generate_private_key("ssh-ed25519") if fault == "another-key" else server_key
        self._key = server_key
        self.host_key = published_key.export_public_key().decode().strip()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def _start(self) -> None:
        self._acceptor = await asyncssh.listen(
            sock=self._listener,
            server_factory=lambda: _LoginServer(self),
            server_host_keys=[self._key],
            sftp_factory=lambda channel: _FaultyFileServer(channel, self),
        )

    async def _stop(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()


class _LoginServer(asyncssh.SSHServer):
    def __init__(self, receiver: FileReceiver) -> None:
        self._receiver = receiver

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        right = secrets.compare_digest(password.encode(), self._receiver.password.encode())
        return right and username == _USERNAME and self._receiver.fault != "refuses-all"


class _FaultyFileServer(asyncssh.SFTPServer):
    def __init__(self, channel: Any, receiver: FileReceiver) -> None:
        self._fault = receiver.fault
        super().__init__(channel, chroot=str(receiver.folder).encode())

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        self._refuse("no-writes")
        return super().write(file_obj, offset, data[::-1] if self._fault == "other-bytes" else data)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
        self._refuse("no-renames")
        return super().posix_rename(oldpath, newpath)

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        self._refuse("no-renames")
        return super().rename(oldpath, newpath)

    def remove(self, path: bytes) -> Any:
        self._refuse("no-deletes")
        return super().remove(path)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        if path.rstrip(b"/").rpartition(b"/")[2] == b"in":
            self._refuse("no-answers")
        async for entry in super().scandir(path):
            yield entry

    def _refuse(self, fault: FileFault) -> None:
        if self._fault == fault:
            raise asyncssh.SFTPPermissionDenied(f"this receiver simulates the fault {fault}")
