"""The shutdown request of this process. Long work checks it between two pieces and releases the rest."""

from pipeline.core.errors import Stopped

# A plain value, because a signal handler sets it and must not take a lock.
_requested = False


def request() -> None:
    """Request that the work of this process ends soon."""
    global _requested  # noqa: PLW0603 - one state of the whole process
    _requested = True


def reset() -> None:
    """Clear the request, so that this process can work again after a worker in it has ended."""
    global _requested  # noqa: PLW0603
    _requested = False


def is_requested() -> bool:
    """Return whether this process must end."""
    return _requested


def raise_if_requested() -> None:
    """Raise Stopped if this process must end."""
    if _requested:
        raise Stopped("the worker is shutting down")
