"""The deadline of this context: the end of all its waits for a thread, a connection or a lock.

Workers, sweeps and the command line have no deadline: each of their waits may take the database's timeout. An HTTP request
has a deadline, which also counts its wait for a thread. After the deadline it still takes what is free, but does not wait.
"""

import math
import time
from contextvars import ContextVar
from typing import Final

from pipeline.core.errors import DatabaseBusy

#: Not zero: a request is not refused because a lock is held for a moment.
SHORTEST_SECONDS: Final = 0.1

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class ServiceBusy(DatabaseBusy):
    """This process had no thread or database session left until the deadline; the database may be well."""


def set_deadline(seconds: float) -> None:
    """Set the deadline of this context to `seconds` from now."""
    _deadline.set(time.monotonic() + seconds)


def extend(seconds: float) -> None:
    """Move the deadline `seconds` later, e.g. by the time spent receiving a slow body."""
    _deadline.set(_deadline.get() + seconds)


def has_deadline() -> bool:
    """Return whether this context has a deadline."""
    return _deadline.get() < math.inf


def seconds_left(maximum: float) -> float:
    """Return the seconds that the next wait may take: at least SHORTEST_SECONDS, at most `maximum`."""
    return min(maximum, max(SHORTEST_SECONDS, _deadline.get() - time.monotonic()))
