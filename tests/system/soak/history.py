"""What is written down while a soak runs: faults with their ends, requests with their times, and samples of every process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

#: What is felt of an outage after it is over: connections are made again, and what was put off comes due.
AFTERMATH_SECONDS: Final = 3.0


@dataclass
class Fault:
    """One thing that was done to the service: rows of the matrix, when, and until when it lasted.

    `outage` says that nobody can be served meanwhile: the database, or with `accepts` only the message broker, is away.
    """

    rows: str
    what: str
    at: float
    until: float
    outage: bool = False
    accepts: bool = True

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether a span of time was touched by it or by its aftermath."""
        return begin <= self.until + AFTERMATH_SECONDS and self.at <= end


@dataclass(frozen=True)
class Acceptance:
    """One request that was answered with an export: when it began, and how long its answer took."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One look at a process: its resident memory with its children's in bytes, its open files, and how many processes that is."""

    at: float
    program: str
    pid: int
    age_seconds: float
    resident: int
    files: int
    processes: int = 1


@dataclass
class Record:
    """Everything of one soak; threads share it, and all instants are seconds since it began."""

    seed: int
    faults: list[Fault] = field(default_factory=list)
    acceptances: list[Acceptance] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # programs that came to an end by themselves
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    lock: Lock = field(default_factory=Lock)

    def now(self) -> float:
        """Return the seconds since the soak began."""
        return time.monotonic() - self.began
