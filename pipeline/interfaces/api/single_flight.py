"""What was found a moment ago: a question that anybody may ask costs the database no more for being asked more often."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: An answer is told again for so many times as long as finding it took, so that it has a fifth of one connection's time at
#: the most.
CACHE_TIME_FACTOR: Final = 4


class SingleFlight(Generic[T]):
    """The answer to one question: found by one thread at a time, and told again for a while.

    Who asks meanwhile is told the last answer, and waits only where there is none.
    """

    def __init__(
        self, load: Callable[[], T], *, max_seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`load` finds the answer, which is kept for `most_seconds` at the utmost."""
        self._load, self._max_seconds, self._clock = load, max_seconds, clock
        self._lock = threading.Lock()
        self._cached: Future[T] | None = None
        self._pending: Future[T] | None = None
        self._expires_at = -math.inf

    def get(self) -> T:
        """Return the answer; raises what finding it did, of which nothing is kept: who asks after that has it found anew."""
        with self._lock:
            if self._cached is not None and (self._pending is not None or self._clock() < self._expires_at):
                return self._cached.result()
            future = self._pending
            if future is not None:
                own_future = None
            else:
                future = own_future = self._pending = Future()
        if own_future is not None:
            self._refresh(own_future)
        return future.result()

    def _refresh(self, future: Future[T]) -> None:
        started_at = self._clock()
        try:
            future.set_result(self._load())
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told as well
            future.set_exception(error)
        finished_at = self._clock()
        with self._lock:
            self._cached, self._pending = (future if future.exception() is None else None), None
            self._expires_at = finished_at + min(self._max_seconds, CACHE_TIME_FACTOR * (finished_at - started_at))
