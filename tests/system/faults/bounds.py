"""How soon after a fault all is at rest again: what was aimed at, and what is asserted on a machine that is busy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: A recovery that hangs is slower than this by far (a lease that nobody takes up, a connection that nobody gives up on); a
#: slow machine is not.
MARGIN: Final = 3
#: What making one export takes there: how much work was waiting is no property of the recovery.
EXPORT_SECONDS: Final = 0.5

#: Seconds from the end of a fault to the moment at which nothing is owed any more, by the rows of the matrix. The fault ends
#: when the last process was killed, or when what was broken answers again.
RECOVERY_TARGETS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("F1", "F2", "F3"), 10.0),  # a lease of 1.5 s
    **dict.fromkeys(("F4", "F5"), 15.0),
    **dict.fromkeys(("F6", "F7", "F8", "F38"), 20.0),
    **dict.fromkeys(("F9", "F12"), 10.0),
}


#: Seconds from the moment at which poison is set aside to that at which the next export is begun.
NEXT_TARGET: Final = 5.0


@dataclass(frozen=True)
class Recovery:
    """How long it took once, after the fault of which row, and how long it may have taken; all in seconds."""

    row: str
    seconds: float
    bound: float


def measure_load() -> float:
    """Return how much slower than alone a process is on this machine now: how many each processor has, and at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def recoveries(rows: tuple[str, ...], seconds: float, exports: int) -> list[Recovery]:
    """Return a recovery for each of the rows that have a target, with so many exports to be made or looked after in it."""
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
