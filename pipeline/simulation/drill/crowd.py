"""A crowd: threads that ask the service for something until they are told to finish."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable


class Crowd(ABC):
    """Threads, one a number; what ends one before its time is kept, and raised by `check` in the thread that holds them."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._finished = threading.Event()
        self._abandoned = threading.Event()
        self._broken: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"caller-{number}") for number in numbers
        ]

    @abstractmethod
    def ask(self, number: int) -> None:
        """Ask until `_finished` is set and all that was begun has ended, or at once until `_abandoned` is."""

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Begin nothing more; what was begun goes on until it has ended."""
        self._finished.set()

    @property
    def working(self) -> bool:
        """Whether anybody still asks."""
        return any(thread.is_alive() for thread in self._threads)

    def check(self) -> None:
        """Raise what ended a thread before its time."""
        if self._broken:
            raise self._broken[0]

    def abandon(self) -> None:
        """Have everybody end, answered or not, and return once they have."""
        self._finished.set()
        self._abandoned.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, number: int) -> None:
        try:
            self.ask(number)
        except BaseException as error:  # noqa: BLE001 - it is raised by `check`
            self._broken.append(error)
