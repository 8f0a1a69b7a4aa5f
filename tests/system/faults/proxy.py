"""A TCP proxy on loopback with the faults of networks: delay, swallow, reset and cut within a message."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.ports import LOOPBACK

_PIECE = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: closing resets the connection


@dataclass
class Proxy:
    """A port for clients, and the faults of their connections; each fault lasts until it is withdrawn.

    `cut_on` resets a connection after it passed on data of the client that contains the pattern. `cuts` counts the
    resets, and `cuts_left` says how many remain. `cut_after_bytes` does the same after that many bytes.
    """

    port: int
    target: int
    _loop: asyncio.AbstractEventLoop
    latency_seconds: float = 0.0
    blackhole: bool = False
    refuse: bool = False
    cut_on: bytes | None = None
    cut_after_bytes: int | None = None
    cuts_left: int = 1
    cuts: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, both ways, until either side or a fault ends it."""
        if self.refuse:
            _reset(writer)
            return
        try:
            back, forth = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, forth}
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(self._pass(reader, forth, writer, watched=True)),
                    asyncio.create_task(self._pass(back, writer, forth, watched=False)),
                ]
            )
        finally:
            self._writers -= {writer, forth}
            for each in (writer, forth):
                each.close()

    async def _pass(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, other: asyncio.StreamWriter, *, watched: bool
    ) -> None:
        passed, tail = 0, b""
        with suppress(OSError):
            while piece := await source.read(_PIECE):
                await asyncio.sleep(self.latency_seconds)
                while self.blackhole:  # noqa: ASYNC110 - another thread sets and clears it
                    await asyncio.sleep(0.02)
                to.write(piece)
                await to.drain()
                passed, tail = passed + len(piece), (tail + piece)[-_PIECE:]
                if watched and self._cuts(passed, tail):
                    # The request arrives; only the answer is lost.
                    _reset(other)
                    break
        with suppress(OSError):
            to.close()

    def _cuts(self, passed: int, tail: bytes) -> bool:
        due = (self.cut_on is not None and self.cut_on in tail) or (
            self.cut_after_bytes is not None and passed >= self.cut_after_bytes
        )
        if not due or self.cuts >= self.cuts_left:
            return False
        self.cuts += 1
        return True

    def reset_all(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for writer in [*self._writers]:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """Yield a proxy in front of the port `target`, with its own port and thread."""
    loop = asyncio.new_event_loop()
    listening = socket.create_server((LOOPBACK, 0))
    made = Proxy(listening.getsockname()[1], target, loop)
    server = loop.run_until_complete(asyncio.start_server(made.serve, sock=listening))
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    try:
        yield made
    finally:

        async def end() -> None:
            server.close()
            for task in asyncio.all_tasks(loop) - {asyncio.current_task(loop)}:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
