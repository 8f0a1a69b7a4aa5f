"""Values that a process keeps: those used last, and those that take long to build, each of them built once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from pipeline.core.errors import NotReady

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: The most threads that build or wait; each of them serves no other request meanwhile.
MOST_WAITING: Final = 4


class Kept(Generic[K, V]):
    """The values that were used last, by key. Threads may share it.

    It keeps `most` values, or, with a `size`, values of that size in all.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._size, self._total = most, size, 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the value of the key, None if none is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep the value, and as many of the others as there is room for."""
        with self._lock:
            if key in self._values:
                self._total -= self._size(self._values.pop(key))
            self._values[key] = value
            self._total += self._size(value)
            while self._total > self._most:
                self._total -= self._size(self._values.popitem(last=False)[1])


class BuildCache(Generic[K, V]):
    """The `most_kept` values by key that were used last; `name` says in errors what they are. Threads may share it."""

    def __init__(self, name: str, *, most_kept: int, most_waiting: int = MOST_WAITING) -> None:
        self._name = name
        self._kept: Kept[K, V] = Kept(most_kept)
        self._building = threading.Lock()
        self._places = threading.BoundedSemaphore(most_waiting)

    def get(self, key: K, build: Callable[[], V]) -> V:
        """Return the value of the key; `build` makes it if it is not kept.

        Raises NotReady if too many threads wait already, and what `build` raises; then nothing is kept.
        """
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        if not self._places.acquire(blocking=False):
            raise NotReady(
                f"others wait for {self._name}, which are being made; try again in a moment",
                headers={"Retry-After": "5"},
            )
        try:
            with self._building:
                kept = self._kept.get(key)  # another thread may have built it meanwhile
                if kept is None:
                    kept = build()
                    self._kept.put(key, kept)
                return kept
        finally:
            self._places.release()
