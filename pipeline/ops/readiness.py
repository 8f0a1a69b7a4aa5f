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
from pipeline.ops.migrations.runner import SchemaStatus, schema_status
from pipeline.workflow.step_failures import MAX_RETRY_PAUSE_SECONDS
from pipeline.workflow.step_leases import export_is_active

#: How long due work may lie while nothing moves before somebody should be woken.
STALLED_AFTER_SECONDS: Final = 60


@dataclass(frozen=True)
class ServicePart:
    """One part of the service and how it is, in words."""

    name: str
    ok: bool
    message: str


def check_parts(runtime: Runtime, *, stalled_after_seconds: float = STALLED_AFTER_SECONDS) -> list[ServicePart]:
    """Return every part; where the database does not answer, nothing else is known."""
    try:
        status = schema_status(runtime.db)
        if status is SchemaStatus.BEHIND:
            return [
                ServicePart("database", ok=False, message="its tables are not this version's; run `exports migrate`")
            ]
        # Red would take every process of the older version away before one of the newer is there.
        table_version = (
            "this version's" if status is SchemaStatus.CURRENT else "a newer version's; replace this process"
        )
        sweep_delay = runtime.settings.stalled_seconds
        checks = _ProgressChecks(stalled_after_seconds, min(sweep_delay, stalled_after_seconds / 2), sweep_delay)
        longest_pause = max(runtime.settings.step_retry_seconds, MAX_RETRY_PAUSE_SECONDS)
        on_redis = runtime.settings.message_broker == "redis"
        with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
            check_queues = on_redis and recipients.has_queue_recipients(session)
            service_parts = [
                ServicePart("database", ok=True, message=f"answers, and its tables are {table_version}"),
                checks.check_sweep(session),
                checks.check_steps(session),
                checks.check_deliveries(session),
                _check_outage(session, stalled_after_seconds, longest_pause),
                *([] if runtime.settings.embedded else [checks.check_intake(session)]),
            ]
    except DatabaseBusy as busy:
        return [ServicePart("database", ok=False, message=f"{busy}; check DATABASE_URL and the server")]
    # No transaction is open while Redis is asked.
    return [*service_parts, _check_queues(runtime)] if check_queues else service_parts


def _check_queues(runtime: Runtime) -> ServicePart:
    """Tell whether Redis may remove messages that no partner has read; where it is not known, that is no reason to be red."""
    try:
        durability = queue_durability.check_durability(runtime.settings)
    except MessageBrokerDown as down:
        return ServicePart("queues", ok=True, message=f"{down}")
    if durability.danger is not None:
        return ServicePart("queues", ok=False, message=f"{durability.danger}; {queue_durability.REMEDY}")
    return ServicePart("queues", ok=True, message=durability.found)


