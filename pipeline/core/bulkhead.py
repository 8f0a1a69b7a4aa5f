"""Bulkheads: however slow one destination is, it keeps only some threads of a process; the others go on with the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


@dataclass(frozen=True)
class BulkheadLimits:
    """How many threads may be at one destination, and at all unhealthy ones together.

    One is unhealthy that is known to be, or that has kept a thread for `slow_seconds`. It is given one slot: what does not answer
    one thread does not answer three.
    """

    per_destination: int
    unhealthy: int
    slow_seconds: float = inf


@dataclass(frozen=True, eq=False)
class Slot(Generic[K]):
    """What one thread holds at a destination; no two are alike, because each is given back by who took it."""

    destination: K
    since: float


class Bulkhead(Generic[K, T]):
    """Slots at destinations, and a queue of work before each for when they are all taken.

    The queue is a courtesy: what waits in it is owed in the database too, and is lost with the process to no harm.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._slots: dict[K, list[Slot[K]]] = {}
        self._reported_unhealthy: set[K] = set()  # where one thread is and tries how it is now
        self._queues: dict[K, dict[T, None]] = {}

    def acquire(self, destination: K, limits: BulkheadLimits, *, unhealthy: bool = False) -> Slot[K] | None:
        """Take a slot and return it, None where the limits are reached; release it afterwards. `unhealthy`: the destination is known to be."""
        with self._lock:
            return self._try_acquire(destination, limits, unhealthy=unhealthy)

    def release(self, slot: Slot[K]) -> T | None:
        """Give the slot back; return the first that waits, taken out of the queue: it is the caller's to pass on."""
        with self._lock:
            self._remove_slot(slot)
            return self._next_item(slot.destination)

    def run(
        self, destination: K, item: T, limits: BulkheadLimits, do: Callable[[T], R], *, unhealthy: bool = False
    ) -> list[R]:
        """Do the item, then what came to wait meanwhile, and return what each came to.

        Where the limits are reached the item waits in queue behind those who are there, once, and nothing is returned: this
        thread is free for another destination. Where nobody is there, or the destination is known to be unhealthy, the item is left.
        What `do` raises ends the work; the queue is kept for whoever comes next.
        """
        with self._lock:
            slot = self._try_acquire(destination, limits, unhealthy=unhealthy)
            if slot is None:
                if destination in self._slots and not unhealthy:
                    self._queues.setdefault(destination, {})[item] = None
                return []
        done: list[R] = []
        following: T | None = item
        while following is not None:
            try:
                done.append(do(following))
            except BaseException:
                with self._lock:
                    self._remove_slot(slot)
                raise
            with self._lock:
                slow = self._is_unhealthy(destination, limits)
                # In the same moment, so that nothing lines up behind a thread that has looked already.
                self._remove_slot(slot)
                alone = destination not in self._slots
                following = self._next_item(destination) if alone or not slow else None
                if following is not None:
                    slot = self._add_slot(destination)
        return done

    def queued(self, destination: K) -> list[T]:
        """Return the queue before the destination, the first in front."""
        with self._lock:
            return list(self._queues.get(destination, ()))

    def _try_acquire(self, destination: K, limits: BulkheadLimits, *, unhealthy: bool) -> Slot[K] | None:
        here = len(self._slots.get(destination, ()))
        if here >= limits.per_destination:
            return None
        if unhealthy or self._is_unhealthy(destination, limits):
            taken = sum(len(slots) for each, slots in self._slots.items() if self._is_unhealthy(each, limits))
            if here or taken >= limits.unhealthy:
                return None
        if unhealthy:
            self._reported_unhealthy.add(destination)
        return self._add_slot(destination)

    def _is_unhealthy(self, destination: K, limits: BulkheadLimits) -> bool:
        slots = self._slots.get(destination)
        if slots is None:
            return False
        longest = self._clock() - min(slot.since for slot in slots)
        return destination in self._reported_unhealthy or longest > limits.slow_seconds

    def _add_slot(self, destination: K) -> Slot[K]:
        slot = Slot(destination, self._clock())
        self._slots.setdefault(destination, []).append(slot)
        return slot

    def _remove_slot(self, slot: Slot[K]) -> None:
        slots = self._slots[slot.destination]
        slots.remove(slot)
        self._reported_unhealthy.discard(slot.destination)
        if not slots:
            del self._slots[slot.destination]

    def _next_item(self, destination: K) -> T | None:
        queue = self._queues.get(destination)
        if not queue:
            return None
        first = next(iter(queue))
        del queue[first]
        if not queue:
            del self._queues[destination]
        return first
