"""SSH sessions with a partner's SFTP server: only with a pinned host key, and only with the partner's credential."""

import asyncio
import socket
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import asyncssh
from asyncssh.public_key import get_default_public_key_algs
from httpcore import ConnectError, ConnectTimeout

from config.settings import Settings
from pipeline.accounts.channels import SftpEndpoint
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.outbound import resolve_allowed
from pipeline.deliveries.channels.protocol import excerpt

T = TypeVar("T")

DEFAULT_PORT: Final = 22
_CLOSE_SECONDS: Final = 1.0

#: The status if the credential was right but the server gave no SFTP session.
NO_SESSION: Final = "NoSftpSession"


@dataclass(frozen=True)
class SshServer:
    """A partner's server. `folder` is empty for the login folder, else it ends with a slash."""

    host: str
    port: int
    username: str
    folder: str
    pins: tuple[asyncssh.SSHKey, ...]
    password: str | None = field(default=None, repr=False)
    private_key: asyncssh.SSHKey | None = field(default=None, repr=False)


def parse_server(target: Target) -> SshServer:
    """Return the server of the target's endpoint. Raises ChannelRefused if the registered endpoint cannot be used."""
    endpoint = target.endpoint
    if not isinstance(endpoint, SftpEndpoint) or target.credential is None:
        raise ChannelRefused("the SFTP server has no address or no credential; set the partner's channel again")
    try:
        parts = urlsplit(endpoint.address)
        host, port, username = parts.hostname or "", parts.port or DEFAULT_PORT, parts.username or ""
        pins = tuple(asyncssh.import_public_key(key) for key in endpoint.host_keys)
    except ValueError as error:
        raise ChannelRefused(f"the port or a pinned host key cannot be read: {error}") from error
    folder = parts.path.rstrip("/")
    server = SshServer(host, port, username, f"{folder}/" if folder else "", pins)
    if not target.credential.lstrip().startswith("-----BEGIN"):
        return replace(server, password=target.credential)
    try:
        return replace(server, private_key=asyncssh.import_private_key(target.credential))
    except ValueError as error:
        raise ChannelRefused(f"the private key cannot be read: {error}; give one without a passphrase") from error


class _Client(asyncssh.SSHClient):
    """Trusts only the pinned keys, and remembers another key that the server showed."""

    shown_key: str | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown_key = describe_key(key)
        return False


