"""The publisher thread and the embedded workers of this process."""

import queue
import threading
import time
from collections.abc import Sequence

import structlog

from config.celery import app
from config.celery_internals import allow_workers, stop_workers
from config.queues import TASK_QUEUES
from pipeline.core import shutdown
from pipeline.core.metrics import count
from pipeline.exports.metrics import DELIVER, DROPPED, TASK_MESSAGES
from pipeline.workflow.dispatch import initial_tasks, publish, step_signature, try_send
from pipeline.workflow.steps import EXPORT_LEVEL, STEPS, TaskMessage

log = structlog.get_logger(__name__)


class Publisher:
    """Sends task messages from its own thread, so that no request waits for the message broker.

    Messages that do not fit its backlog are dropped: the sweeper finds the steps of every accepted export anyway.
    """

    def __init__(self, backlog: int) -> None:
        self._backlog: queue.Queue[Sequence[TaskMessage] | None] = queue.Queue(backlog)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Send the backlog, for at most five seconds, and end the thread."""
        try:
            self._backlog.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(timeout=5)

    def publish_export(self, export_id: str, queues: Sequence[str]) -> None:
        """Send the task messages of a new export soon."""
        self.publish(initial_tasks(export_id, queues))

    def publish(self, tasks: Sequence[TaskMessage]) -> None:
        """Send the task messages soon."""
        if not tasks:
            return
        try:
            self._backlog.put_nowait(tasks)
        except queue.Full:
            log.warning("publish_backlog_full")
            for task in tasks:
                count(TASK_MESSAGES, task.step or DELIVER, DROPPED)

    def _run(self) -> None:
        while (tasks := self._backlog.get()) is not None:
            try:
                publish(tasks)
            except Exception:
                # If this thread ended, no task message would be sent any more.
                log.exception("publisher_raised")


class EmbeddedWorker:
    """Workers inside this process, for the message broker inside this process: daemon threads that need not end.

    Each worker takes every kind of task: all workers of a process consume the same queues.
    """

    def __init__(self, senders: int) -> None:
        """Prepare two threads more than `senders`, the number that unresponsive destinations may hold."""
        self._ready = threading.Semaphore(0)
        self._threads = [self._thread(number) for number in range(1, senders + 3)]

    def start(self, timeout_seconds: float = 60) -> None:
        """Start the threads and return when all consume messages; raise TimeoutError if that takes longer."""
        deadline = time.monotonic() + timeout_seconds
        # If several workers start at once, only the first imports the tasks, and the others do not wait for it. The
        # worker that sweeps and consumes commands could then start before both are known, and would never do either.
        app.loader.init_worker()
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            if not self._ready.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise TimeoutError("the embedded worker did not start")

    def stop(self, timeout_seconds: float = 5) -> None:
        """End the workers after their current tasks; work that was not started stays due in the database."""
        shutdown.request()
        stop_workers()
        # A worker checks for shutdown only on a message or every two seconds. These messages name no export.
        deadline = time.monotonic() + timeout_seconds
        while (alive := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < deadline:
            for _ in alive:
                try_send(step_signature(STEPS[0].name, "", EXPORT_LEVEL))
            alive[0].join(0.05)
        allow_workers()
        shutdown.reset()

    def _thread(self, number: int) -> threading.Thread:
        first = number == 1

        def run() -> None:
            app.WorkController(
                hostname=f"embedded-{number}@localhost",
                pool_cls="solo",
                concurrency=1,
                queues=list(TASK_QUEUES),
                without_heartbeat=True,
                without_mingle=True,
                without_gossip=True,
                ready_callback=lambda _: self._ready.release(),
                intake=first,
                sweep=first,
            ).start()

        return threading.Thread(target=run, name=f"worker-{number}", daemon=True)
