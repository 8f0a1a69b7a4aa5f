"""Whether work that is put here now gets done: the database, its tables, and the progress of the workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, SQLModel, col, select

from config.queues import DELIVERIES, DOCUMENTS, STEPS, TASK_ROUTES
from pipeline.accounts import recipients
from pipeline.core import heartbeats, tenancy
from pipeline.core.db import database_now, statement_now
from pipeline.core.errors import DatabaseBusy, MessageBrokerDown
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.channels import queue_durability
from pipeline.deliveries.models import Attempt, Delivery
from pipeline.deliveries.streams import is_claimable, is_stream_free
from pipeline.exports.models import Step
from pipeline.exports.states import StepState
from pipeline.ops import migrations
from pipeline.ops.migrations import SchemaStatus
from pipeline.workflow.step_failures import MAX_RETRY_PAUSE_SECONDS
from pipeline.workflow.step_leases import export_is_active

#: How long due work may lie while nothing moves before somebody should be woken.
STALLED_AFTER_SECONDS: Final = 60


@dataclass(frozen=True)
class Part:
    """One part of the service and how it is, in words."""

    name: str
    ok: bool
    message: str


def parts(runtime: Runtime, *, stalled_after_seconds: float = STALLED_AFTER_SECONDS) -> list[Part]:
    """Return every part; where the database does not answer, nothing else is known."""
    try:
        stands = migrations.schema_status(runtime.db)
        if stands is SchemaStatus.BEHIND:
            return [Part("database", ok=False, message="its tables are not this version's; run `exports migrate`")]
        # Red would take every process of the older version away before one of the newer is there.
        whose = "this version's" if stands is SchemaStatus.CURRENT else "a newer version's; replace this process"
        put_off = runtime.settings.stalled_seconds
        watch = _Watch(stalled_after_seconds, min(put_off, stalled_after_seconds / 2), put_off)
        longest_pause = max(runtime.settings.step_retry_seconds, MAX_RETRY_PAUSE_SECONDS)
        on_redis = runtime.settings.message_broker == "redis"
        with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
            by_queue = on_redis and recipients.has_queue_recipients(session)
            found = [
                Part("database", ok=True, message=f"answers, and its tables are {whose}"),
                watch.sweep(session),
                watch.steps(session),
                watch.deliveries(session),
                _outage(session, stalled_after_seconds, longest_pause),
                *([] if runtime.settings.embedded else [watch.intake(session)]),
            ]
    except DatabaseBusy as busy:
        return [Part("database", ok=False, message=f"{busy}; check DATABASE_URL and the server")]
    # No transaction is open while Redis is asked.
    return [*found, _queues(runtime)] if by_queue else found


def _queues(runtime: Runtime) -> Part:
    """Tell whether Redis may remove messages that no partner has read; where it is not known, that is no reason to be red."""
    try:
        kept = queue_durability.check_durability(runtime.settings)
    except MessageBrokerDown as down:
        return Part("queues", ok=True, message=f"{down}")
    if kept.danger is not None:
        return Part("queues", ok=False, message=f"{kept.danger}; {queue_durability.REMEDY}")
    return Part("queues", ok=True, message=kept.found)


@dataclass(frozen=True)
class _Watch:
    """Looks for what has lain for `stalled_after` seconds; what sweeps find due they put off by `put_off` each time.

    Of that `stalled` counts for nothing: a message may be under way for as long. A process that is alive is no evidence: only progress is, and only due work that lies shows its absence.
    """

    stalled_after: float
    stalled: float
    put_off: float

    def sweep(self, session: Session) -> Part:
        """Tell whether anybody looks for what has stalled."""
        found = ((Step, _is_ready_step()), (Delivery, self._owed_delivery()))
        forgotten = sum(_count(session, model, owed, self._forgotten(model)) for model, owed in found)
        if forgotten and not any(_any(session, model, owed, self._put_off(model)) for model, owed in found):
            lain = f"{forgotten} steps and deliveries have been due for {self.stalled_after:.0f} s and no worker has looked"
            return Part("sweep", ok=False, message=f"{lain}; check that workers run and reach the database")
        return Part("sweep", ok=True, message="nothing that is due was overlooked")

    def steps(self, session: Session) -> Part:
        """Tell whether steps are made: launched, taken and finished; by the readers of each queue, not of some other."""
        stuck = {queue: waiting for queue in (STEPS, DOCUMENTS) if (waiting := self._steps_stuck(session, queue))}
        if stuck:
            return self._stuck("steps", sum(stuck.values()), f"a worker reads {' and '.join(stuck)}")
        return Part("steps", ok=True, message="nothing is stuck")

    def deliveries(self, session: Session) -> Part:
        """Tell whether messages are sent, or at least tried."""
        waiting = _count(session, Delivery, self._owed_delivery(), self._left_lying(Delivery))
        waiting += self._steps_stuck(session, DELIVERIES)
        if waiting and not _any(session, Attempt, col(Attempt.at) > statement_now(-self.stalled_after)):
            return self._stuck("deliveries", waiting, f"a worker reads {DELIVERIES}")
        return Part("deliveries", ok=True, message="nothing is stuck")

    def intake(self, session: Session) -> Part:
        """Tell whether commands and answers by queue reach the intake, where there is one; by its heartbeats."""
        if heartbeats.missed(session, heartbeats.INTAKE, self.stalled_after):
            message = f"no heartbeat has come through the message broker for {self.stalled_after:.0f} s; check that `intake` runs"
            return Part(
                "intake", ok=False, message=f"{message}, and that the message broker answers and takes messages"
            )
        return Part("intake", ok=True, message="nothing is missed")

    def _steps_stuck(self, session: Session, queue: str) -> int:
        """Return how many steps are left lying whose task messages go to this queue; none where one of them ended lately."""
        waiting = _count(session, Step, _is_ready_step(), _goes_to(queue), self._left_lying(Step))
        # A step that ended, and nothing else: any other fact about an export may be a sender's doing.
        if waiting and not _any(
            session, Step, _goes_to(queue), col(Step.finished_at) > statement_now(-self.stalled_after)
        ):
            return waiting
        return 0

    def _stuck(self, name: str, waiting: int, remedy: str) -> Part:
        message = f"{waiting} have been due and nothing moved for {self.stalled_after:.0f} s; check that {remedy}"
        return Part(name, ok=False, message=f"{message}, and that the message broker answers")

    def _owed_delivery(self) -> ColumnElement[bool]:
        # What waits behind a message that waits for its next try is late once nobody has come to that one for as long.
        return and_(is_claimable(), is_stream_free(self.stalled_after))

    def _forgotten(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # What waits for a message is due again when that has been under way for as long as it may be.
        return col(model.due_at) <= statement_now(self.stalled - self.stalled_after)

    def _put_off(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        lately = col(model.due_at) > statement_now(self.stalled - self.stalled_after)
        return and_(self._within_reach(model), col(model.stalled_since).is_not(None), lately)

    def _left_lying(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        long_since = col(model.stalled_since) <= database_now(self.stalled - self.stalled_after)
        return and_(self._within_reach(model), or_(self._forgotten(model), long_since))

    def _within_reach(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # What a sweep has found due it put off by so much: nothing that is due later matters here, and an index says so.
        return col(model.due_at) <= statement_now(self.put_off)


def _outage(session: Session, stalled_after: float, longest_pause: float) -> Part:
    """Tell whether steps wait for something that is away, and no step of their name was finished for `stalled_after` seconds."""
    put_off = (
        # A try that an outage ended does not count, and nothing else puts a step off without one that counts.
        col(Step.state) == StepState.READY.value,
        col(Step.attempts) == 0,
        col(Step.error).is_not(None),
        col(Step.started_at) <= statement_now(-stalled_after),
        col(Step.due_at) <= statement_now(longest_pause),
        export_is_active(col(Step.export_id)),
    )
    counted = session.execute(select(col(Step.name), func.count()).where(*put_off).group_by(col(Step.name))).all()
    lately = col(Step.finished_at) > statement_now(-stalled_after)
    stuck = {name: count for name, count in counted if not _any(session, Step, col(Step.name) == name, lately)}
    if not stuck:
        return Part("outage", ok=True, message="no step waits for something that is away")
    waiting = f"{sum(stuck.values())} steps ({', '.join(sorted(stuck))}) were put off for {stalled_after:.0f} s"
    remedy = "run `exports doctor` where the workers run: it tries the artifact store and the PDF engine"
    return Part("outage", ok=False, message=f"{waiting} because something that they need is away; {remedy}")


def _is_ready_step() -> ColumnElement[bool]:
    return and_(
        col(Step.state) == StepState.READY.value,
        or_(col(Step.lease_until).is_(None), col(Step.lease_until) <= database_now()),
        export_is_active(col(Step.export_id)),
    )


def _goes_to(queue: str) -> ColumnElement[bool]:
    if queue == STEPS:
        return col(Step.name).not_in(TASK_ROUTES)
    return col(Step.name).in_([name for name, place in TASK_ROUTES.items() if place == queue])


def _count(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0


def _any(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> bool:
    return session.scalar(select(1).select_from(model).where(*conditions).limit(1)) is not None
