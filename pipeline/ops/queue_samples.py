"""How much work is due in each queue, and since when: counted in the database, because messages may be lost or repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, ScalarSelect, func, select
from sqlmodel import Session, col

from config.queues import DELIVERIES, DOCUMENTS, LARGE, STEPS
from pipeline.core.db import index_constant, statement_now, table
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.streams.due_streams import is_claimable
from pipeline.deliveries.streams.streams import is_stream_free
from pipeline.exports.models import Step
from pipeline.exports.states import DeliveryState, StepState
from pipeline.workflow.step_leases import IS_LATER_STEP, export_is_active
from pipeline.workflow.steps import STEPS_BY_NAME

#: The queues; work of the backlog counts as that of the steps.
QUEUES: Final = (STEPS, LARGE, DOCUMENTS, DELIVERIES)

_steps = table(Step).c
_READY: Final = _steps.state == index_constant(StepState.READY)
_LARGE: Final = _steps.large
#: No worker starts the other steps, such as those of a failed export: they are not late.
_IS_STARTED: Final = export_is_active(_steps.export_id)
_PENDING: Final = table(Delivery).c.state == index_constant(DeliveryState.PENDING)


@dataclass(frozen=True)
class QueueSample:
    """How much work of one queue waits or is running, and for how many seconds the oldest of it has been due."""

    depth: int = 0
    seconds_late: int = 0

    def add(self, depth: int, seconds_late: float) -> "QueueSample":
        """Return the sample with other work of the queue."""
        return QueueSample(self.depth + depth, max(self.seconds_late, round(seconds_late)))


def sample_queues(session: Session, now: datetime) -> Mapping[str, QueueSample]:
    """Return a sample of each queue; `now` is the time of the database.

    A sweep moves the due time of what no worker takes, so work is late since the first sweep that found it.
    """
    # The first steps of all queued exports may be many. An index has all steps, and another those that are not first.
    oldest = _find_oldest(Step, _READY, ~IS_LATER_STEP, ~_LARGE, _IS_STARTED)
    count, *first_since = session.execute(select(func.count(), *oldest).select_from(table(Step)).where(_READY)).one()
    later_since = [func.min(at).filter(_IS_STARTED) for at in (_steps.due_at, _steps.stalled_since)]
    large = session.execute(select(func.count(), *later_since).where(_READY, _LARGE)).one()
    later = session.execute(
        select(_steps.name, func.count(), *later_since).where(_READY, IS_LATER_STEP, ~_LARGE).group_by(_steps.name)
    ).all()
    # No worker sends a message of a paused partner, or one behind another that waits for its retry: it is not late.
    oldest = _find_oldest(Delivery, is_claimable(), is_stream_free())
    pending = select(func.count(), *oldest).select_from(table(Delivery)).where(_PENDING)
    samples = dict.fromkeys(QUEUES, QueueSample())
    for queue, depth, *since in (
        (STEPS, count - large[0] - sum(each[1] for each in later), *first_since),
        (LARGE, *large),
        *((STEPS_BY_NAME[name].queue if name in STEPS_BY_NAME else STEPS, *counted) for name, *counted in later),
        (DELIVERIES, *session.execute(pending).one()),
    ):
        late = max(((now - each).total_seconds() for each in since if each is not None), default=0)
        samples[queue] = samples[queue].add(depth, late)
    return samples


def _find_oldest(model: type[Step | Delivery], *conditions: ColumnElement[bool]) -> list[ScalarSelect[Any]]:
    """Return the oldest due time of the work, and since when the oldest is stalled: two searches, each with its index."""
    instants = col(model.due_at), col(model.stalled_since)
    found = [select(at).where(*conditions, at <= statement_now()) for at in instants]
    return [query.order_by(at).limit(1).scalar_subquery() for query, at in zip(found, instants, strict=True)]
