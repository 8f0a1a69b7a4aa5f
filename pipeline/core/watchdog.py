"""A watchdog: a limit on the time of one piece of work; it ends the process when the limit passes."""

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STANDARD_ERROR: Final = 2


class Watchdog:
    """The limits of this process; the earliest of them ends it.

    A hanging thread cannot be interrupted, and a thread that never releases the interpreter stops all others. So the
    operating system's timer ends the process, after the traceback of every thread was written to standard error. Other
    processes can claim its work when its leases expire.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, float] = {}
        self._registered = False

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """End the process if the block takes longer than `seconds`."""
        token = object()
        self._change(token, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._change(token, None)

    def _change(self, token: object, end: float | None) -> None:
        with self._lock:
            if not self._registered:
                faulthandler.register(signal.SIGALRM, file=_STANDARD_ERROR, all_threads=True, chain=True)
                self._registered = True
            if end is None:
                del self._ends[token]
            else:
                self._ends[token] = end
            left = min(self._ends.values()) - time.monotonic() if self._ends else 0
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001) if self._ends else 0)


#: The watchdog of this process.
WATCHDOG: Final = Watchdog()
