"""The sweep: every worker looks, every few seconds, for what has stalled and owes it again."""

from __future__ import annotations

import math
import random
import threading
from functools import lru_cache
from typing import Any, Final

import structlog
from celery import bootsteps
from celery.signals import worker_shutting_down

from config.celery import app
from config.queues import DELIVERIES, DOCUMENTS, STEPS
from config.settings import Settings, get_settings
from pipeline.core import shutdown
from pipeline.core.errors import ChannelUnavailable, DatabaseBusy
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime, process_runtime, reject_weak_credentials
from pipeline.deliveries import overdue, polling
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.workflow import dispatch, sweeper

log = structlog.get_logger(__name__)

#: What a sweep owes again however many task messages wait, up to its limit: a tenth of a worker's time is gone with as many for
#: nothing.
MIN_TASKS_PER_SECOND: Final = 5

#: How long a sweep waits for one of the connections that send to queues.
CONNECTION_SECONDS: Final = 1.0

#: How long a worker that waits for messages may overlook that it was told to end.
SHUTDOWN_POLL_SECONDS: Final = 0.25


class Sweeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """A thread beside the worker's own; any number of them at once is harmless, but one a process is enough."""

    def __init__(self, parent: Any, *, sweep: bool = True, **options: Any) -> None:
        self.enabled = sweep
        # Every worker comes by here before it takes anything.
        reject_weak_credentials(get_settings())
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
    """Publish what is due and return how much that was; a database that does not answer is asked again next time.

    What was put off is sent before anything else is looked for, and no part of it keeps another: what was returned and not
    sent would be due again only after `stalled_seconds`.
    """
    failpoint("sweep.before")
    published = 0
    for look in (_declare_queues, _publish_due, _notify_overdue, _poll_brokers):
        try:
            published += look(process_runtime())
        except DatabaseBusy as busy:
            log.warning("sweep_postponed", reason=str(busy))
            break
        except Exception:
            # Every worker would come to the same end, and nobody to what comes after it.
            log.exception("sweep_raised")
    return published


def _declare_queues(runtime: Runtime) -> int:
    """Bind the queues of the contract again where Redis lost that: a command waits there, with or without an intake."""
    if runtime.settings.message_broker == "redis":
        try:
            _queue_channel(runtime.settings).declare(timeout_seconds=CONNECTION_SECONDS)
        except ChannelUnavailable as error:
            log.warning("queues_not_declared", error=error.status)
    return 0


@lru_cache(maxsize=1)
def _queue_channel(settings: Settings) -> QueueChannel:
    return QueueChannel(settings)


def _publish_due(runtime: Runtime) -> int:
    settings = runtime.settings
    minimum = min(settings.sweep_limit, math.ceil(MIN_TASKS_PER_SECOND * settings.sweep_seconds))
    steps, streams = dispatch.queue_capacity(settings.sweep_limit, minimum, (STEPS, DOCUMENTS), (DELIVERIES,))
    due = sweeper.find_due(runtime, steps=steps, streams=streams)
    failpoint("sweep.after")
    if due:
        log.info("due_tasks_published", count=len(due))
        dispatch.publish(due)
    return len(due)


def _notify_overdue(runtime: Runtime) -> int:
    streams = overdue.notify_overdue(runtime)
    dispatch.publish_streams(streams)
    return len(streams)


def _poll_brokers(runtime: Runtime) -> int:
    polls = polling.take_due_polls(runtime)
    dispatch.publish_polls(polls)
    return len(polls)


class ShutdownPoll(bootsteps.StartStopStep):  # type: ignore[misc]
    """Has the worker's loop look up often enough to heed a signal soon.

    It waits for messages until its next timer is due, which on RabbitMQ, without one, takes ten seconds: so long a worker
    that has nothing to do went on after it was told to end.
    """

    requires = ("celery.worker.components:Timer",)

    def include_if(self, parent: Any) -> bool:
        """Leave alone a loop without timers, as the embedded worker's is."""
        return bool(parent.use_eventloop)

    def start(self, parent: Any) -> None:
        """Begin."""
        parent.timer.call_repeatedly(SHUTDOWN_POLL_SECONDS, lambda: None)


@worker_shutting_down.connect
def _request_shutdown(**_: Any) -> None:
    shutdown.request()


app.steps["worker"].add(Sweeper)
app.steps["worker"].add(ShutdownPoll)
