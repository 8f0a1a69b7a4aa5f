"""Values that take long to build: each is built once, one at a time, and only a few requests wait for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from pipeline.core.errors import NotReady

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: The most threads that build or wait; each of them serves no other request meanwhile.
MOST_WAITING: Final = 4


class BuildCache(Generic[K, V]):
    """The `most_kept` newest values by key; `name` says in errors what they are. Threads may share it."""

    def __init__(self, name: str, *, most_kept: int, most_waiting: int = MOST_WAITING) -> None:
        self._name, self._most_kept = name, most_kept
        self._kept: OrderedDict[K, V] = OrderedDict()
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
                    kept = self._kept[key] = build()
                    while len(self._kept) > self._most_kept:
                        self._kept.popitem(last=False)
                return kept
        finally:
            self._places.release()
