"""Files on the partner's SFTP server: messages and documents go to `out/`, a customs broker's answers come from `in/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from asyncssh import SFTPClient

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.deliveries.channels.protocol import Opens, OutgoingMessage, Receipt, Stage, StageFailed, run
from pipeline.deliveries.channels.sftp_inbox import DONE, INBOX, REFUSED, AnswerFolder
from pipeline.deliveries.channels.sftp_upload import OUTBOX, ensure_folder, put, taken, write_whole
from pipeline.deliveries.channels.ssh_session import NO_SESSION, Server, Visit, named, server_of


class SftpChannel:
    """Leaves each message on the partner's server, with the documents that it links to."""

    carries_documents = True
    read_by_people = False
    shared = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[Receipt]:
        """Send the messages in order; see Channel. Signing in and each message have the settings' times of their own."""
        with self._visit(server_of(target)) as visit:
            visit.begin(self._settings.delivery_timeout_seconds)
            client = visit.sign_in()
            for message in messages:
                visit.begin(self._settings.sftp_timeout_seconds)
                yield visit.make(put(client, visit.server.folder, message, target.check_lease))

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Make the stages of a connection test; the last leaves `message` on the server as any other."""
        try:
            server = server_of(target)
        except ChannelRefused as refused:
            yield from run([("settings", _failing(str(refused), "set the partner's channel again"))])
            return
        with self._visit(server) as visit:
            yield from run(_Trial(visit, self._settings, message).stages())

    def _visit(self, server: Server) -> Visit:
        return Visit(server, self._settings)


CHANNEL: Final[Opens] = SftpChannel

_NO_SESSION: Final = (
    "ask the partner to look into the log of its server; the usual causes are owner and mode of the chroot folder,"
    " and a subsystem sftp that is not configured"
)


def _failing(found: str, remedy: str) -> Callable[[], str]:
    def fail() -> str:
        raise StageFailed(found, remedy)

    return fail


class _Trial:
    """The stages of a connection test, each on what the one before it left."""

    def __init__(self, visit: Visit, settings: Settings, message: OutgoingMessage) -> None:
        self._visit = visit
        self._settings = settings
        self._message = message
        self._address = ""
        self._client: SFTPClient | None = None

    def stages(self) -> list[tuple[str, Callable[[], str]]]:
        made = (
            ("resolve", self._resolve, "correct the host of the address; it must lead to a public server"),
            ("connect", self._connect, "have the partner open the port to this installation"),
            ("host key", self._host_key, "ask the partner for the fingerprint, and pin the key if it is theirs"),
            ("sign in", self._sign_in, "check user and credential with the partner, and set the channel again"),
            ("write, rename, read, delete", self._write, "give the user all rights below out/ in its folder"),
            ("read answers", self._answers, "give the user all rights below in/ in its folder"),
            ("test event", self._event, "give the user room and all rights below out/ in its folder"),
        )
        return [(name, self._timed(stage, remedy)) for name, stage, remedy in made]

    def _timed(self, stage: Callable[[], str], remedy: str) -> Callable[[], str]:
        def make() -> str:
            self._visit.begin(self._settings.delivery_timeout_seconds)
            try:
                return stage()
            except (ChannelUnavailable, ChannelRefused) as error:
                said = f"; it says: {error.answer}" if error.answer else ""
                raise StageFailed(f"{error}{said}", _NO_SESSION if error.status == NO_SESSION else remedy) from error

        return make

    def _resolve(self) -> str:
        self._address = self._visit.look_up()
        return f"{self._visit.server.host} is {self._address}"

    def _connect(self) -> str:
        self._visit.reach(self._address).close()
        return f"port {self._visit.server.port} answers"

    def _host_key(self) -> str:
        key = self._visit.host_key(self._visit.reach(self._address))
        if key not in self._visit.server.pins:
            pinned = " and ".join(named(pin) for pin in self._visit.server.pins)
            raise ChannelRefused(f"the server shows {named(key)}; pinned is {pinned}")
        return f"the server shows the pinned {named(key)}"

    def _sign_in(self) -> str:
        self._client = self._visit.sign_in(self._visit.reach(self._address))
        return f"signed in as {self._visit.server.username}"

    def _write(self) -> str:
        folder = f"{self._visit.server.folder}{OUTBOX}"
        path, body = f"{folder}/connection-test-{self._message.id}.txt", b"A connection test; it may be deleted.\n"

        async def work(client: SFTPClient) -> None:
            await taken(folder, ensure_folder(client, folder))
            await write_whole(client, path, body)
            await taken(path, client.remove(path))

        self._visit.make(work(self._signed_in))
        return f"{len(body)} bytes were written, renamed, read back and deleted in out/"

    def _answers(self) -> str:
        folder = f"{self._visit.server.folder}{INBOX}"

        async def work(client: SFTPClient) -> None:
            for path in (folder, f"{folder}/{DONE}", f"{folder}/{REFUSED}"):
                await taken(path, ensure_folder(client, path))

        self._visit.make(work(self._signed_in))
        listed = AnswerFolder(self._visit, self._signed_in).listed()
        return f"in/ can be read and sorted; answers that wait there: {len(listed.names)}"

    def _event(self) -> str:
        receipt = self._visit.make(put(self._signed_in, self._visit.server.folder, self._message))
        return f"out/{self._message.id}/ holds it: {receipt.answer}"

    @property
    def _signed_in(self) -> SFTPClient:
        if self._client is None:
            raise ChannelUnavailable("nobody is signed in")
        return self._client
