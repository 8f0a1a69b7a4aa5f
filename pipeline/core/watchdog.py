"""A bound on how long this process may work on one thing: past it the process ends, whatever it is doing."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STANDARD_ERROR: Final = 2


class Watchdog:
    """The bounds that hold in this process now; the earliest of them ends it.

    A thread that hangs cannot be interrupted, and one that never gives back the interpreter stops every other thread as
    well. So it is the system's own timer that ends the process, after every thread's place in the code has been written to
    standard error. What the process held is free once its leases run out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, float] = {}
        self._registered = False

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """End the process unless the block is done in so many seconds."""
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


#: The one of this operating system process.
WATCHDOG: Final = Watchdog()
