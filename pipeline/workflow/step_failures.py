"""Failed attempts at a step: a retry later, or the failure of its export."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import select, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core import shutdown
from pipeline.core.db import database_now
from pipeline.core.errors import OUTAGES, DatabaseBusy, ExportsError, RendererCrashed, Retryable, Terminal, WorkerLost
from pipeline.core.runtime import Runtime
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Step
from pipeline.exports.states import ACTIVE_STATES, ExportState, StepState
from pipeline.exports.step_context import StepContext
from pipeline.exports.transitions import transition_export
from pipeline.workflow.step_leases import context_where

log = structlog.get_logger(__name__)

#: The error of a step whose worker died, until its next attempt.
WORKER_LOST: Final = "its worker died without recording a reason"


#: The longest pause before a retry, unless the first pause is longer: work resumes within a minute after an outage.
MAX_RETRY_PAUSE_SECONDS: Final = 60

#: How long a worker waits before it tries again to record a failure.
RECORD_RETRY_SECONDS = 1.0


def record_failure(runtime: Runtime, context: StepContext, error: Exception) -> Sequence[DeliveryStream]:
    """Record a failed attempt and return the delivery streams to publish.

    The step is due again after a pause that doubles, or the export fails. An outage does not count as an attempt,
    however long it lasts. Nothing is recorded if another worker claimed the step meanwhile, or if it was cancelled. If
    the export has ended by another step, only the reason is recorded. See `_should_quarantine` for when the export is
    quarantined.

    If the database does not answer, this waits for as long as a step may take, unless the process is asked to stop. An
    unrecorded failure would count as a lost worker, and without a database the worker has nothing else to do.
    """
    reason = str(error) if isinstance(error, ExportsError) else f"{type(error).__name__} in {context.step}"
    if isinstance(error, Retryable):
        log.warning("step_postponed", attempt=context.attempt, reason=reason)
    else:
        log.error("step_raised", attempt=context.attempt, exc_info=error)
    until = time.monotonic() + runtime.settings.step_timeout_seconds
    while True:
        try:
            return _record_once(runtime, context, error, reason)
        except DatabaseBusy as busy:
            log.warning("step_failure_not_recorded", reason=str(busy))
            if shutdown.is_requested() or time.monotonic() > until:
                return []  # its lease expires, and the sweeper publishes the step again
            time.sleep(RECORD_RETRY_SECONDS)


def is_final(settings: Settings, context: StepContext, error: Exception) -> bool:
    """Return whether the error fails the export: a retry cannot help, or it was the last attempt."""
    exhausted = not isinstance(error, OUTAGES) and context.attempt >= settings.step_max_attempts
    return exhausted or isinstance(error, Terminal)


def _record_once(runtime: Runtime, context: StepContext, error: Exception, reason: str) -> Sequence[DeliveryStream]:
    outage = isinstance(error, OUTAGES)
    with runtime.db.write() as session:
        # Lock the export's row first, as every writer of its log does: after the wait this transaction sees the newest
        # state.
        export = events.lock_export(session, context.export_id)
        if not _lock_if_held(session, context):
            return []
        if export.state not in ACTIVE_STATES:
            _update_step(session, context, error=reason, lease_until=None, due_at=None)
            return []
        if is_final(runtime.settings, context, error):
            return _fail_export(session, context, error, reason, export.at)
        # The fence counts all tries, also those that are not attempts. Of a long outage only tries 1, 2, 4, 8, ... are
        # logged.
        if not outage or context.fence.bit_count() == 1:
            fact = {"step": context.step, "unitNo": context.unit_no, "attempt": context.attempt, "reason": reason}
            retried = NewEvent(EventType.STEP_RETRIED, fact)
            events.append(session, context.export_id, context.step, [retried], at=export.at)
        pause = _retry_pause(runtime.settings, context.fence if outage else context.attempt)
        attempts = context.attempt - 1 if outage else context.attempt
        again = {"lease_until": None, "due_at": database_now(pause), "stalled_since": None}
        _update_step(session, context, error=reason, attempts=attempts, **again)
    return []


def _retry_pause(settings: Settings, tries: int) -> float:
    first = settings.step_retry_seconds
    return min(first * 2.0 ** min(tries - 1, 60), max(first, MAX_RETRY_PAUSE_SECONDS))


def _lock_if_held(session: Session, context: StepContext) -> bool:
    """Return whether the caller still holds the step; lock it until the transaction ends."""
    here = select(col(Step.fence)).where(*context_where(context), col(Step.state) == StepState.READY.value)
    return session.scalar(here.with_for_update()) == context.fence


def _update_step(session: Session, context: StepContext, **values: Any) -> None:
    session.execute(update(Step).where(*context_where(context), col(Step.fence) == context.fence).values(**values))


def _should_quarantine(error: Exception) -> bool:
    """Return whether the error killed a process or is unknown: a lost worker, a crashed renderer, any other error."""
    return isinstance(error, RendererCrashed | WorkerLost) or not isinstance(error, ExportsError)


def _fail_export(
    session: Session, context: StepContext, error: Exception, reason: str, at: datetime
) -> Sequence[DeliveryStream]:
    export_id = context.export_id
    attempts = error.attempts if isinstance(error, WorkerLost) else context.attempt
    quarantined = _should_quarantine(error)
    fact = {
        "step": context.step,
        "unitNo": context.unit_no,
        "attempts": attempts,
        "reason": reason,
        "quarantined": quarantined,
    }
    failure = f"{context.step}: {reason}"
    enqueued = operator_messages.enqueue_export_failed(
        session, context, failure, attempts=attempts, quarantined=quarantined
    )
    events.append(
        session, export_id, context.step, [NewEvent(EventType.EXPORT_FAILED, {**fact, **enqueued.fact})], at=at
    )
    transition_export(session, export_id, ExportState.FAILED, failure=failure, quarantined=quarantined)
    _update_step(
        session,
        context,
        state=StepState.FAILED.value,
        attempts=attempts,
        error=reason,
        lease_until=None,
        due_at=None,
        finished_at=database_now(),
    )
    # The steps of other units stay ready but are not due until a person retries the export: each sweep would read them. A
    # worker that holds one of them may finish it.
    session.execute(
        update(Step)
        .where(col(Step.export_id) == export_id, col(Step.state) == StepState.READY.value)
        .values(due_at=None)
    )
    return enqueued.streams
