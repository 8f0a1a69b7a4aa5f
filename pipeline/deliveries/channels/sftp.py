"""The SFTP channel: messages and documents go to `out/`, a customs broker's answers come from `in/`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from asyncssh import SFTPClient

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.outbound import describe_address
from pipeline.deliveries.channels.protocol import (
    ChannelFactory,
    DeliveryReceipt,
    OutgoingMessage,
    Stage,
    StageFailed,
    run_stages,
)
from pipeline.deliveries.channels.sftp_inbox import DONE, INBOX, REFUSED, SftpAnswers, open_answers
from pipeline.deliveries.channels.sftp_upload import (
    OUTBOX,
    ensure_folder,
    expect_accepted,
    upload_message,
    write_atomically,
)
from pipeline.deliveries.channels.ssh_session import NO_SESSION, SshServer, SshSession, describe_key, parse_server


class SftpChannel:
    """Writes each message to the partner's server, with the documents that it links to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order. See Channel. Signing in and each message have separate time limits."""
        with self._open_session(parse_server(target)) as session:
            session.set_timeout(self._settings.delivery_timeout_seconds)
            client = session.sign_in()
            for message in messages:
                session.set_timeout(self._settings.sftp_timeout_seconds)
                yield session.run(upload_message(client, session.server.folder, message, target.check_lease))

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Run the stages of a connection test. The last writes `message` to the server like any other."""
        try:
            server = parse_server(target)
        except ChannelRefused as refused:
            yield from run_stages([("settings", _fail_with(str(refused), "set the partner's channel again"))])
            return
        with self._open_session(server) as session:
            yield from run_stages(_SftpTest(session, self._settings, message).stages())

    def open_answers(self, target: Target) -> AbstractContextManager[SftpAnswers]:
        """Open the folder in/ of the partner's server. See PollableChannel."""
        return open_answers(self._settings, target)

    def _open_session(self, server: SshServer) -> SshSession:
        return SshSession(server, self._settings)


CHANNEL: Final[ChannelFactory] = SftpChannel

_NO_SESSION: Final = (
    "ask the partner to check the log of its server; usual causes are owner and mode of the chroot folder,"
    " and a subsystem sftp that is not configured"
)


def _fail_with(found: str, remedy: str) -> Callable[[], str]:
    def fail() -> str:
        raise StageFailed(found, remedy)

    return fail


class _SftpTest:
    """The stages of a connection test. Each uses the results of the previous ones."""

    def __init__(self, session: SshSession, settings: Settings, message: OutgoingMessage) -> None:
        self._session = session
        self._settings = settings
        self._message = message
        self._address = ""
        self._client: SFTPClient | None = None

    def stages(self) -> list[tuple[str, Callable[[], str]]]:
        steps = (
            ("resolve", self._resolve, "correct the host of the address; it must be a public server"),
            ("connect", self._connect, "ask the partner to open the port for this installation"),
            ("host key", self._check_host_key, "ask the partner for the fingerprint, and pin the key if it is theirs"),
            ("sign in", self._sign_in, "check user and credential with the partner, then set the channel again"),
            ("write, rename, read, delete", self._write, "give the user all rights below out/ in its folder"),
            ("read answers", self._read_answers, "give the user all rights below in/ in its folder"),
            ("test event", self._send_event, "give the user disk space and all rights below out/ in its folder"),
        )
        return [(name, self._with_timeout(stage, remedy)) for name, stage, remedy in steps]

    def _with_timeout(self, stage: Callable[[], str], remedy: str) -> Callable[[], str]:
        def make() -> str:
            self._session.set_timeout(self._settings.delivery_timeout_seconds)
            try:
                return stage()
            except (ChannelUnavailable, ChannelRefused) as error:
                answer = f"; it says: {error.answer}" if error.answer else ""
                raise StageFailed(f"{error}{answer}", _NO_SESSION if error.status == NO_SESSION else remedy) from error

        return make

    def _resolve(self) -> str:
        self._address = self._session.resolve()
        return describe_address(self._session.server.host, self._address)

    def _connect(self) -> str:
        self._session.connect(self._address).close()
        return f"port {self._session.server.port} answers"

    def _check_host_key(self) -> str:
        key = self._session.fetch_host_key(self._session.connect(self._address))
        if key not in self._session.server.pins:
            pinned = " and ".join(describe_key(pin) for pin in self._session.server.pins)
            raise ChannelRefused(f"the server shows {describe_key(key)}; pinned is {pinned}")
        return f"the server shows the pinned {describe_key(key)}"

    def _sign_in(self) -> str:
        self._client = self._session.sign_in(self._session.connect(self._address))
        return f"signed in as {self._session.server.username}"

    def _write(self) -> str:
        folder = f"{self._session.server.folder}{OUTBOX}"
        path, body = f"{folder}/connection-test-{self._message.id}.txt", b"A connection test. It may be deleted.\n"

        async def work(client: SFTPClient) -> None:
            await expect_accepted(folder, ensure_folder(client, folder))
            await write_atomically(client, path, body)
            await expect_accepted(path, client.remove(path))

        self._session.run(work(self._signed_in_client))
        return f"{len(body)} bytes were written, renamed, read and deleted in out/"

    def _read_answers(self) -> str:
        folder = f"{self._session.server.folder}{INBOX}"

        async def work(client: SFTPClient) -> None:
            for path in (folder, f"{folder}/{DONE}", f"{folder}/{REFUSED}"):
                await expect_accepted(path, ensure_folder(client, path))

        self._session.run(work(self._signed_in_client))
        listed = SftpAnswers(self._session, self._signed_in_client).list_files()
        return f"in/ can be read and sorted; waiting answers: {len(listed.names)}"

    def _send_event(self) -> str:
        receipt = self._session.run(upload_message(self._signed_in_client, self._session.server.folder, self._message))
        return f"out/{self._message.id}/ contains it: {receipt.answer}"

    @property
    def _signed_in_client(self) -> SFTPClient:
        if self._client is None:
            raise ChannelUnavailable("the SFTP session is not signed in")
        return self._client
