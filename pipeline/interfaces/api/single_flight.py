"""A cached value with one loader at a time: more frequent calls cost the database no more."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: A value is cached this many times as long as loading it took, so loading uses at most a fifth of one connection's time.
CACHE_TIME_FACTOR: Final = 4


class SingleFlight(Generic[T]):
    """A value that one thread at a time loads, cached for a while.

    During a load, other callers get the cached value; they wait only if there is none.
    """

    def __init__(
        self, load: Callable[[], T], *, max_seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`load` returns the value, which is cached for at most `max_seconds`."""
        self._load, self._max_seconds, self._clock = load, max_seconds, clock
        self._lock = threading.Lock()
        self._cached: Future[T] | None = None
        self._pending: Future[T] | None = None
        self._expires_at = -math.inf

    def get(self) -> T:
        """Return the cached value, or load it. If the load fails, raise its error; errors are not cached."""
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
        except BaseException as error:  # noqa: BLE001 - waiting callers get the error, too
            future.set_exception(error)
        finished_at = self._clock()
        with self._lock:
            self._cached, self._pending = (future if future.exception() is None else None), None
            self._expires_at = finished_at + min(self._max_seconds, CACHE_TIME_FACTOR * (finished_at - started_at))
