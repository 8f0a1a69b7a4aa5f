"""The sweep: every few seconds, one of the workers searches for stalled work and publishes it again."""

import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import structlog
from celery import bootsteps
from celery.signals import worker_init, worker_process_shutdown, worker_shutting_down

from config.celery import app
from config.celery_internals import ShutdownPoll, stop_workers
from config.queues import DELIVERIES, LARGE, SMALL_QUEUES
from config.settings import Settings, get_settings
from pipeline.core import heartbeats, process_version, shutdown, tracing
from pipeline.core.clock import utc_now
from pipeline.core.errors import ChannelUnavailable, DatabaseBusy
from pipeline.core.failpoints import failpoint
from pipeline.core.metrics import count, observe, set_gauge
from pipeline.core.runtime import Runtime, process_runtime, reject_weak_credentials
from pipeline.customs import rules_reader
from pipeline.deliveries import mail_replies, polling
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.submissions import overdue
from pipeline.exports.metrics import DELIVERY, LAST_SWEEP, OVERDUE, POLL, STEP, SWEEP_ERRORS, SWEEP_SECONDS, SWEPT
from pipeline.ops import work_counts
from pipeline.ops.stats import rollup
from pipeline.workflow import clock_check, dispatch, sweeper
from pipeline.workflow.steps import STEPS_BY_NAME

log = structlog.get_logger(__name__)

#: The task messages per second that a sweep may publish even to a full queue. If all of them are useless, they cost a tenth
#: of a worker's time.
MIN_TASKS_PER_SECOND: Final = 5

#: The part of the pause by which it is longer or shorter, so that workers that were started together do not sweep together.
JITTER: Final = 0.2

#: How long a sweep waits for one of the connections that send to queues.
CONNECTION_SECONDS: Final = 1.0

#: Held during a sweep. A pool child that is forked meanwhile would inherit locks of this thread, such as that of a module,
#: and wait for them forever; a lease that it renews meanwhile would keep its step from others.
_SWEEPING: Final = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_SWEEPING.acquire, after_in_parent=_SWEEPING.release, after_in_child=_SWEEPING.release)


class Sweeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """The thread that sweeps. Several at once do no harm, but one per process is enough."""

    # The first children are forked before this process opens anything for its sweep.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, *, sweep: bool = True, **options: Any) -> None:
        self.enabled = sweep
        # Every worker runs this before it takes a message.
        reject_weak_credentials(get_settings())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """Stop sweeping."""
        self._ended.set()

    def terminate(self, parent: Any) -> None:
        """Stop sweeping; the worker must stop at once."""
        self._ended.set()

    def _run(self) -> None:
        pause = get_settings().sweep_seconds
        while not self._ended.wait(pause * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311 - not a secret
            if process_version.take_no_more_work():
                shutdown.request()
                stop_workers()
                return
            try:
                with _SWEEPING:
                    sweep_in_turn(pause)
            except Exception:
                # If this thread ended, this worker would publish no lost work again.
                log.exception("sweep_raised")


def sweep_in_turn(pause: float) -> None:
    """Sweep, unless a worker with the same steps did so during most of a pause; `pause` is in seconds."""
    runtime = process_runtime()
    if runtime.settings.embedded:  # only this process has workers
        sweep()
        return
    # A worker of another version leaves exports with other steps alone.
    name = f"sweep {','.join(sorted(STEPS_BY_NAME))}"
    try:
        if heartbeats.take_turn(runtime, name, pause * (1 - JITTER)) and sweep() >= runtime.settings.sweep_limit:
            heartbeats.forget(runtime, name)  # there is more to publish: all workers sweep
    except DatabaseBusy as busy:
        log.warning("sweep_postponed", reason=str(busy))


def sweep() -> int:
    """Publish due work and return the number of task messages. If the database does not answer, the sweep ends early.

    Each part publishes what it found before the next part searches, and an error in one part does not stop the others.
    Otherwise work that was found but not published would be due again only after `stalled_seconds`.
    """
    failpoint("sweep.before")
    published = 0
    failed = False
    began = time.monotonic()
    for part, look in _PARTS.items():
        try:
            published += look(process_runtime())
        except DatabaseBusy as busy:
            log.warning("sweep_postponed", reason=str(busy))
            count(SWEEP_ERRORS, part)
            failed = True
            break
        except Exception:
            # Each worker would raise the same error, and no worker would reach the parts after this one.
            log.exception("sweep_raised")
            count(SWEEP_ERRORS, part)
            failed = True
    observe(SWEEP_SECONDS, time.monotonic() - began)
    if not failed:
        set_gauge(LAST_SWEEP, utc_now().timestamp())
    return published


def _declare_queues(runtime: Runtime) -> int:
    """Bind the contract's queues again if Redis lost the bindings, so that commands are kept even if no intake runs."""
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
    most = settings.sweep_limit
    steps, large, streams = dispatch.queue_capacity(most, minimum, SMALL_QUEUES, (LARGE,), (DELIVERIES,))
    backlog, large_backlog = steps < most, large < most
    due = sweeper.find_due(runtime, steps=steps, streams=streams, backlog=backlog, large_backlog=large_backlog)
    failpoint("sweep.after")
    if due:
        log.info("due_tasks_published", count=len(due))
        dispatch.publish(due)
    found = sum(task.step is not None for task in due)
    count(SWEPT, STEP, by=found)
    count(SWEPT, DELIVERY, by=len(due) - found)
    return len(due)


def _notify_overdue(runtime: Runtime) -> int:
    streams = overdue.notify_overdue(runtime)
    dispatch.publish_streams(streams)
    count(SWEPT, OVERDUE, by=len(streams))
    return len(streams)


def _poll_brokers(runtime: Runtime) -> int:
    polls = polling.take_due_polls(runtime)
    dispatch.publish_polls(polls)
    count(SWEPT, POLL, by=len(polls))
    if mail_replies.take_turn(runtime):
        dispatch.publish_mailbox()
    return len(polls)


def _keep_counts(runtime: Runtime) -> int:
    work_counts.keep_counts(runtime)
    while rollup.roll_up(runtime) and not shutdown.is_requested():
        pass
    return 0


def _follow_clock(runtime: Runtime) -> int:
    clock_check.follow_clock(runtime)
    return 0


def _watch_rules(runtime: Runtime) -> int:
    # New rules are found also while nothing is executed. A process that judges looks itself.
    rules_reader.watch_rules(runtime)
    return 0


#: The parts of a sweep, in their order.
_PARTS: Final[Mapping[str, Callable[[Runtime], int]]] = {
    "clock": _follow_clock,
    "queues": _declare_queues,
    "due": _publish_due,
    "overdue": _notify_overdue,
    "polls": _poll_brokers,
    "rules": _watch_rules,
    "counts": _keep_counts,
}


@worker_init.connect
def _start_tracing(**_: Any) -> None:
    tracing.start_tracing(get_settings())  # before the pool forks its processes


@worker_shutting_down.connect
def _request_shutdown(**_: Any) -> None:
    process_version.end_requested()
    shutdown.request()


@worker_process_shutdown.connect
def _send_last_spans(**_: Any) -> None:
    tracing.stop_tracing()  # a forked process runs no exit handlers


app.steps["worker"].add(Sweeper)
app.steps["worker"].add(ShutdownPoll)