@dataclass(frozen=True)
class _ProgressChecks:
    """Looks for what has lain for `stalled_after` seconds; what sweeps find due they put off by `sweep_delay` each time.

    Of that `stalled` counts for nothing: a message may be under way for as long. A process that is alive is no evidence: only progress is, and only due work that lies shows its absence.
    """

    stalled_after: float
    stalled: float
    sweep_delay: float

    def check_sweep(self, session: Session) -> ServicePart:
        """Tell whether anybody looks for what has stalled."""
        work = ((Step, _is_ready_step()), (Delivery, self._delivery_is_pending()))
        overdue = sum(_count(session, model, is_pending, self._is_overdue(model)) for model, is_pending in work)
        if overdue and not any(_any(session, model, is_pending, self._was_swept(model)) for model, is_pending in work):
            message = (
                f"{overdue} steps and deliveries have been due for {self.stalled_after:.0f} s and no worker has looked"
            )
            return ServicePart("sweep", ok=False, message=f"{message}; check that workers run and reach the database")
        return ServicePart("sweep", ok=True, message="nothing that is due was overlooked")

    def check_steps(self, session: Session) -> ServicePart:
        """Tell whether steps are made: launched, taken and finished; by the readers of each queue, not of some other."""
        stuck = {queue: waiting for queue in (STEPS, DOCUMENTS) if (waiting := self._count_stuck_steps(session, queue))}
        if stuck:
            return self._stuck_part("steps", sum(stuck.values()), f"a worker reads {' and '.join(stuck)}")
        return ServicePart("steps", ok=True, message="nothing is stuck")

    def check_deliveries(self, session: Session) -> ServicePart:
        """Tell whether messages are sent, or at least tried."""
        waiting = _count(session, Delivery, self._delivery_is_pending(), self._is_stuck(Delivery))
        waiting += self._count_stuck_steps(session, DELIVERIES)
        if waiting and not _any(session, Attempt, col(Attempt.at) > statement_now(-self.stalled_after)):
            return self._stuck_part("deliveries", waiting, f"a worker reads {DELIVERIES}")
        return ServicePart("deliveries", ok=True, message="nothing is stuck")

    def check_intake(self, session: Session) -> ServicePart:
        """Tell whether commands and answers by queue reach the intake, where there is one; by its heartbeats."""
        if heartbeats.missed(session, heartbeats.INTAKE, self.stalled_after):
            message = f"no heartbeat has come through the message broker for {self.stalled_after:.0f} s; check that `intake` runs"
            return ServicePart(
                "intake", ok=False, message=f"{message}, and that the message broker answers and takes messages"
            )
        return ServicePart("intake", ok=True, message="nothing is missed")

    def _count_stuck_steps(self, session: Session, queue: str) -> int:
        """Return how many steps are left lying whose task messages go to this queue; none where one of them ended lately."""
        waiting = _count(session, Step, _is_ready_step(), _is_routed_to(queue), self._is_stuck(Step))
        # A step that ended, and nothing else: any other fact about an export may be a sender's doing.
        if waiting and not _any(
            session, Step, _is_routed_to(queue), col(Step.finished_at) > statement_now(-self.stalled_after)
        ):
            return waiting
        return 0

    def _stuck_part(self, name: str, waiting: int, remedy: str) -> ServicePart:
        message = f"{waiting} have been due and nothing moved for {self.stalled_after:.0f} s; check that {remedy}"
        return ServicePart(name, ok=False, message=f"{message}, and that the message broker answers")

    def _delivery_is_pending(self) -> ColumnElement[bool]:
        # What waits behind a message that waits for its next try is late once nobody has come to that one for as long.
        return and_(is_claimable(), is_stream_free(self.stalled_after))

    def _is_overdue(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # What waits for a message is due again when that has been under way for as long as it may be.
        return col(model.due_at) <= statement_now(self.stalled - self.stalled_after)

    def _was_swept(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        due_recently = col(model.due_at) > statement_now(self.stalled - self.stalled_after)
        return and_(self._is_due_soon(model), col(model.stalled_since).is_not(None), due_recently)

    def _is_stuck(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        stalled_long = col(model.stalled_since) <= database_now(self.stalled - self.stalled_after)
        return and_(self._is_due_soon(model), or_(self._is_overdue(model), stalled_long))

    def _is_due_soon(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # What a sweep has found due it put off by so much: nothing that is due later matters here, and an index says so.
        return col(model.due_at) <= statement_now(self.sweep_delay)


def _check_outage(session: Session, stalled_after: float, longest_pause: float) -> ServicePart:
    """Tell whether steps wait for something that is away, and no step of their name was finished for `stalled_after` seconds."""
    is_retrying = (
        # A try that an outage ended does not count, and nothing else puts a step off without one that counts.
        col(Step.state) == StepState.READY.value,
        col(Step.attempts) == 0,
        col(Step.error).is_not(None),
        col(Step.started_at) <= statement_now(-stalled_after),
        col(Step.due_at) <= statement_now(longest_pause),
        export_is_active(col(Step.export_id)),
    )
    counted = session.execute(select(col(Step.name), func.count()).where(*is_retrying).group_by(col(Step.name))).all()
    finished_recently = col(Step.finished_at) > statement_now(-stalled_after)
    stuck = {
        name: count for name, count in counted if not _any(session, Step, col(Step.name) == name, finished_recently)
    }
    if not stuck:
        return ServicePart("outage", ok=True, message="no step waits for something that is away")
    waiting = f"{sum(stuck.values())} steps ({', '.join(sorted(stuck))}) were put off for {stalled_after:.0f} s"
    remedy = "run `exports doctor` where the workers run: it tries the artifact store and the PDF engine"
    return ServicePart("outage", ok=False, message=f"{waiting} because something that they need is away; {remedy}")


def _is_ready_step() -> ColumnElement[bool]:
    return and_(
        col(Step.state) == StepState.READY.value,
        or_(col(Step.lease_until).is_(None), col(Step.lease_until) <= database_now()),
        export_is_active(col(Step.export_id)),
    )


def _is_routed_to(queue: str) -> ColumnElement[bool]:
    if queue == STEPS:
        return col(Step.name).not_in(TASK_ROUTES)
    return col(Step.name).in_([name for name, target in TASK_ROUTES.items() if target == queue])


def _count(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0


def _any(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> bool:
    return session.scalar(select(1).select_from(model).where(*conditions).limit(1)) is not None
