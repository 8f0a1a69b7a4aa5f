"""Bulkheads: a slow destination holds only a limited number of a process's threads."""

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
    """The limits on threads at one destination, and at all unhealthy destinations together.

    A destination is unhealthy if the caller says so, or if it has held a thread for `slow_seconds`. It gets only one
    slot, because more threads would wait for the same answer.
    """

    per_destination: int
    unhealthy: int
    slow_seconds: float = inf


@dataclass(frozen=True, eq=False)
class Slot(Generic[K]):
    """What one thread holds at a destination. Two slots never compare equal, because each thread releases its own."""

    destination: K
    since: float


class Bulkhead(Generic[K, T]):
    """Slots at destinations, and for each destination a queue of the work that waits for a slot.

    Losing the queue with the process does no harm: its work is pending in the database too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._slots: dict[K, list[Slot[K]]] = {}
        self._reported_unhealthy: set[K] = set()  # unhealthy destinations at which one thread makes an attempt
        self._queues: dict[K, dict[T, None]] = {}

    def acquire(self, destination: K, limits: BulkheadLimits, *, unhealthy: bool = False) -> Slot[K] | None:
        """Return a slot, which the caller must release; None if the limits are reached.

        `unhealthy` says that the caller knows the destination to be unhealthy.
        """
        with self._lock:
            return self._try_acquire(destination, limits, unhealthy=unhealthy)

    def release(self, slot: Slot[K]) -> T | None:
        """Release the slot and return the first item of the destination's queue, None if it is empty.

        The item is removed from the queue; the caller must pass it on.
        """
        with self._lock:
            self._remove_slot(slot)
            return self._next_item(slot.destination)

    def run(
        self,
        destination: K,
        item: T,
        limits: BulkheadLimits,
        do: Callable[[T], R],
        *,
        unhealthy: bool = False,
        pass_on: Callable[[T], R] | None = None,
    ) -> list[R]:
        """Run `do` on the item, then on each item queued for the destination meanwhile; return the results.

        If no slot is free, the item is queued once for the threads at the destination, and the list is empty.
        It is dropped instead if no thread is at the destination, or if `unhealthy` is set.
        An error of `do` is raised at once; the queue is kept for the next thread.

        If `pass_on` is given, this thread queues nothing and runs nothing queued. Instead it calls `pass_on`: on the item
        if no slot is free, else on the first queued item.
        """
        with self._lock:
            slot = self._try_acquire(destination, limits, unhealthy=unhealthy)
            if slot is None and pass_on is None and destination in self._slots and not unhealthy:
                self._queues.setdefault(destination, {})[item] = None
        if slot is None:
            return [] if pass_on is None else [pass_on(item)]
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
                # Under the same lock, so that no item is queued after this thread has looked at the queue.
                self._remove_slot(slot)
                alone = destination not in self._slots
                following = self._next_item(destination) if alone or not slow else None
                if following is not None and pass_on is None:
                    slot = self._add_slot(destination)
            if following is not None and pass_on is not None:
                return [*done, pass_on(following)]
        return done

    def queued(self, destination: K) -> list[T]:
        """Return the items queued for the destination, in order."""
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
