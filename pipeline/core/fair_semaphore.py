"""A semaphore that serves threads in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque


class FairSemaphore:
    """So many turns, given to threads in the order of their asking.

    `threading.Semaphore` lets a thread that has just given its turn back take it again before those that wait: under load
    some wait for seconds, and others not at all.
    """

    def __init__(self, permits: int) -> None:
        self._lock = threading.Lock()
        self._free = permits
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Take a turn, and tell whether there was one within `timeout` seconds."""
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
            return True  # it was given between the end of the wait and here

    def release(self) -> None:
        """Give a turn back: to the thread that waits longest, if one waits."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
