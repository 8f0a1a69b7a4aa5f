"""The clock of this machine."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def midnight(day: date) -> datetime:
    """Return the instant at which the day begins in UTC."""
    return datetime.combine(day, time(), UTC)
