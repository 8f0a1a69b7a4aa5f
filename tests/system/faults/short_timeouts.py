"""A shorter limit for readiness: a process reports stalled work after some seconds instead of a minute."""

import os
from typing import Final

from pipeline.ops import readiness

STALLED_AFTER: Final = "TEST_STALLED_AFTER_SECONDS"


def shorten() -> None:
    """Report work as stalled after the seconds in the environment variable, if it is set."""
    if STALLED_AFTER in os.environ:
        defaults = readiness.check_parts.__kwdefaults__
        assert defaults is not None
        assert "stalled_after_seconds" in defaults
        defaults["stalled_after_seconds"] = float(os.environ[STALLED_AFTER])
