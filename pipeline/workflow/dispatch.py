"""Task messages: how due work becomes Celery messages and chains, composed from STEPS. Only this file names tasks."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog
from celery import chain, group
from celery.canvas import Signature
from celery.exceptions import OperationalError as CeleryOperationalError
from celery.signals import worker_ready
from kombu import Connection
from kombu.exceptions import OperationalError

from config import queues
from config.celery import app
from config.celery_internals import keep_standard_output_clean, run_celery
from config.queues import ANSWER_SECONDS
from pipeline.core.metrics import count
from pipeline.core.process_version import wait_for_restart
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.polling import Poll
from pipeline.exports.metrics import NOT_SENT, SENT, TASK_MESSAGES
from pipeline.workflow.step_transaction import Committed
from pipeline.workflow.steps import (
    EXPORT_LEVEL,
    HAND_OFF,
    NOTIFY_STEPS,
    STEPS,
    STEPS_BY_NAME,
    TaskMessage,
    stream_tasks,
)

log = structlog.get_logger(__name__)

_PUBLISH_OPTIONS: Final = {"timeout": ANSWER_SECONDS, "confirm_timeout": ANSWER_SECONDS}

#: role -> the options of its Celery worker.
WORKERS: Final[Mapping[str, Sequence[str]]] = {
    "worker": ("-P", "solo", "-Q", ",".join(queues.STEP_QUEUES)),
    # Deliveries have their own worker with sixteen threads, so that a slow partner does not delay the steps.
    "deliveries": ("-P", "threads", "-c", "16", "-Q", queues.DELIVERIES),
}
#: Workers coordinate through the database, not with each other.
_STANDALONE: Final = ("--without-mingle", "--without-gossip")

#: The errors that mean "the message broker did not accept the message"; the sweeper sends it later.
UNSENT: Final = (OperationalError, CeleryOperationalError, ConnectionError, TimeoutError, OSError)


def unit_chain(export_id: str, unit_no: int, first: str = STEPS[0].name, queue: str | None = None) -> Signature:
    """Return the chain of a unit's steps from `first` on: one task for each step, with ids only."""
    names = [spec.name for spec in STEPS if spec.per_unit]
    links = [step_signature(name, export_id, unit_no) for name in names[names.index(first) :]]
    # What has begun does not wait in the backlog again. But each step of a large unit holds a process for long.
    for link in links if queue == queues.LARGE else links[:1]:
        if queue is not None:
            link.set(queue=queue)
    return chain(*links)


def handoff_chain(export_id: str) -> Signature:
    """Return the end of an export: the handoff, then all notify steps at once, without a chord: the database counts."""
    return chain(
        step_signature(HAND_OFF.name, export_id, EXPORT_LEVEL),
        group(step_signature(n, export_id, EXPORT_LEVEL) for n in NOTIFY_STEPS),
    )


def publish_export(export_id: str, unit_queues: Sequence[str]) -> None:
    """Publish the chain of every unit of a new export; the sweeper sends later what cannot be sent now."""
    publish(initial_tasks(export_id, unit_queues))


def initial_tasks(export_id: str, unit_queues: Sequence[str]) -> list[TaskMessage]:
    """Return the task messages of a new export: the first step of each of its units, in the unit's queue."""
    return [TaskMessage(export_id, unit_no, STEPS[0].name, queue=name) for unit_no, name in enumerate(unit_queues, 1)]


def publish(tasks: Iterable[TaskMessage]) -> None:
    """Send the task messages in order, until one cannot be sent."""
    for task in tasks:
        if not try_send(_signature(task)):
            return


def publish_streams(streams: Iterable[DeliveryStream]) -> None:
    """Send a task message for each stream."""
    publish(stream_tasks(streams))


def publish_polls(polls: Iterable[Poll]) -> None:
    """Send a message for each poll until one cannot be sent; an unsent poll is due again soon."""
    for each in polls:
        if each.submission_id is None:
            signature = _task_signature("exports.poll_folder", each.account_id, each.partner_id, each.channel)
        else:
            signature = _task_signature("exports.poll_endpoint", each.submission_id)
        if not try_send(signature):
            return


def publish_mailbox() -> None:
    """Send a message to read the mailbox; an unsent one is due again soon."""
    try_send(_task_signature("exports.read_mailbox"))


