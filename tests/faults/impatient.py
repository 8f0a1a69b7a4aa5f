"""The API with a watch that is less patient than in earnest: what lies for so many seconds is told, and not for a minute."""

from __future__ import annotations

import os
from typing import Any, Final

from pipeline import readiness, web

PATIENCE: Final = "TEST_PATIENCE_SECONDS"


def app() -> Any:
    """Return the API; after how many seconds its watch is worried, the environment says."""
    defaults = readiness.parts.__kwdefaults__
    assert defaults is not None
    defaults["patience_seconds"] = float(os.environ[PATIENCE])
    return web.app()
