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


@dataclass(frozen=True, eq=False)
class Place(Generic[K]):
    """What one thread holds at a destination; no two are alike, because each is given back by who took it."""

    destination: K
    since: float


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
        self._busy: dict[K, list[Place[K]]] = {}
        self._known: set[K] = set()  # to ail, where one thread is and tries how it is now
        self._lines: dict[K, dict[T, None]] = {}

    def enter(self, destination: K, room: Room, *, ails: bool = False) -> Place[K] | None:
        """Take a place and return it, None where there is no room; who has entered must leave. `ails`: it is known to."""
        with self._lock:
            return self._entered(destination, room, ails=ails)

    def leave(self, place: Place[K]) -> T | None:
        """Give the place back; return the first that waits, taken out of the line: it is the caller's to pass on."""
        with self._lock:
            self._give_back(place)
            return self._first(place.destination)

    def work(self, destination: K, item: T, room: Room, do: Callable[[T], R], *, ails: bool = False) -> list[R]:
        """Do the item, then what came to wait meanwhile, and return what each came to.

        Where there is no room the item waits in line behind those who are there, once, and nothing is returned: this
        thread is free for another destination. Where nobody is there, or the destination is known to ail, the item is left.
        What `do` raises ends the work; the line is kept for whoever comes next.
        """
        with self._lock:
            place = self._entered(destination, room, ails=ails)
            if place is None:
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
                    self._give_back(place)
                raise
            with self._lock:
                slow = self._ails(destination, room)
                # In the same moment, so that nothing lines up behind a thread that has looked already.
                self._give_back(place)
                alone = destination not in self._busy
                following = self._first(destination) if alone or not slow else None
                if following is not None:
                    place = self._take(destination)
        return done

    def waiting(self, destination: K) -> list[T]:
        """Return the line before the destination, the first in front."""
        with self._lock:
            return list(self._lines.get(destination, ()))

    def _entered(self, destination: K, room: Room, *, ails: bool) -> Place[K] | None:
        here = len(self._busy.get(destination, ()))
        if here >= room.each:
            return None
        if ails or self._ails(destination, room):
            taken = sum(len(places) for each, places in self._busy.items() if self._ails(each, room))
            if here or taken >= room.ailing:
                return None
        if ails:
            self._known.add(destination)
        return self._take(destination)

    def _ails(self, destination: K, room: Room) -> bool:
        places = self._busy.get(destination)
        if places is None:
            return False
        longest = self._clock() - min(place.since for place in places)
        return destination in self._known or longest > room.slow_seconds

    def _take(self, destination: K) -> Place[K]:
        place = Place(destination, self._clock())
        self._busy.setdefault(destination, []).append(place)
        return place

    def _give_back(self, place: Place[K]) -> None:
        places = self._busy[place.destination]
        places.remove(place)
        self._known.discard(place.destination)
        if not places:
            del self._busy[place.destination]

    def _first(self, destination: K) -> T | None:
        line = self._lines.get(destination)
        if not line:
            return None
        first = next(iter(line))
        del line[first]
        if not line:
            del self._lines[destination]
        return first
