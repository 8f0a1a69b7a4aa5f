"""How long what is done in this context waits for others, in all: for a thread, a connection, a lock.

Workers, sweeps and the command line have time: each wait is as long as the database's timeout says. Who calls over HTTP has
not: a request has so many seconds, and has waited them, too, where those before it kept it from a thread. After that it still
takes what is free, but waits for nothing.
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import Final

#: Not nothing: what is held for a moment is no reason to turn anybody away.
SHORTEST_SECONDS: Final = 0.1

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def set_deadline(seconds: float) -> None:
    """Have what follows in this context wait, from now on, no longer than this together."""
    _deadline.set(time.monotonic() + seconds)


def extend(seconds: float) -> None:
    """Have this time not count: it was spent on what no other request had a part in."""
    _deadline.set(_deadline.get() + seconds)


def has_deadline() -> bool:
    """Tell whether anybody has said how long to wait."""
    return _deadline.get() < math.inf


def seconds_left(maximum: float) -> float:
    """Return how many seconds the next wait may take: what is left, at most `maximum`."""
    return min(maximum, max(SHORTEST_SECONDS, _deadline.get() - time.monotonic()))
