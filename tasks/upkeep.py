"""The sweep: every worker looks, every few seconds, for what has stalled and owes it again."""

from __future__ import annotations

import random
import threading
from typing import Any

import structlog
from celery import bootsteps

from config.celery import app
from config.settings import get_settings
from pipeline import dispatch, execution, polling
from pipeline.errors import DatabaseBusy
from pipeline.failpoints import failpoint
from pipeline.runtime import ensure_own_secret_key, process_runtime

log = structlog.get_logger(__name__)


class Sweep(bootsteps.StartStopStep):  # type: ignore[misc]
    """A thread beside the worker's own; any number of them at once is harmless."""

    def __init__(self, parent: Any, **options: Any) -> None:
        # Every worker comes by here before it takes anything.
        ensure_own_secret_key(get_settings())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """End."""
        self._ended.set()

    def terminate(self, parent: Any) -> None:
        """End, where the worker was told to stop at once."""
        self._ended.set()

    def _run(self) -> None:
        pause = get_settings().sweep_seconds
        # Workers that were started together should not look together.
        while not self._ended.wait(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - no secret
            try:
                sweep()
            except Exception:
                # A thread that ends here would never again owe what was lost.
                log.exception("sweep_raised")


def sweep() -> int:
    """Wake what is due and return how much that was; a database that does not answer is asked again next time."""
    failpoint("sweep.before")
    try:
        owed = execution.owed_again(process_runtime())
        inquiries = polling.due(process_runtime())
    except DatabaseBusy as busy:
        log.warning("sweep_put_off", reason=str(busy))
        return 0
    failpoint("sweep.after")
    if owed:
        log.info("owed_again", count=len(owed))
        dispatch.wake(owed)
    dispatch.wake_inquiries(inquiries)
    return len(owed) + len(inquiries)


app.steps["worker"].add(Sweep)
