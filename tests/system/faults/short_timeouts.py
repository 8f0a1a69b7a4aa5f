"""A watch that is less patient than in earnest: a process tells what has been due for so many seconds, and not for a minute."""

from __future__ import annotations

import os
from typing import Final

from pipeline.ops import readiness

PATIENCE: Final = "TEST_PATIENCE_SECONDS"


def shorten() -> None:
    """Have this process wait only as long as the environment says, if it says so, before it calls anything overdue."""
    if PATIENCE in os.environ:
        defaults = readiness.check_parts.__kwdefaults__
        assert defaults is not None
        defaults["patience_seconds"] = float(os.environ[PATIENCE])
