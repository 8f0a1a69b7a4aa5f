"""An SFTP server on loopback over a test's folder, with configurable faults, which records operations."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import asyncssh

from pipeline.accounts.channels import SftpEndpoint
from pipeline.accounts.recipients import Target

USERNAME: Final = "exports"
PASSWORD: Final = "of-the-partner"  # noqa: S105 - only for this server

Fault = Callable[[str], None]


@dataclass
class Faults:
    """Hooks before an operation on a path. Each may raise the error that the server returns."""

    write: Fault | None = None
    rename: Fault | None = None
    read: Fault | None = None
    write_seconds: float = 0
    end_at_write: int | None = None
    session: str | None = None  # sessions are `refused`, or the connection is `dropped` after each sign-in
    report_wrong_size: bool = False  # it stores other bytes than it received
    names: list[bytes] = field(default_factory=list)  # additional names in its listings


class SftpServer:
    """A running server. `done` are the renames and writes, in order, by path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.user_key = asyncssh.generate_private_key("ssh-ed25519")
        self.password = PASSWORD
        self.faults = Faults()
        self.done: list[tuple[str, str]] = []
        self.sign_ins = 0
        self.port = 0
        self.ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._acceptor: asyncssh.SSHAcceptor | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def endpoint(self, folder: str = "", *, pinned: asyncssh.SSHKey | None = None) -> dict[str, Any]:
        """Return the endpoint as a partner registers it, without a credential."""
        key = (pinned or self.host_key).export_public_key().decode().strip()
        return {"channel": "sftp", "address": f"sftp://{USERNAME}@127.0.0.1:{self.port}{folder}", "hostKeys": [key]}

    def target(
        self, folder: str = "", *, pinned: asyncssh.SSHKey | None = None, credential: str | None = PASSWORD
    ) -> Target:
        """Return the target of this server."""
        endpoint = SftpEndpoint.model_validate(self.endpoint(folder, pinned=pinned))
        return Target("acc_demo", "br_demo", test=False, endpoint=endpoint, credential=credential)

    def files(self) -> dict[str, bytes]:
        """Return all files below the root, by path."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    async def _start(self) -> None:
        outer = self

        class Door(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self._connection = conn

            def auth_completed(self) -> None:
                if outer.faults.session == "dropped":
                    self._connection.abort()

            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return self._count_attempt((username, password) == (USERNAME, outer.password))

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return self._count_attempt(username == USERNAME and key == outer.user_key.convert_to_public())

            def _count_attempt(self, right: bool) -> bool:  # noqa: FBT001 - the result of a check
                outer.sign_ins += right
                return right

        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Door,
            server_host_keys=[self.host_key],
            sftp_factory=None if self.faults.session == "refused" else lambda channel: _Files(channel, self),
        )
        self.port = self._acceptor.get_port()

    async def _stop(self) -> None:
        self.ended.set()
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        if under_way:
            await asyncio.wait(under_way, timeout=5)


class _Files(asyncssh.SFTPServer):
    def __init__(self, channel: Any, server: SftpServer) -> None:
        self._server = server
        super().__init__(channel, chroot=str(server.root).encode())

    async def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        faults = self._server.faults
        path = self._name(file_obj.name)
        self._server.done.append(("write", path))
        if faults.end_at_write is not None:
            faults.end_at_write -= 1
            if faults.end_at_write < 0:
                self.connection.abort()
        if faults.write is not None:
            faults.write(path)
        if faults.write_seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.ended.wait(), faults.write_seconds)
        kept = data[::-1] if faults.report_wrong_size else data
        written: Any = super().write(file_obj, offset, kept)
        return int(written)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if self._server.faults.read is not None and not pflags & asyncssh.FXF_WRITE:
            self._server.faults.read(path.decode("latin-1"))
        return super().open(path, pflags, attrs)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if self._server.faults.rename is not None:
            self._server.faults.rename(newpath.decode())
        self._server.done.append(("rename", newpath.decode().lstrip("/")))
        return super().posix_rename(oldpath, newpath)

    async def scandir(self, path: bytes) -> Any:
        async for entry in super().scandir(path):
            yield entry
        if path.rstrip(b"/").endswith(b"in"):
            for name in self._server.faults.names:
                yield asyncssh.SFTPName(name, attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644))

    def _name(self, path: bytes | str) -> str:
        text = path.decode() if isinstance(path, bytes) else path
        return str(Path(text).relative_to(self._server.root))
