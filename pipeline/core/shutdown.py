"""Whether this process was told to end: long work asks between two pieces of it, and gives back what it has not begun."""

from __future__ import annotations

from pipeline.core.errors import Stopped

# A plain value, because it is set in a signal handler, where no lock may be taken.
_told = False


def tell() -> None:
    """Have the work of this process come to an end soon."""
    global _told  # noqa: PLW0603 - one fact of the whole process
    _told = True


def forget() -> None:
    """Let this process work again, after a worker in it has ended."""
    global _told  # noqa: PLW0603
    _told = False


def told() -> bool:
    """Tell whether this process is to end."""
    return _told


def check() -> None:
    """Raise Stopped where this process is to end."""
    if _told:
        raise Stopped("the worker was told to end")
