"""Captures what this thread logs: threads of earlier tests may still log, such as the answers of the sandbox broker."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import structlog
from structlog.testing import capture_logs


def capture_own_logs() -> AbstractContextManager[list[Any]]:
    """Return a context manager that yields the list of what this thread logs in the block."""
    own = threading.get_ident()

    def drop_others(_: Any, __: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        if threading.get_ident() != own:
            raise structlog.DropEvent
        return event

    return capture_logs(processors=[drop_others])
