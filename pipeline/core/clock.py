"""The clock of this machine."""

from collections.abc import Callable
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from typing import Final, TypeVar

Clock = Callable[[], datetime]
#: By so much the clock of a sender may be ahead of ours.
CLOCKS_DIFFER: Final = timedelta(minutes=5)
D = TypeVar("D", bound=date)


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def format_utc(instant: datetime) -> str:
    """Return the instant as messages and events have it: in UTC, with the letter Z."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


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
