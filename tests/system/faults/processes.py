"""Leftover processes: those that an ended program left running, and zombies whose parent does not wait for them."""

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Final

import psutil

from tests.support.servers import poll

_PATIENCE_SECONDS: Final = 10.0


def find_left(ended: Collection[int], living: Collection[int]) -> list[str]:
    """Return the leftovers of the programs that have `ended`, and each zombie whose parent belongs to a `living` one.

    A program is known by its session. A zombie whose parent has ended is the system's task. A process has ten seconds
    to end by itself, and its parent as long to notice.
    """

    def found() -> list[str]:
        return [*_find_left(ended, living)]

    with contextlib.suppress(TimeoutError):
        poll(lambda: not found(), _PATIENCE_SECONDS, "a process is left over")
    return found()


def _find_left(ended: Collection[int], living: Collection[int]) -> Iterator[str]:
    for process in psutil.process_iter(["pid", "ppid", "cmdline", "status"]):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            about = process.info
            zombie = about["status"] == psutil.STATUS_ZOMBIE
            if zombie and os.getsid(about["ppid"]) in living:
                yield f"{about['pid']} is a zombie; {about['ppid']} does not wait for it"
            if not zombie and process.pid not in ended and os.getsid(process.pid) in ended:
                yield f"{about['pid']} {about['cmdline']}"
