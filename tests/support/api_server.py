"""Runs uvicorn in a thread of the test, without the pauses in which uvicorn itself looks whether it should end."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn


class _Server(uvicorn.Server):
    """uvicorn's server, whose end does not wait for its next tick nor, without connections, a tenth of a second more."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.running = threading.Event()

    def stop(self) -> None:
        """End the server from another thread."""
        self.should_exit = True
        if self.running.is_set():
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.running.set()
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for _ in range(5):  # hear that clients have closed their connections
            await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        await self.lifespan.shutdown()


@contextmanager
def run_server(config: uvicorn.Config, sockets: Sequence[socket.socket] | None = None) -> Iterator[None]:
    """Serve the app of `config` in a thread while the block runs."""
    server = _Server(config)
    thread = threading.Thread(target=server.run, args=(None if sockets is None else [*sockets],))
    thread.start()
    try:
        if not server.running.wait(60):
            raise TimeoutError("uvicorn did not start")
        yield
    finally:
        server.stop()
        thread.join(timeout=10)
