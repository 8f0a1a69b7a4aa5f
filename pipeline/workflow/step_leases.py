"""Step leases: who holds a step until when, on the database's clock, with a fence that rejects former holders."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog
from sqlalchemy import ColumnElement, and_, bindparam, exists, func, or_, select, update
from sqlmodel import Session, col

from pipeline.core.db import constants, database_now, index_constant, row_count, table
from pipeline.core.errors import DatabaseBusy, Fenced
from pipeline.core.lease_columns import LEASE_SECONDS, is_free, waits_for_retry
from pipeline.core.leases import LEASE_RENEWER, Lease
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Export, Step
from pipeline.exports.states import ACTIVE_STATES, ExportState, StepState
from pipeline.exports.step_context import FIND_CONTEXT, StepContext, load_context, read_context
from pipeline.workflow.steps import EXPORT_LEVEL, FIRST_UNIT, STEPS, STEPS_BY_NAME

log = structlog.get_logger(__name__)

_exports, _steps = table(Export).c, table(Step).c
_lease_end = database_now(LEASE_SECONDS)

#: The step that the parameters `at_export`, `at_unit` and `at_step` name; see `step_params`.
THIS_STEP: Final = (
    _steps.export_id == bindparam("at_export"),
    _steps.unit_no == bindparam("at_unit"),
    _steps.name == bindparam("at_step"),
)


#: Not the first step of its unit: all queued exports may wait for that. An index finds only these.
IS_LATER_STEP: Final = _steps.name != index_constant(STEPS[0].name)


def has_own_steps(export_id: Any) -> ColumnElement[bool]:
    """Return the condition that an export consists of exactly the steps of this version.

    It is false if another version of the service accepted the export. A worker that claimed such a step would open the
    next one by its own table, and skip steps that it does not know. All units have the same steps, so one unit is
    checked.
    """
    other = table(Step).alias()
    unit_no = other.c.unit_no
    here = and_(other.c.export_id == export_id, or_(unit_no == EXPORT_LEVEL, unit_no == FIRST_UNIT))
    counted = select(func.count()).select_from(other).where(here).scalar_subquery()
    return and_(counted == len(STEPS), ~exists().where(here, other.c.name.not_in(constants(STEPS_BY_NAME))))


def export_is_active(export_id: Any) -> ColumnElement[bool]:
    """Return the condition that the export has not ended; no step of an ended export is started."""
    return exists().where(_exports.id == export_id, _exports.state.in_(constants(ACTIVE_STATES)))


_START: Final = (
    update(table(Export))
    .where(
        _exports.id == bindparam("at_export"),
        _exports.state == ExportState.ACCEPTED.value,
        has_own_steps(bindparam("at_export")),
    )
    .values(state=ExportState.EXECUTING.value, updated_at=database_now())
)

_CLAIM: Final = (
    update(table(Step))
    .where(
        *THIS_STEP,
        _steps.state == StepState.READY.value,
        _steps.due_at.is_not(None),  # else a person holds the handoff
        is_free(_steps, LEASE_SECONDS),
        ~waits_for_retry(_steps),
        export_is_active(bindparam("at_export")),
        has_own_steps(bindparam("at_export")),
    )
    .values(
        fence=_steps.fence + 1,
        attempts=_steps.attempts + 1,
        started_at=func.coalesce(_steps.started_at, database_now()),
        lease_until=_lease_end,
        due_at=_lease_end,
        stalled_since=None,
        error=None,
    )
    .returning(_steps.fence, _steps.attempts)
)

_FIND_UNTRIED: Final = (
    FIND_CONTEXT.add_columns(_steps.fence)
    .join(table(Step), _steps.export_id == _exports.id)
    .where(
        *THIS_STEP,
        _steps.state == StepState.READY.value,
        _steps.attempts == 0,
        _steps.lease_until.is_(None),
        _steps.stalled_since.is_(None),
        _steps.error.is_(None),
        _exports.state.in_(constants(ACTIVE_STATES)),
        has_own_steps(bindparam("at_export")),
    )
)


# Their values, because psycopg would write the name of a member of an enum.
_WAITING, _READY, _DONE = (state.value for state in (StepState.WAITING, StepState.READY, StepState.DONE))

_CHANGE: Final = (
    update(table(Step))
    .where(*THIS_STEP, _steps.state == bindparam("old_state"), _steps.fence == bindparam("old_fence"))
    .values(
        state=bindparam("new_state"),
        fence=bindparam("new_fence"),
        attempts=bindparam("new_attempts"),
        lease_until=database_now(bindparam("lease_seconds")),
        due_at=database_now(bindparam("due_seconds")),
        started_at=func.coalesce(_steps.started_at, database_now(bindparam("started_seconds"))),
        finished_at=database_now(bindparam("finished_seconds")),
        error=None,
    )
)


@dataclass(frozen=True)
class StepChange:
    """The parameters of _CHANGE for one step. Seconds are counted from the statement; None leaves the instant empty."""

    at_unit: int
    at_step: str
    old_state: str
    new_state: str
    old_fence: int = 0
    new_fence: int = 0
    new_attempts: int = 0
    lease_seconds: float | None = None
    due_seconds: float | None = None
    started_seconds: float | None = None
    finished_seconds: float | None = None

    @classmethod
    def finish(cls, context: StepContext, seconds: float) -> Self:
        """Return the change of a step to done; without a claim, it is claimed now, and took `seconds`."""
        claims = context.attempt == 0
        return cls(
            context.unit_no,
            context.step,
            _READY,
            _DONE,
            old_fence=context.fence,
            new_fence=context.fence + claims,
            new_attempts=context.attempt + claims,
            started_seconds=-seconds,
            finished_seconds=0,
        )

    @classmethod
    def pass_through(cls, unit_no: int, step: str, seconds: float) -> Self:
        """Return the change of a step to done in the transaction that opens it; it took `seconds`."""
        return cls(unit_no, step, _WAITING, _DONE, 0, 1, 1, started_seconds=-seconds, finished_seconds=0)

    @classmethod
    def open(cls, unit_no: int, step: str, due_seconds: float | None) -> Self:
        """Return the change of a step to ready, due in `due_seconds`; None: when the hold of the handoff is released."""
        return cls(unit_no, step, _WAITING, _READY, due_seconds=due_seconds)

    @classmethod
    def open_and_claim(cls, unit_no: int, step: str, lease_seconds: float) -> Self:
        """Return the change of a step to ready and leased to the caller. No other worker can have seen it ready."""
        return cls(unit_no, step, _WAITING, _READY, 0, 1, 1, lease_seconds, lease_seconds, started_seconds=0)


def change_steps(session: Session, export_id: str, changes: Sequence[StepChange]) -> None:
    """Change the steps. Raise Fenced if one of them is not as the change expects it."""
    rows = [{"at_export": export_id} | vars(each) for each in changes]
    if row_count(session.execute(_CHANGE, rows)) != len(rows):
        raise Fenced


def find_untried_step(session: Session, export_id: str, unit_no: int, name: str) -> StepContext | None:
    """Return a step that may be done in this transaction without a claim; None if it was tried, or is not ready.

    Nothing is locked: `change_steps` raises Fenced if another worker was faster.
    """
    here = {"of_export": export_id, "of_unit": unit_no} | step_params(export_id, unit_no, name)
    row = session.execute(_FIND_UNTRIED, here).first()
    return None if row is None else read_context(row, step=name, fence=row.fence, attempt=0)


def claim_step(runtime: Runtime, export_id: str, unit_no: int, name: str) -> StepContext | None:
    """Claim the step's lease (database time). Return None if the step is done, leased or not due, or its export ended.

    With the first step of a unit, the export is executing from now on. An export with other steps than this version's is
    left to workers of its version.
    """
    here = step_params(export_id, unit_no, name)
    with runtime.db.write() as session:
        if name == STEPS[0].name:
            session.execute(_START, here)
        row = session.execute(_CLAIM, here | {"lease_seconds": runtime.settings.lease_seconds}).first()
        if row is None:
            return None
        return load_context(session, export_id, unit_no=unit_no, step=name, fence=row.fence, attempt=row.attempts)


def release_step(runtime: Runtime, context: StepContext) -> None:
    """Release a claimed step without counting the attempt, so that another worker may claim it at once.

    If the database does not answer, the lease of the step expires.
    """
    held = (*context_where(context), col(Step.fence) == context.fence, col(Step.state) == StepState.READY.value)
    released = update(Step).where(*held)
    try:
        with runtime.db.write() as session:
            session.execute(released.values(attempts=col(Step.attempts) - 1, lease_until=None, due_at=database_now()))
    except DatabaseBusy:
        log.warning("step_not_released")
    else:
        log.info("step_released")


def hold_lease(runtime: Runtime, context: StepContext) -> AbstractContextManager[Lease]:
    """Renew the lease while the block runs, so that a long step does not look abandoned."""
    lease = runtime.settings.lease_seconds

    def renew() -> bool:
        with runtime.db.write() as session:
            renewed = session.execute(
                update(Step)
                .where(
                    *context_where(context), col(Step.fence) == context.fence, col(Step.state) == StepState.READY.value
                )
                .values(lease_until=database_now(lease), due_at=database_now(lease))
            )
            return row_count(renewed) == 1

    return LEASE_RENEWER.hold(lease, renew, export_id=context.export_id, step=context.step)


def holds_lease(runtime: Runtime, context: StepContext) -> bool:
    """Return whether the caller still holds the step."""
    with runtime.db.read() as session:
        row = session.execute(select(col(Step.state), col(Step.fence)).where(*context_where(context))).one()
    return bool(row.state == StepState.READY.value and row.fence == context.fence)


def step_where(export_id: str, unit_no: int, name: str) -> tuple[ColumnElement[bool], ...]:
    """Return the condition that selects one step."""
    return col(Step.export_id) == export_id, col(Step.unit_no) == unit_no, col(Step.name) == name


def step_params(export_id: str, unit_no: int, name: str) -> dict[str, Any]:
    """Return the parameters that select one step in a statement on THIS_STEP."""
    return {"at_export": export_id, "at_unit": unit_no, "at_step": name}


def context_where(context: StepContext) -> tuple[ColumnElement[bool], ...]:
    """Return the condition that selects the context's step."""
    return step_where(context.export_id, context.unit_no, context.step)
