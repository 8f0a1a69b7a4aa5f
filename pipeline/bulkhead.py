"""Bulkheads: however slow one destination is, it keeps only some threads of a process; the others go on with the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


class Bulkhead(Generic[K, T]):
    """Places at destinations, and a line of work before each for when they are all taken.

    The line is a courtesy: what waits in it is owed in the database too, and is lost with the process to no harm.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[K, int] = {}
        self._lines: dict[K, dict[T, None]] = {}

    def enter(self, destination: K, places: int) -> bool:
        """Take a place, unless `places` threads are there already; who has entered must leave."""
        with self._lock:
            return self._entered(destination, places)

    def leave(self, destination: K) -> T | None:
        """Give the place back; return the first that waits, taken out of the line: it is the caller's to pass on."""
        with self._lock:
            self._give_back(destination)
            return self._first(destination)

    def work(self, destination: K, item: T, places: int, do: Callable[[T], R]) -> list[R]:
        """Do the item, then what came to wait meanwhile, and return what each came to.

        Where all places are taken the item waits in line, once, and nothing is returned: this thread is free for another
        destination. What `do` raises ends the work; the line is kept for whoever comes next.
        """
        with self._lock:
            if not self._entered(destination, places):
                self._lines.setdefault(destination, {})[item] = None
                return []
        done: list[R] = []
        following: T | None = item
        while following is not None:
            try:
                done.append(do(following))
            except BaseException:
                with self._lock:
                    self._give_back(destination)
                raise
            with self._lock:
                following = self._first(destination)
                if following is None:
                    # In the same moment, so that nothing lines up behind a thread that has looked already.
                    self._give_back(destination)
        return done

    def waiting(self, destination: K) -> list[T]:
        """Return the line before the destination, the first in front."""
        with self._lock:
            return list(self._lines.get(destination, ()))

    def _entered(self, destination: K, places: int) -> bool:
        busy = self._busy.get(destination, 0)
        if busy < places:
            self._busy[destination] = busy + 1
        return busy < places

    def _give_back(self, destination: K) -> None:
        self._busy[destination] -= 1
        if not self._busy[destination]:
            del self._busy[destination]

    def _first(self, destination: K) -> T | None:
        line = self._lines.get(destination)
        if not line:
            return None
        first = next(iter(line))
        del line[first]
        if not line:
            del self._lines[destination]
        return first
