"""The record of a soak: faults with their ends, requests with their times, and samples of every process."""

import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

#: The effect of an outage after its end: clients reconnect, and retries become due.
AFTERMATH_SECONDS: Final = 3.0


@dataclass
class Fault:
    """One fault: its rows of the matrix, its start and its end.

    `outage` says that the service cannot work meanwhile: the database is away, or only the message broker if `accepts`.
    """

    rows: str
    what: str
    at: float
    until: float
    outage: bool = False
    accepts: bool = True

    def overlaps(self, begin: float, end: float) -> bool:
        """Return whether a time span overlaps the fault or its aftermath."""
        return begin <= self.until + AFTERMATH_SECONDS and self.at <= end


@dataclass(frozen=True)
class Acceptance:
    """One request that got an export as its answer: its start, and the time until the answer."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One sample of a process: resident memory in bytes, open files, processes; each with its children's."""

    at: float
    program: str
    pid: int
    age_seconds: float
    resident: int
    files: int
    processes: int = 1


@dataclass
class Record:
    """The record of one soak. Threads share it; all times are seconds since its start."""

    seed: int
    faults: list[Fault] = field(default_factory=list)
    acceptances: list[Acceptance] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # programs that ended by themselves
    faults_at: float = 0.0  # the end of the time without faults
    repaired_at: float = 0.0  # when the last fault was repaired and the callers began no more exports
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    lock: Lock = field(default_factory=Lock)

    def now(self) -> float:
        """Return the seconds since the soak began."""
        return time.monotonic() - self.began
