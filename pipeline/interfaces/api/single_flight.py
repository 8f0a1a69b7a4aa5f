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
KEPT_TIMES: Final = 4


class Lately(Generic[T]):
    """The answer to one question: found by one thread at a time, and told again for a while.

    Who asks meanwhile is told the last answer, and waits only where there is none.
    """

    def __init__(
        self, find: Callable[[], T], *, most_seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`find` finds the answer, which is kept for `most_seconds` at the utmost."""
        self._find, self._most, self._clock = find, most_seconds, clock
        self._lock = threading.Lock()
        self._last: Future[T] | None = None
        self._next: Future[T] | None = None
        self._until = -math.inf

    def told(self) -> T:
        """Return the answer; raises what finding it did, of which nothing is kept: who asks after that has it found anew."""
        with self._lock:
            if self._last is not None and (self._next is not None or self._clock() < self._until):
                return self._last.result()
            found = self._next
            if found is not None:
                mine = None
            else:
                found = mine = self._next = Future()
        if mine is not None:
            self._have_found(mine)
        return found.result()

    def _have_found(self, found: Future[T]) -> None:
        began = self._clock()
        try:
            found.set_result(self._find())
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told as well
            found.set_exception(error)
        ended = self._clock()
        with self._lock:
            self._last, self._next = (found if found.exception() is None else None), None
            self._until = ended + min(self._most, KEPT_TIMES * (ended - began))
