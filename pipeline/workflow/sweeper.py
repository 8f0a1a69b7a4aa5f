"""The sweeper's search for due work that no lease holds."""

import random
from datetime import timedelta
from typing import Final

from sqlalchemy import bindparam, func, literal_column, select, tuple_, update
from sqlmodel import Session

from config.queues import BACKLOG, LARGE
from config.settings import Settings
from pipeline.core.db import database_now, index_constant, statement_now, table
from pipeline.core.failpoints import failpoint
from pipeline.core.lease_columns import LEASE_SECONDS, is_free
from pipeline.core.runtime import Runtime
from pipeline.deliveries.streams.due_streams import take_due_streams
from pipeline.exports.models import Step
from pipeline.exports.states import StepState
from pipeline.workflow.step_failures import WORKER_LOST
from pipeline.workflow.step_leases import THIS_STEP, export_is_active, has_own_steps, step_params
from pipeline.workflow.steps import STEPS, TaskMessage, stream_tasks

_steps = table(Step).c
_step_key = (_steps.export_id, _steps.unit_no, _steps.name)
_due = (
    select(*_step_key)
    .where(
        _steps.state == StepState.READY.value,
        _steps.due_at <= statement_now(),
        export_is_active(_steps.export_id),
        has_own_steps(_steps.export_id),
    )
    .order_by(_steps.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)  # SQLite has one writer and leaves this out
)
_TAKE_DUE: Final = (
    update(table(Step))
    .where(tuple_(*_step_key).in_(_due), _steps.state == StepState.READY.value)
    .values(
        due_at=database_now(bindparam("stalled_seconds")),
        stalled_since=func.coalesce(_steps.stalled_since, database_now()),
    )
    .returning(*_step_key, _steps.fence, _steps.due_at, _steps.stalled_since, _steps.large)
)
#: With a backlog, the first message of a step may be queued until it is this many times `stalled_seconds` old.
_BACKLOG_FACTOR: Final = 10
_is_lost = (
    # The literals are those of the index: other due steps are not read.
    _steps.state == index_constant(StepState.READY),
    _steps.error.is_(None),
    _steps.attempts > literal_column("1"),
    _steps.attempts <= bindparam("most_attempts"),
    _steps.due_at <= statement_now(),
    _steps.lease_until.is_not(None),
    is_free(_steps, LEASE_SECONDS),
)
_LOST: Final = (
    select(*_step_key, _steps.fence).where(*_is_lost, export_is_active(_steps.export_id)).limit(bindparam("most"))
)
_STAGGER: Final = (
    update(table(Step))
    # The conditions are checked again: a slow worker may have renewed its lease meanwhile, or finished. Steps of an export
    # that has ended meanwhile are not due.
    .where(*THIS_STEP, _steps.fence == bindparam("held_fence"), *_is_lost)
    .values(error=WORKER_LOST, lease_until=None, due_at=database_now(bindparam("pause")), stalled_since=None)
)


def find_due(
    runtime: Runtime,
    *,
    steps: int | None = None,
    streams: int | None = None,
    backlog: bool = False,
    large_backlog: bool = False,
) -> list[TaskMessage]:
    """Return the steps and deliveries that are due and not leased, oldest first; the sweeper publishes them.

    Returns at most `steps` and `streams` of them, by default `sweep_limit` of each. Includes steps with no attempts
    left; claiming one quarantines its export.

    Moves the due time of each item that it finds by `stalled_seconds`, so that concurrent sweeps do not repeat each
    other. With a `backlog`, a queue of steps holds messages, with a `large_backlog` that of large units does: steps whose
    first message may be there are not returned, for ten times `stalled_seconds`. It may be lost instead.
    Leaves exports with other steps to the version of the service that accepted them.
    """
    settings = runtime.settings
    most = settings.sweep_limit if steps is None else steps
    with runtime.db.write() as session:
        stagger_lost_steps(session, settings)
        rows = session.execute(_TAKE_DUE, {"most": most, "stalled_seconds": settings.stalled_seconds}).all()
        queued = timedelta(seconds=_BACKLOG_FACTOR * settings.stalled_seconds)
        found = take_due_streams(session, settings, settings.sweep_limit if streams is None else streams)
        failpoint("sweep.mid")
    # A new export whose first message is late usually waits in the backlog.
    return [
        TaskMessage(export_id, unit_no, name, queue=LARGE if large else BACKLOG if name == STEPS[0].name else None)
        for export_id, unit_no, name, fence, due_at, stalled_since, large in rows
        # The message of a step that was claimed is in no queue any more.
        if fence or due_at - stalled_since >= queued or not (large_backlog if large else backlog)
    ] + stream_tasks(found)


def stagger_lost_steps(session: Session, settings: Settings) -> None:
    """Give each step whose worker died at least twice its own random retry time.

    All steps of a dead process become due at once. If they started together again, they would die together again, and
    sound steps would be quarantined with the poison message.
    """
    limits = {"most_attempts": settings.step_max_attempts - 1, "lease_seconds": settings.lease_seconds}
    lost = session.execute(_LOST, limits | {"most": settings.sweep_limit}).all()
    if lost:
        pauses = [random.uniform(0, settings.lease_seconds) for _ in lost]  # noqa: S311 - not a secret
        session.execute(
            _STAGGER,
            [
                step_params(*at) | limits | {"held_fence": fence, "pause": pause}
                for (*at, fence), pause in zip(lost, pauses, strict=True)
            ],
        )