def describe_key(key: asyncssh.SSHKey) -> str:
    """Return the kind and fingerprint of a public key, for people to compare."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


class SshSession:
    """An SSH session with a server: one thread, one connection. All work is under the last `set_timeout`.

    Failures of the server raise ChannelUnavailable. A host key that is not pinned raises ChannelRefused.
    """

    def __init__(self, server: SshServer, settings: Settings) -> None:
        self.server = server
        self._private = settings.allow_private_destinations
        self._ports = settings.destination_ports
        self._runner = asyncio.Runner()
        # The library leaves failed tasks when a connection breaks. The error itself is raised to us anyway.
        self._runner.get_loop().set_exception_handler(lambda _, __: None)
        self._until = 0.0
        self._connection: asyncssh.SSHClientConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._runner:
            if self._connection is not None:
                self._runner.run(_close(self._connection))

    def set_timeout(self, seconds: float) -> None:
        """Limit all work from now on to `seconds` in total."""
        self._until = time.monotonic() + seconds

    def resolve(self) -> str:
        """Return an allowed address of the server."""
        try:
            return resolve_allowed(
                self.server.host, self.server.port, self._remaining(), private=self._private, ports=self._ports
            )[0]
        except (ConnectError, ConnectTimeout, UnicodeError) as error:
            raise ChannelUnavailable(f"{type(error).__name__}: {error}", status=type(error).__name__) from error

    def connect(self, address: str) -> socket.socket:
        """Connect to the address."""
        try:
            return socket.create_connection((address, self.server.port), self._remaining())
        except OSError as error:
            raise ChannelUnavailable(
                f"the server does not answer at port {self.server.port}: {error.strerror or type(error).__name__}",
                status=type(error).__name__,
            ) from error

    def fetch_host_key(self, connected: socket.socket) -> asyncssh.SSHKey:
        """Return the server's host key, and close the connection."""
        with connected:
            options = asyncssh.SSHClientConnectionOptions(username="", client_keys=None, config=None)
            key = self.run(
                asyncssh.get_server_host_key(
                    sock=connected, config=None, options=options, server_host_key_algs=self._host_key_algorithms()
                )
            )
        if key is None:
            raise ChannelUnavailable("the server showed no host key")
        return key

    def sign_in(self, connected: socket.socket | None = None) -> asyncssh.SFTPClient:
        """Sign in, over a new connection if none is given, and return the SFTP client."""
        connected = connected or self.connect(self.resolve())
        try:
            return self.run(self._sign_in(connected))
        except BaseException:
            connected.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the work within the remaining time and return its result."""
        with _translate_errors():
            return self._runner.run(self._run_within(work))

    async def _run_within(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=self._until - time.monotonic())
        if done:
            return task.result()
        # A cancelled task would first close its files, and wait for the server that does not answer.
        if self._connection is not None:
            self._connection.abort()
        task.cancel()
        await asyncio.wait({task}, timeout=_CLOSE_SECONDS)
        if task.done() and not task.cancelled():
            task.exception()
        raise TimeoutError

    async def _sign_in(self, connected: socket.socket) -> asyncssh.SFTPClient:
        server, client = self.server, _Client()
        try:
            self._connection = await asyncssh.connect(
                sock=connected,
                config=None,
                client_factory=lambda: client,
                known_hosts=(list(server.pins), [], []),
                server_host_key_algs=self._host_key_algorithms(),
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                username=server.username,
                password=server.password,
                client_keys=None if server.private_key is None else [server.private_key],
                agent_path=None,
                gss_host=None,
                gss_kex=False,
                gss_auth=False,
                host_based_auth=False,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise ChannelRefused(
                f"the server's host key is not pinned: the server showed {client.shown_key or 'an unreadable key'}; "
                "ask the partner, and pin the new key if it is theirs",
                status="HostKeyNotVerifiable",
            ) from error
        try:
            return await self._connection.start_sftp_client()
        except asyncssh.Error as error:
            # The credential was right. A server that refuses its chroot folder ends the session at this point.
            raise ChannelUnavailable(
                "signed in, but the server gave no sftp session; see its log (chroot, subsystem)",
                status=NO_SESSION,
                answer=excerpt(error.reason.encode()),
            ) from error

    def _host_key_algorithms(self) -> list[str]:
        # Algorithms of the pinned keys first: a server with several keys then shows a pinned one.
        pinned = [name for key in self.server.pins for name in key.sig_algorithms]
        return [name.decode() for name in dict.fromkeys([*pinned, *get_default_public_key_algs()])]

    def _remaining(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise ChannelUnavailable("the time for the whole session is over", status="TimeoutError")
        return left


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate all errors of SSH, SFTP and the network into ChannelUnavailable."""
    try:
        yield
    except TimeoutError as error:
        raise ChannelUnavailable("the time for the whole session is over", status="TimeoutError") from error
    except asyncssh.PermissionDenied as error:
        # Retried on the schedule: a directory outage looks the same as a changed password, and the schedule leaves time
        # to set the new one.
        raise ChannelUnavailable(
            "the server refused the sign-in; ask the partner, and set the credential again",
            status="PermissionDenied",
            answer=excerpt(error.reason.encode()),
        ) from error
    except asyncssh.Error as error:
        name = type(error).__name__
        raise ChannelUnavailable(
            f"the connection failed: {name}", status=name, answer=excerpt(error.reason.encode())
        ) from error
    except (OSError, ValueError, asyncssh.ChannelListenError) as error:
        raise ChannelUnavailable(
            f"the connection failed: {type(error).__name__}", status=type(error).__name__
        ) from error
