"""Kombu's transport in memory, without its polling; `message_broker` says what else stands against kombu's bugs."""

import threading
import time
from queue import Empty
from typing import Any, Final

from kombu.transport import memory


class _Arrivals:
    """Counts the messages that arrived in the memory of this process, and wakes the threads that wait for one."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        """Count a message and wake the waiting threads."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, seen: int, timeout: float | None) -> bool:
        """Wait until the count differs from `seen`. Return False if it does not in `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count != seen, timeout)


_ARRIVALS: Final = _Arrivals()


class _MemoryChannel(memory.Channel):
    """Kombu's channel in memory, which also wakes the readers of a new message."""

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
        _ARRIVALS.add()


class MemoryTransport(memory.Transport):
    """Kombu's transport in memory, whose readers sleep until a message arrives.

    Bug (no issue found): kombu's readers look for messages at an interval. A short one costs processor time in an idle
    process, and a long one delays every message.
    """

    Channel = _MemoryChannel

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Deliver one message to its consumer. Raises TimeoutError if none arrives in `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = _ARRIVALS.count
            try:
                self.cycle.get(self._deliver, timeout=timeout)  # type: ignore[union-attr]  # the constructor sets it
            except Empty:
                if not _ARRIVALS.wait(seen, None if deadline is None else deadline - time.monotonic()):
                    raise TimeoutError from None
            else:
                return
