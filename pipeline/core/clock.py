"""The clock of this machine."""

from collections.abc import Callable
from datetime import MAXYEAR, UTC, date, datetime, time
from typing import TypeVar

Clock = Callable[[], datetime]
D = TypeVar("D", bound=date)


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def midnight(day: date) -> datetime:
    """Return the instant at which the day begins in UTC."""
    return datetime.combine(day, time(), UTC)


def add_years(day: D, years: int) -> D:
    """Return the same day or instant so many years later, at most in the last year; the 29th of February becomes March 1st."""
    year = min(day.year + years, MAXYEAR)
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, month=3, day=1)
