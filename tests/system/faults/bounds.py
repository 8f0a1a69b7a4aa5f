"""How soon all work must be done after a fault: the targets, and the bounds that a busy machine must keep."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: A recovery that hangs is slower than this by far: a lease without a new holder, a connection without a timeout. A
#: slow machine is not.
MARGIN: Final = 3
#: The time for one export; the amount of waiting work does not count as part of the recovery.
EXPORT_SECONDS: Final = 0.5

#: Seconds from the end of a fault until nothing is pending, by the rows of the matrix. A fault ends with the last kill,
#: or when the broken part answers again.
RECOVERY_TARGETS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("F1", "F2", "F3"), 10.0),  # a lease of 1.5 s
    **dict.fromkeys(("F4", "F5"), 15.0),
    **dict.fromkeys(("F6", "F7", "F8", "F38"), 20.0),
    **dict.fromkeys(("F9", "F12"), 10.0),
}


#: Seconds from the quarantine of a poison plan until the next export begins.
NEXT_TARGET: Final = 5.0


@dataclass(frozen=True)
class Recovery:
    """One measured recovery: the row of the fault, its duration, and its bound, both in seconds."""

    row: str
    seconds: float
    bound: float


def measure_load() -> float:
    """Return the number of processes per processor now, at least 1: how much slower than alone a process is."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def recoveries(rows: tuple[str, ...], seconds: float, exports: int) -> list[Recovery]:
    """Return a recovery for each of the rows that have a target; `exports` are made or read during it."""
    slower = measure_load()
    return [
        Recovery(row, seconds, round((MARGIN * RECOVERY_TARGETS[row] + EXPORT_SECONDS * exports) * slower, 1))
        for row in rows
        if row in RECOVERY_TARGETS
    ]


def share(values: list[float], part: float) -> float:
    """Return the value that this part of all does not exceed, such as the median for 0.5."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
