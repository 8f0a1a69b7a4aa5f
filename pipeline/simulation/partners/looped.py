"""A server on loopback whose event loop has a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from abc import ABC, abstractmethod
from typing import Self

from config.network import LOOPBACK


class Looped(ABC):
    """Listens from the start, serves while it is entered, and breaks off what is under way when it is left."""

    def __init__(self, name: str, port: int) -> None:
        """Raises OSError where the port is taken; 0 takes a free one."""
        self._listener = socket.create_server((LOOPBACK, port))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._stop()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=2)

    @abstractmethod
    async def _start(self) -> None:
        """Serve the listener."""

    @abstractmethod
    async def _stop(self) -> None:
        """Take no more connections."""
