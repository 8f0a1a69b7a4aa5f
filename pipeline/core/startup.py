"""The start of a process: its time, and imports without garbage collection."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: When this process loaded its first module of the service, on the monotonic clock.
STARTED: Final = time.monotonic()


@contextmanager
def pause_collection() -> Iterator[None]:
    """Collect no garbage in the block, which imports modules; what exists at its end is never searched for garbage.

    Modules stay until the process ends. Python would search them again and again while more of them are imported, and
    later in a running service.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
