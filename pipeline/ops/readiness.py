"""Readiness: whether due work makes progress, judged by the database, its tables and the workers' progress."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, SQLModel, col, select

from config.queues import BACKLOG, DELIVERIES, DOCUMENTS, LARGE, STEPS
from pipeline.accounts import recipients
from pipeline.core import heartbeats, installation, process_version, tenancy
from pipeline.core.db import database_now, index_constant, statement_now, table
from pipeline.core.errors import DatabaseBusy, MessageBrokerDown
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.customs import rules_reader, rulesets
from pipeline.deliveries.channels import queue_durability
from pipeline.deliveries.models import Attempt, Delivery
from pipeline.deliveries.streams.due_streams import is_claimable
from pipeline.deliveries.streams.streams import is_stream_free
from pipeline.exports.models import Step
from pipeline.exports.states import StepState
from pipeline.ops.migrations.runner import SchemaStatus, schema_status
from pipeline.workflow.step_failures import MAX_RETRY_PAUSE_SECONDS
from pipeline.workflow.step_leases import IS_LATER_STEP, export_is_active
from pipeline.workflow.steps import STEPS_BY_NAME

#: How long due work may make no progress before the service reports that it is not ready.
STALLED_AFTER_SECONDS: Final = 60


_LARGE: Final = table(Step).c.large
#: part -> its section of docs/runbook.md
_RUNBOOK_SECTIONS: Final = {
    "database": "database-does-not-answer",
    "sweep": "no-worker-sweeps",
    "steps": "work-is-late",
    "deliveries": "work-is-late",
    "outage": "steps-fail",
    "intake": "intake-refuses-messages-or-does-not-run",
    "rules": "customs-rules-are-old",
    "installation": "database-belongs-to-another-installation",
    "queues": "message-broker-does-not-answer",
    "version": "another-version-is-installed",
}


@dataclass(frozen=True)
class ServicePart:
    """One part of the service, and its state as a sentence."""

    name: str
    ok: bool
    message: str

    @property
    def runbook(self) -> str:
        """The section of the runbook that says what to do if it fails."""
        return f"docs/runbook.md#{_RUNBOOK_SECTIONS[self.name]}"


def check_parts(runtime: Runtime, *, stalled_after_seconds: float = STALLED_AFTER_SECONDS) -> list[ServicePart]:
    """Return the state of every part; only the database's if the database does not answer or is not migrated."""
    try:
        status = schema_status(runtime.db)
        if status is SchemaStatus.BEHIND:
            return [
                ServicePart(
                    "database",
                    ok=False,
                    message="its tables are missing or older than this version; run `exports migrate`",
                )
            ]
        # Newer tables must not fail readiness: all old processes would be removed before the first new one starts.
        table_version = (
            "this version's" if status is SchemaStatus.CURRENT else "of a newer version; replace this process"
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
                _check_installation(runtime, session),
                _describe_rules(runtime, session),
                _check_version(),
            ]
    except DatabaseBusy as busy:
        return [ServicePart("database", ok=False, message=f"{busy}; check DATABASE_URL and the server")]
    # Redis is queried only after the transaction has ended.
    return [*service_parts, _check_queues(runtime)] if check_queues else service_parts


def _check_installation(runtime: Runtime, session: Session) -> ServicePart:
    """Check whether the database is this installation's own, and no copy of another's."""
    problem = installation.find_problem(session, runtime.settings)
    if problem is not None:
        return ServicePart("installation", ok=False, message=f"{problem}; {installation.REMEDY}")
    return ServicePart("installation", ok=True, message="the database belongs to no other installation")


def _describe_rules(runtime: Runtime, session: Session) -> ServicePart:
    """Say how old the active rules are. Old or refused rules need a person, but the process works on."""
    message = rulesets.describe_active(session, runtime.clock().date()) or "the rules of this version"
    if rules_reader.find_problem(runtime) is not None:
        # Anybody may read it, and the problem names files.
        message += "; this process refused those at EXPORTS_RULES: see `exports doctor` or the console"
    return ServicePart("rules", ok=True, message=message)


def _check_version() -> ServicePart:
    """Check whether the files of this process were replaced by those of another version."""
    other = process_version.find_other()
    message = (
        "this process runs the installed version"
        if other is None
        else f"this process is version {process_version.OWN}, and the installed one is {other}; restart it"
    )
    return ServicePart("version", ok=other is None, message=message)


def _check_queues(runtime: Runtime) -> ServicePart:
    """Check whether Redis may remove messages that no partner has read; the part stays ok if that is unknown."""
    try:
        durability = queue_durability.check_durability(runtime.settings)
    except MessageBrokerDown as down:
        return ServicePart("queues", ok=True, message=f"{down}")
    if durability.danger is not None:
        return ServicePart("queues", ok=False, message=f"{durability.danger}; {queue_durability.REMEDY}")
    return ServicePart("queues", ok=True, message=durability.found)


