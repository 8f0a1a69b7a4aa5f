"""Bulkheads: however slow one destination is, it keeps only some threads of a process; the others go on with the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from config.settings import Settings

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


@dataclass(frozen=True)
class Room:
    """How many threads may be at one destination, and at all together that ail.

    One ails that is known to, or that has kept a thread for `slow_seconds`. It is given one place: what does not answer
    one thread does not answer three.
    """

    each: int
    ailing: int
    slow_seconds: float = inf


#: The part of a try's time after which a destination is taken to ail.
_SLOW: Final = 0.25


def room_of(settings: Settings) -> Room:
    """Return the room that partners' endpoints have in this process."""
    return Room(settings.delivery_senders, settings.delivery_ailing, settings.delivery_timeout_seconds * _SLOW)


class Bulkhead(Generic[K, T]):
    """Places at destinations, and a line of work before each for when they are all taken.

    The line is a courtesy: what waits in it is owed in the database too, and is lost with the process to no harm.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._busy: dict[K, list[float]] = {}  # since when each thread that is there waits for what it does now
        self._known: set[K] = set()  # to ail, where one thread is and tries how it is now
        self._lines: dict[K, dict[T, None]] = {}

    def enter(self, destination: K, room: Room, *, ails: bool = False) -> bool:
        """Take a place, unless there is no room; who has entered must leave. `ails`: it is known to."""
        with self._lock:
            return self._entered(destination, room, ails=ails) is not None

    def leave(self, destination: K) -> T | None:
        """Give the place back; return the first that waits, taken out of the line: it is the caller's to pass on."""
        with self._lock:
            # The newest: which thread it was is not known, and one that waits long must not look as if it had just come.
            self._give_back(destination, self._busy[destination][-1])
            return self._first(destination)

    def work(self, destination: K, item: T, room: Room, do: Callable[[T], R], *, ails: bool = False) -> list[R]:
        """Do the item, then what came to wait meanwhile, and return what each came to.

        Where there is no room the item waits in line behind those who are there, once, and nothing is returned: this
        thread is free for another destination. Where nobody is there, or the destination is known to ail, the item is left.
        What `do` raises ends the work; the line is kept for whoever comes next.
        """
        with self._lock:
            since = self._entered(destination, room, ails=ails)
            if since is None:
                if destination in self._busy and not ails:
                    self._lines.setdefault(destination, {})[item] = None
                return []
        done: list[R] = []
        following: T | None = item
        while following is not None:
            try:
                done.append(do(following))
            except BaseException:
                with self._lock:
                    self._give_back(destination, since)
                raise
            with self._lock:
                slow = self._ails(destination, room)
                # In the same moment, so that nothing lines up behind a thread that has looked already.
                self._give_back(destination, since)
                alone = destination not in self._busy
                following = self._first(destination) if alone or not slow else None
                if following is not None:
                    since = self._take(destination)
        return done

    def waiting(self, destination: K) -> list[T]:
        """Return the line before the destination, the first in front."""
        with self._lock:
            return list(self._lines.get(destination, ()))

    def _entered(self, destination: K, room: Room, *, ails: bool) -> float | None:
        here = len(self._busy.get(destination, ()))
        if here >= room.each:
            return None
        if ails or self._ails(destination, room):
            taken = sum(len(begun) for each, begun in self._busy.items() if self._ails(each, room))
            if here or taken >= room.ailing:
                return None
        if ails:
            self._known.add(destination)
        return self._take(destination)

    def _ails(self, destination: K, room: Room) -> bool:
        begun = self._busy.get(destination)
        return begun is not None and (destination in self._known or self._clock() - min(begun) > room.slow_seconds)

    def _take(self, destination: K) -> float:
        since = self._clock()
        self._busy.setdefault(destination, []).append(since)
        return since

    def _give_back(self, destination: K, since: float) -> None:
        self._busy[destination].remove(since)
        self._known.discard(destination)
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
