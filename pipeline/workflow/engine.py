"""The engine: run_step() executes one step of STEPS exactly once, and the cheap steps after it."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError

from pipeline.core import shutdown
from pipeline.core.errors import DatabaseBusy, Fenced, Stopped, Terminal, WorkerLost
from pipeline.core.metrics import count, observe
from pipeline.core.runtime import Runtime
from pipeline.core.watchdog import WATCHDOG
from pipeline.deliveries.streams import attempts, sender, streams
from pipeline.deliveries.streams.sender import Sending
from pipeline.deliveries.streams.streams import StreamLease
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.metrics import FAILED, FENCED, LEASES_LOST, RELEASED, RETRIED, STEP, STEP_SECONDS
from pipeline.exports.states import ExportState
from pipeline.exports.step_context import StepContext
from pipeline.exports.transitions import transition_export
from pipeline.workflow import step_failures
from pipeline.workflow.step_leases import StepChange, change_steps, claim_step, hold_lease, holds_lease, release_step
from pipeline.workflow.step_transaction import (
    RENDERER,
    Committed,
    DoneStep,
    ExportEnded,
    before_commit,
    commit_steps,
    report_done,
    trace_step,
    write_step,
)
from pipeline.workflow.steps import (
    NOTIFY_STEPS,
    STEPS,
    STEPS_BY_NAME,
    TaskMessage,
    begin_step,
    prepare_steps,
    steps_at_once,
    stream_tasks,
)
from pipeline.workflow.unit_start import begin_unit

log = structlog.get_logger(__name__)


def run_step(
    runtime: Runtime, export_id: str, unit_no: int, name: str, *, redelivered: bool = False, renders: bool = True
) -> Committed:
    """Run the step `name` and the cheap ones after it; return what was done.

    Does nothing if the step is done, leased, not yet opened, or its export has ended. So a lost, doubled or reordered
    message changes nothing. A failure is recorded and the step is retried later. The export fails after the maximum of
    attempts, or at once if a retry cannot help. It is quarantined if the step killed its worker or the renderer, or
    raised an unknown error. An outage of the database or of the document store does not count as an attempt: the step
    is retried for as long as the outage lasts.

    If this process is asked to stop, it releases steps that were not started or can be interrupted. That does not count
    as an attempt. `redelivered` says that another worker got the same message, and may have died of it. `renders` says
    that this process may go on with documents.
    """
    starts = name == STEPS[0].name
    # A step that waits for the renderer is not claimed yet, so a crash blames only the step that renders.
    with RENDERER if STEPS_BY_NAME[name].needs_renderer else nullcontext(), ExitStack() as stack:
        renderer = stack if renders else None
        begins = starts and not redelivered and not shutdown.is_requested()
        total = begin_unit(runtime, export_id, unit_no, renderer) if begins else None
        if total is None:
            context = claim_step(runtime, export_id, unit_no, name)
            if context is None:
                return Committed(halted=True)
            total = Committed(following=(context,))
        while total.following:
            context, *later = total.following
            total = replace(total, following=tuple(later)) + _attempt(runtime, context, renderer)
    return total


def _attempt(runtime: Runtime, context: StepContext, renderer: ExitStack | None) -> Committed:
    """Return what one attempt at a claimed step did. Its failure is recorded."""
    began = time.monotonic()
    with trace_step(context) as span:
        tasks = list[TaskMessage]()
        try:
            committed = _execute(runtime, context, renderer)
        except Fenced as error:
            span.fail(error, "fenced")
            log.warning("step_fenced", fence=context.fence)
            count(LEASES_LOST, STEP)
            result = FENCED
        except Stopped:
            span.set(outcome="released")
            release_step(runtime, context)
            tasks.append(TaskMessage(context.export_id, context.unit_no, context.step))
            result = RELEASED
        except Exception as error:  # noqa: BLE001 - every error of a step is recorded as its failure
            span.fail(error, "failed")
            tasks += stream_tasks(step_failures.record_failure(runtime, context, error))
            result = FAILED if step_failures.is_final(runtime.settings, context, error) else RETRIED
        else:
            return _notify(runtime, committed) if committed.held.now else committed
        observe(STEP_SECONDS, time.monotonic() - began, context.step, result)
    return Committed(tasks=tuple(tasks), halted=True)


def _execute(runtime: Runtime, context: StepContext, renderer: ExitStack | None) -> Committed:
    """Execute one claimed step, and those after it that need no preparation; `renderer` will release the renderer."""
    spec, began = STEPS_BY_NAME[context.step], time.monotonic()
    if context.attempt > runtime.settings.step_max_attempts:
        attempts = context.attempt - 1
        raise WorkerLost(
            f"{spec.name} was started {attempts} times, and its worker died each time without recording a reason: it was"
            " killed, crashed, or ran out of memory or time; see the workers' logs of that time",
            attempts,
        )
    shutdown.raise_if_requested()
    begin_step(spec)
    # The recipients decide how long sending takes, and each send has its own limit.
    bounded = nullcontext() if spec.name in NOTIFY_STEPS else WATCHDOG.limit(runtime.settings.step_timeout_seconds)
    prepared: Mapping[str, Any] = {}
    try:
        with bounded:
            if spec.prepare is not None:
                with hold_lease(runtime, context):
                    prepared = prepare_steps(runtime, context)
            committed = _commit(runtime, context, prepared, renderer)
    except IntegrityError as error:
        # A worker with a newer fence may have written the same rows. Otherwise the facts collide, and a person must
        # decide.
        if not holds_lease(runtime, context):
            raise Fenced from error
        raise Terminal(f"{spec.name} collides with recorded data: {str(error.orig).splitlines()[0]}") from error
    first, *passed = committed.done
    # The first step also took the time of its preparation and of the commit.
    first = first._replace(seconds=time.monotonic() - began - sum(each.seconds for each in passed))
    report_done((first, *passed), context.attempt, traced=1)
    return committed


def _commit(
    runtime: Runtime, context: StepContext, prepared: Mapping[str, Any], renderer: ExitStack | None
) -> Committed:
    """Commit the step together with those after it that need no preparation, or are prepared; return what was done.

    If one of the later steps fails, only the first is committed; the later one then fails by itself.
    """
    # Once a worker was lost, each step has its own transaction: otherwise the first would get the blame for all.
    together = context.attempt == 1
    while True:
        others = steps_at_once(STEPS_BY_NAME[context.step], prepared) if together else ()
        written = None
        try:
            with runtime.db.write() as session:
                written = write_step(session, context, prepared)
                return commit_steps(session, runtime.settings, written, prepared, others, renderer)
        except (Fenced, DatabaseBusy):
            raise
        except Exception as error:
            if not together or written is None:
                raise
            if not isinstance(error, ExportEnded):
                log.warning("steps_separated", exc_info=True)
            together = False


def _notify(runtime: Runtime, opened: Committed) -> Committed:
    """Send the held streams, and record that together with the end of the notify steps and of the export.

    Return `opened` and what was done, or `opened` alone if that failed: then each step runs by itself, and what was not
    recorded is sent again later.
    """
    contexts, held, began = opened.following, opened.held, time.monotonic()
    try:
        with ExitStack() as leases:
            for context in contexts:
                leases.enter_context(hold_lease(runtime, context))
                begin_step(STEPS_BY_NAME[context.step])
            sendings = sender.send_held(runtime, held.now)
        changes = [StepChange.finish(context, time.monotonic() - began) for context in contexts]
        end = partial(_end_export, runtime, contexts[-1], changes, sendings, held.at_end)
        tasks, claims = sender.record_while_leased(sendings[0].lease, end)
        done = tuple(DoneStep.end_now(context, began) for context in contexts)
    except Exception:
        log.warning("steps_separated", exc_info=True)
        return opened
    report_done(done, 1)
    tasks += stream_tasks(sender.deliver_claimed(runtime, claims))
    return replace(opened, following=()) + Committed(done, tuple(tasks))


def _end_export(
    runtime: Runtime,
    last: StepContext,
    changes: Sequence[StepChange],
    sendings: Sequence[Sending],
    held: Sequence[StreamLease],
) -> tuple[list[TaskMessage], list[StreamLease]]:
    """Record the sendings and the end of the export. Return the tasks, and those of the `held` streams that are claimed."""
    with runtime.db.write() as session:
        # This locks the export's row, before the results are counted.
        transition_export(session, last.export_id, ExportState.EXECUTED)
        recorded, happened = attempts.write_attempts(
            session, runtime.settings, [(each.claimed, each.sent) for each in sendings]
        )
        change_steps(session, last.export_id, changes)
        happened.append(NewEvent(EventType.EXPORT_EXECUTED, actor=last.step))
        events.append(session, last.export_id, attempts.ACTOR, happened)
        to_publish, claims = streams.release_and_claim(session, runtime.settings, last.export_id, held)
        before_commit([STEPS_BY_NAME[change.at_step] for change in changes])
    # A claimed stream is sent until it is empty.
    claimed = {each.stream for each in claims}
    enqueued = [stream for each in recorded for stream in each.pending_streams if stream not in claimed]
    return stream_tasks(dict.fromkeys([*enqueued, *to_publish])), claims