@dataclass(frozen=True)
class _ProgressChecks:
    """Detects work that has been due for `stalled_after` seconds; a sweep moves due work by `sweep_delay`.

    `stalled` seconds do not count, because a message may be in a queue for that long. Readiness is judged by progress,
    not by live processes.
    """

    stalled_after: float
    stalled: float
    sweep_delay: float

    def check_sweep(self, session: Session) -> ServicePart:
        """Check whether a sweeper looks for stalled work."""
        work = ((Step, _is_ready_step()), (Delivery, self._delivery_is_pending()))
        overdue = any(_any(session, model, is_pending, self._is_overdue(model)) for model, is_pending in work)
        if overdue and not any(_any(session, model, is_pending, self._was_swept(model)) for model, is_pending in work):
            message = f"steps or deliveries have been due for {self.stalled_after:.0f} s, and no sweep found them"
            return ServicePart("sweep", ok=False, message=f"{message}; check that workers run and reach the database")
        return ServicePart("sweep", ok=True, message="sweeps find all due work")

    def check_steps(self, session: Session) -> ServicePart:
        """Check for each queue whether its workers finish steps."""
        stuck = [queue for queue in (STEPS, DOCUMENTS, LARGE) if self._has_stuck_steps(session, queue)]
        if stuck:
            readers = [f"{queue}, {BACKLOG}" if queue == STEPS else queue for queue in stuck]
            return self._stuck_part("steps", f"a worker consumes {' and '.join(readers)}")
        return ServicePart("steps", ok=True, message="nothing is stuck")

    def check_deliveries(self, session: Session) -> ServicePart:
        """Check whether deliveries are attempted."""
        stuck = self._is_any_stuck(session, Delivery, self._delivery_is_pending())
        stuck = stuck or self._has_stuck_steps(session, DELIVERIES)
        if stuck and not _any(session, Attempt, col(Attempt.at) > statement_now(-self.stalled_after)):
            return self._stuck_part("deliveries", f"a worker consumes {DELIVERIES}")
        return ServicePart("deliveries", ok=True, message="nothing is stuck")

    def check_intake(self, session: Session) -> ServicePart:
        """Check by heartbeats whether commands and answers by queue reach the intake, if there is one."""
        if heartbeats.missed(session, heartbeats.INTAKE, self.stalled_after):
            message = (
                f"no heartbeat came through the message broker for {self.stalled_after:.0f} s; check that `intake` runs"
            )
            return ServicePart(
                "intake", ok=False, message=f"{message}, and that the message broker answers and accepts messages"
            )
        return ServicePart("intake", ok=True, message="no heartbeat is missing")

    def _has_stuck_steps(self, session: Session, queue: str) -> bool:
        """Return whether a step that this queue serves is stuck, and none of the queue finished recently."""
        # Only a finished step counts as progress: a delivery worker may have written any other fact of an export. It is
        # looked for first, because the steps of another queue may be many.
        finished = col(Step.finished_at) > statement_now(-self.stalled_after)
        if _any(session, Step, _is_routed_to(queue), finished):
            return False
        # The documents of a large unit may take longer than `stalled_after`; its worker renews the lease meanwhile.
        held = (col(Step.state) == index_constant(StepState.READY), col(Step.lease_until) > database_now())
        # The due time, which finds them by an index, is the end of the lease.
        if queue == LARGE and _any(session, Step, _LARGE, *held, col(Step.due_at) > statement_now()):
            return False
        return self._is_any_stuck(session, Step, _is_ready_step(), _is_routed_to(queue))

    def _stuck_part(self, name: str, remedy: str) -> ServicePart:
        message = f"{name} have been due without progress for {self.stalled_after:.0f} s; check that {remedy}"
        return ServicePart(name, ok=False, message=f"{message}, and that the message broker answers")

    def _delivery_is_pending(self) -> ColumnElement[bool]:
        # A delivery behind one that waits for its retry is late only if that one has been due for as long.
        return and_(is_claimable(), is_stream_free(seconds=self.stalled_after))

    def _is_overdue(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # Work with a task message in a queue is due again after `stalled` seconds.
        return col(model.due_at) <= statement_now(self.stalled - self.stalled_after)

    def _was_swept(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        due_recently = col(model.due_at) > statement_now(self.stalled - self.stalled_after)
        return and_(self._is_due_soon(model), col(model.stalled_since).is_not(None), due_recently)

    def _is_any_stuck(self, session: Session, model: type[Step | Delivery], *conditions: ColumnElement[bool]) -> bool:
        # Two queries, each with its index: with OR, all work that is due soon would be read.
        stalled_long = col(model.stalled_since) <= statement_now(self.stalled - self.stalled_after)
        return _any(session, model, *conditions, self._is_overdue(model)) or _any(
            session, model, *conditions, self._is_due_soon(model), stalled_long
        )

    def _is_due_soon(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # A sweep moves due work by at most `sweep_delay`, so work that is due later is irrelevant. An index covers
        # this.
        return col(model.due_at) <= statement_now(self.sweep_delay)


def _check_outage(session: Session, stalled_after: float, longest_pause: float) -> ServicePart:
    """Check whether steps wait for an outage to end, and none of that name finished for `stalled_after` seconds."""
    is_retrying = (
        # Only an outage postpones a step without counting an attempt.
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
        return ServicePart("outage", ok=True, message="no step waits for an outage to end")
    waiting = f"{sum(stuck.values())} steps ({', '.join(sorted(stuck))}) have failed for {stalled_after:.0f} s"
    remedy = "run `exports doctor` where the workers run: it checks the artifact store and the PDF engine"
    return ServicePart(
        "outage", ok=False, message=f"{waiting} because something that they need does not answer; {remedy}"
    )


def _is_ready_step() -> ColumnElement[bool]:
    return and_(
        col(Step.state) == index_constant(StepState.READY),
        or_(col(Step.lease_until).is_(None), col(Step.lease_until) <= database_now()),
        export_is_active(col(Step.export_id)),
    )


def _is_routed_to(queue: str) -> ColumnElement[bool]:
    if queue == LARGE:
        return _LARGE
    if queue == STEPS:
        return and_(
            col(Step.name).not_in([name for name, spec in STEPS_BY_NAME.items() if spec.queue != queue]), ~_LARGE
        )
    routed = [name for name, spec in STEPS_BY_NAME.items() if spec.queue == queue]
    return and_(col(Step.name).in_(routed), IS_LATER_STEP, ~_LARGE)


def _any(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> bool:
    return session.scalar(select(1).select_from(model).where(*conditions).limit(1)) is not None
