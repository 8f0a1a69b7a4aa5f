"""A semaphore that serves threads in the order of their requests."""

import threading
from collections import deque


class FairSemaphore:
    """A number of permits, given to threads in the order of their requests.

    With `threading.Semaphore` a thread that releases its permit can take it again before the threads that wait. Under load
    some then wait for seconds, and others not at all.
    """

    def __init__(self, permits: int) -> None:
        self._lock = threading.Lock()
        self._free = permits
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Take a permit; return whether one was free within `timeout` seconds."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            ticket = threading.Lock()
            ticket.acquire()
            self._waiting.append(ticket)
        if ticket.acquire(timeout=timeout):
            return True
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return False
            return True  # the permit was given after the wait ended and before the lock was taken

    def release(self) -> None:
        """Release a permit; the thread that waits longest gets it."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
