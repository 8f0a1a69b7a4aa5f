"""A shorter patience for readiness: a process reports due work after some seconds instead of a minute."""

from __future__ import annotations

import os
from typing import Final

from pipeline.ops import readiness

PATIENCE: Final = "TEST_PATIENCE_SECONDS"


def shorten() -> None:
    """Report work as overdue after the seconds in the environment variable, if it is set."""
    if PATIENCE in os.environ:
        defaults = readiness.check_parts.__kwdefaults__
        assert defaults is not None
        defaults["patience_seconds"] = float(os.environ[PATIENCE])
