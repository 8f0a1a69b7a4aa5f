"""How much work is due in each queue, and since when: counted in the database, because messages may be lost or repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from config.queues import DELIVERIES, DOCUMENTS, STEPS, TASK_ROUTES
from pipeline.core.db import index_constant, table
from pipeline.deliveries.models import Delivery
from pipeline.exports.models import Step
from pipeline.exports.states import DeliveryState, StepState
from pipeline.workflow.step_leases import IS_LATER_STEP

#: The queues; work of the backlog counts as that of the steps.
QUEUES: Final = (STEPS, DOCUMENTS, DELIVERIES)

_steps = table(Step).c
_READY: Final = _steps.state == index_constant(StepState.READY)


@dataclass(frozen=True)
class QueueSample:
    """How much work of one queue waits or is running, and for how many seconds the oldest of it has been due."""

    depth: int = 0
    seconds_late: int = 0

    def add(self, depth: int, seconds_late: float) -> QueueSample:
        """Return the sample with other work of the queue."""
        return QueueSample(self.depth + depth, max(self.seconds_late, round(seconds_late)))


def sample_queues(session: Session, now: datetime) -> Mapping[str, QueueSample]:
    """Return a sample of each queue; `now` is the time of the database."""
    oldest_first = (
        select(_steps.due_at).where(_READY, ~IS_LATER_STEP).order_by(_steps.due_at).limit(1).scalar_subquery()
    )
    # The first steps of all queued exports may be many. An index has all steps, and another those that are not first.
    count, first_due_at = session.execute(
        select(func.count(), oldest_first).select_from(table(Step)).where(_READY)
    ).one()
    later = session.execute(
        select(_steps.name, func.count(), func.min(_steps.due_at)).where(_READY, IS_LATER_STEP).group_by(_steps.name)
    ).all()
    pending = select(func.count(), func.min(col(Delivery.due_at))).where(
        col(Delivery.state) == index_constant(DeliveryState.PENDING)
    )
    samples = dict.fromkeys(QUEUES, QueueSample())
    for name, depth, due_at in (
        ("record_packages", count - sum(each[1] for each in later), first_due_at),
        *later,
        ("deliver", *session.execute(pending).one()),
    ):
        queue = TASK_ROUTES.get(name, STEPS)
        samples[queue] = samples[queue].add(depth, 0 if due_at is None else (now - due_at).total_seconds())
    return samples
