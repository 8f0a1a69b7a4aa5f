"""Failpoints: named places at which a test can break this process, to prove what happens after a crash."""

from collections.abc import Callable
from typing import Final

#: Point -> what a test runs there. The product never writes to it.
hooks: Final[dict[str, Callable[[], object]]] = {}


def failpoint(point: str) -> None:
    """Run the hook of the point, if a test has set one."""
    if hook := hooks.get(point):
        hook()
