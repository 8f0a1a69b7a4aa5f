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


class Timeouts:
    """The bounds that hold in this process now; the earliest of them ends it.

    A thread that hangs cannot be interrupted, and one that never gives back the interpreter stops every other thread as
    well. So it is the system's own timer that ends the process, after every thread's place in the code has been written to
    standard error. What the process held is free once its leases run out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, float] = {}
        self._told = False

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End the process unless the block is done in so many seconds."""
        mine = object()
        self._change(mine, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._change(mine, None)

    def _change(self, mine: object, end: float | None) -> None:
        with self._lock:
            if not self._told:
                faulthandler.register(signal.SIGALRM, file=_STANDARD_ERROR, all_threads=True, chain=True)
                self._told = True
            if end is None:
                del self._ends[mine]
            else:
                self._ends[mine] = end
            left = min(self._ends.values()) - time.monotonic() if self._ends else 0
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001) if self._ends else 0)


#: The one of this operating system process.
TIMEOUTS: Final = Timeouts()