def queue_capacity(limit: int, minimum: int, *queue_groups: Sequence[str]) -> list[int]:
    """Return for each queue group how many task messages may be added, so that it holds at most `limit`.

    The work of a queued message stays due, so that a sweep finds it again. Re-publishing everything on each sweep
    would flood workers with duplicates. A full queue may hold only other work: at least `minimum` messages are always
    allowed, also if the length of the queue is unknown.
    """
    errors: tuple[type[Exception], ...] = UNSENT
    try:
        with app.pool.acquire(block=True) as connection:
            errors = (*UNSENT, *connection.connection_errors)
            connection.ensure_connection(max_retries=1, interval_start=0)
            return [
                max(minimum, limit - sum(_queued_messages(connection, name) for name in names))
                for names in queue_groups
            ]
    except errors as error:  # with these errors the pool discards the connection
        log.warning("queue_depth_unknown", error=type(error).__name__)
        return [minimum for _ in queue_groups]


def _queued_messages(connection: Connection, name: str) -> int:
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(name, passive=True).message_count)
        except connection.channel_errors:
            return 0  # the queue does not exist yet; on Redis an empty queue does not exist


def continue_chain(request: Any, result: Committed) -> None:
    """Remove from the running task's chain what was done here already, and publish the tasks that were opened.

    `request` is the task's own; its `chain` lists the remaining links, the next one last. A released step of a large unit
    waits in the same queue again.
    """
    links = request.chain or []
    if result.halted:
        # The chain ends here: the worker that holds the step, or the sweeper, sends what follows.
        links.clear()
    while links and step_name(links[-1]["task"]) in result.completed:
        links.pop()
    if not links:
        in_large = (request.delivery_info or {}).get("routing_key") == queues.LARGE
        publish(replace(task, queue=queues.LARGE) if in_large and task.unit_no else task for task in result.tasks)


def _signature(task: TaskMessage) -> Signature:
    if task.step is None:
        return _task_signature("exports.deliver", task.export_id, task.partner_id, task.channel)
    if STEPS_BY_NAME[task.step].per_unit:
        return unit_chain(task.export_id, task.unit_no, task.step, task.queue)
    if task.step == HAND_OFF.name:
        return handoff_chain(task.export_id)
    return step_signature(task.step, task.export_id, EXPORT_LEVEL)


def step_signature(name: str, export_id: str, unit_no: int) -> Signature:
    """Return the message that runs a step."""
    return _task_signature(task_name(name), export_id, unit_no)


def route_task(name: str, *_: Any, **__: Any) -> Mapping[str, str]:
    """Return the queue of a task, for Celery: that of its step, or that of deliveries."""
    spec = STEPS_BY_NAME.get(step_name(name))
    return {"queue": queues.DELIVERIES if spec is None else spec.queue}


def task_name(step: str) -> str:
    """Return the name of the task that runs a step."""
    return f"exports.{step}"


def step_name(task: str) -> str:
    """Return the step that a task runs."""
    return task.removeprefix("exports.")


def _task_signature(name: str, *arguments: Any) -> Signature:
    # The options travel with each link of a chain, so that every sender waits for the same time at most.
    return app.signature(name, args=arguments, immutable=True, options=_PUBLISH_OPTIONS)


def try_send(signature: Signature) -> bool:
    """Send a message; return whether the message broker accepted it."""
    try:
        signature.apply_async()
    except UNSENT as error:
        log.warning("task_message_not_sent", task=signature.get("task"), error=type(error).__name__)
        count(TASK_MESSAGES, _first_task(signature), NOT_SENT)
        return False
    count(TASK_MESSAGES, _first_task(signature), SENT)
    return True


def _first_task(signature: Signature) -> str:
    links = getattr(signature, "tasks", None)
    return step_name((links[0] if links else signature)["task"])


def run_worker(role: str, options: Sequence[str] = (), on_ready: Callable[[], None] | None = None) -> None:
    """Run a Celery worker of the role, one of WORKERS, until it is stopped; `options` are Celery's and come last.

    `on_ready` is called once the worker takes messages; with it, Celery writes nothing to standard output. If another
    version is installed meanwhile, the worker takes no more work, and this waits until the process is stopped.
    """
    if on_ready is not None:
        keep_standard_output_clean()
        worker_ready.connect(lambda **_: on_ready(), weak=False)
    name = f"{role}-{os.getpid()}@%h"
    heartbeat = () if app.conf.worker_send_task_events else ("--without-heartbeat",)
    try:
        run_celery(
            ["-A", "config.celery", "--quiet", "worker", "-n", name, *WORKERS[role], *_STANDALONE, *heartbeat, *options]
        )
    finally:
        wait_for_restart()
