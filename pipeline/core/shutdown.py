"""Whether this process was told to end: long work asks between two pieces of it, and gives back what it has not begun."""

from __future__ import annotations

from pipeline.core.errors import Stopped

# A plain value, because it is set in a signal handler, where no lock may be taken.
_requested = False


def request() -> None:
    """Have the work of this process come to an end soon."""
    global _requested  # noqa: PLW0603 - one fact of the whole process
    _requested = True


def reset() -> None:
    """Let this process work again, after a worker in it has ended."""
    global _requested  # noqa: PLW0603
    _requested = False


def is_requested() -> bool:
    """Tell whether this process is to end."""
    return _requested


def raise_if_requested() -> None:
    """Raise Stopped where this process is to end."""
    if _requested:
        raise Stopped("the worker was told to end")
