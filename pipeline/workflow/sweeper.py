"""What is due and held by nobody, found again."""

from __future__ import annotations

import random

from sqlalchemy import bindparam, func, select, tuple_, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core.db import database_now, statement_now, table
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.deliveries.streams import take_due_streams
from pipeline.exports.models import Step
from pipeline.exports.states import StepState
from pipeline.workflow.step_failures import WORKER_LOST
from pipeline.workflow.step_leases import THIS_STEP, export_is_active, has_steps, step_params
from pipeline.workflow.steps import STEPS_BY_NAME, TaskMessage, stream_tasks


def find_due(runtime: Runtime, *, steps: int | None = None, streams: int | None = None) -> list[TaskMessage]:
    """Return the steps and deliveries that are due and that nobody holds, oldest first; the sweep publishes them.

    There are no more than `steps` and `streams` of them; where that is not said, no more than `sweep_limit` of each.

    A step that ended its worker as often as it may be begun is among them: whoever takes it does nothing of it, but
    quarantines its export.

    Each is put off by `stalled_seconds` as it is returned, so that any number of sweeps at once does no harm. What another
    version of the service accepted, with other steps, is left to that version's.
    """
    settings = runtime.settings
    due = (
        select(col(Step.export_id), col(Step.unit_no), col(Step.name))
        .where(
            col(Step.state) == StepState.READY.value,
            col(Step.due_at) <= statement_now(),
            export_is_active(col(Step.export_id)),
            has_steps(col(Step.export_id), [*STEPS_BY_NAME], len(STEPS_BY_NAME)),
        )
        .order_by(col(Step.due_at))
        .limit(settings.sweep_limit if steps is None else steps)
    )
    if not runtime.db.is_sqlite:
        due = due.with_for_update(skip_locked=True)
    with runtime.db.write() as session:
        stagger_lost_steps(session, settings)
        rows = session.execute(
            update(Step)
            .where(
                tuple_(col(Step.export_id), col(Step.unit_no), col(Step.name)).in_(due),
                col(Step.state) == StepState.READY.value,
            )
            .values(
                due_at=database_now(settings.stalled_seconds),
                stalled_since=func.coalesce(col(Step.stalled_since), database_now()),
            )
            .returning(col(Step.export_id), col(Step.unit_no), col(Step.name))
        ).all()
        found = take_due_streams(session, settings, settings.sweep_limit if streams is None else streams)
        failpoint("sweep.mid")
    return [TaskMessage(*row) for row in rows] + stream_tasks(found)


_steps = table(Step).c


def stagger_lost_steps(session: Session, settings: Settings) -> None:
    """Have each step that came to an end without a word, twice or more, begun again at a moment of its own.

    Whatever a process works on ends with it, and all of it is due again at once: begun together once more, it would end
    together once more, and what only stood beside the poison would be taken for it.
    """
    lost = (
        _steps.state == StepState.READY.value,
        _steps.due_at <= statement_now(),
        _steps.lease_until <= database_now(),
        _steps.error.is_(None),
        _steps.attempts.between(2, settings.step_max_attempts - 1),
    )
    found = select(_steps.export_id, _steps.unit_no, _steps.name, _steps.fence).where(*lost)
    found = found.where(export_is_active(_steps.export_id)).limit(settings.sweep_limit)
    staggered = [
        step_params(*at) | {"held_fence": fence, "pause": random.uniform(0, settings.lease_seconds)}  # noqa: S311 - no secret
        for *at, fence in session.execute(found).all()
    ]
    if staggered:
        later = database_now(bindparam("pause"))
        session.execute(
            update(table(Step))
            # All of it again: whoever was only slow may have renewed its lease meanwhile, or finished. Of an export that
            # has ended meanwhile nothing is due.
            .where(*THIS_STEP, _steps.fence == bindparam("held_fence"), *lost)
            .values(error=WORKER_LOST, lease_until=later, due_at=later),
            staggered,
        )
