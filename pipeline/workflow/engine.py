"""The engine: STEPS is the pipeline as a table, and run_step() executes one step exactly once."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from pipeline.core import shutdown
from pipeline.core.db import constants, database_now, row_count, table
from pipeline.core.errors import DatabaseBusy, Fenced, Stopped, Terminal, WorkerLost
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.core.watchdog import WATCHDOG
from pipeline.deliveries import outbox
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, Step
from pipeline.exports.states import ExportState, StepState
from pipeline.exports.step_context import StepContext
from pipeline.exports.transitions import transition_export
from pipeline.workflow import step_failures
from pipeline.workflow.step_leases import (
    EXPORT_LEVEL,
    THIS_STEP,
    claim_opened_step,
    claim_step,
    hold_lease,
    holds_lease,
    release_step,
    step_params,
)
from pipeline.workflow.steps import (
    NOTIFY_STEPS,
    STEPS,
    STEPS_BY_NAME,
    StepResult,
    StepSpec,
    TaskMessage,
    export_where,
    stream_tasks,
)

log = structlog.get_logger(__name__)

_exports, _steps = table(Export).c, table(Step).c
_COUNT_OPEN_UNITS: Final = select(_exports.units_total - _exports.units_closed).where(export_where)

_MARK_DONE: Final = (
    update(table(Step))
    .where(*THIS_STEP, _steps.state == StepState.READY.value, _steps.fence == bindparam("held_fence"))
    .values(state=StepState.DONE.value, lease_until=None, due_at=None, finished_at=database_now(), error=None)
)
_MARK_READY: Final = (
    update(table(Step))
    .where(
        _steps.export_id == bindparam("of_export"),
        _steps.unit_no == bindparam("of_unit"),
        _steps.name.in_(bindparam("opened", expanding=True)),
        _steps.state == StepState.WAITING.value,
    )
    .values(state=StepState.READY.value, due_at=database_now(bindparam("seconds")))
)
_COUNT_UNNOTIFIED: Final = (
    select(func.count())
    .select_from(table(Step))
    .where(
        _steps.export_id == bindparam("of_export"),
        _steps.name.in_(constants(NOTIFY_STEPS)),
        _steps.state != StepState.DONE.value,
    )
)

_RENDERER: Final = threading.RLock()


def run_step(runtime: Runtime, export_id: str, unit_no: int, name: str) -> StepResult:
    """Run the step `name` and the cheap ones after it; return what was done.

    Does nothing if the step is done, leased, not yet opened, or its export has ended. So a lost, doubled or reordered
    message changes nothing. A failure is recorded and the step is retried later. The export fails after the maximum of
    attempts, or at once if a retry cannot help. It is quarantined if the step killed its worker or the renderer, or
    raised an unknown error. An outage of the database or of the document store does not count as an attempt: the step
    is retried for as long as the outage lasts.

    If this process is asked to stop, it releases steps that were not started or can be interrupted. That does not count
    as an attempt.
    """
    # A process has one renderer. A step that waits for it is not claimed yet, so a crash blames only the step that
    # renders.
    with _RENDERER if STEPS_BY_NAME[name].needs_renderer else nullcontext():
        return _run(runtime, export_id, unit_no, name)


def _run(runtime: Runtime, export_id: str, unit_no: int, name: str) -> StepResult:
    context = claim_step(
        runtime, export_id, unit_no, name, starts_export=name == STEPS[0].name, step_names=STEPS_BY_NAME
    )
    completed: list[str] = []
    tasks: list[TaskMessage] = []
    while context is not None:
        held_step = context
        with structlog.contextvars.bound_contextvars(export_id=export_id, unit_no=context.unit_no, step=context.step):
            try:
                finished = _execute(runtime, held_step)
            except Fenced:
                log.warning("step_fenced", fence=held_step.fence)
                return StepResult(tuple(completed), tuple(tasks), halted=True)
            except Stopped:
                _release_step(runtime, held_step)
                return StepResult(
                    tuple(completed), (*tasks, TaskMessage(export_id, held_step.unit_no, held_step.step)), halted=True
                )
            except Exception as error:  # noqa: BLE001 - every error of a step is recorded as its failure
                tasks += stream_tasks(step_failures.record_failure(runtime, held_step, error))
                return StepResult(tuple(completed), tuple(tasks), halted=True)
        completed += [spec.name for spec in finished.steps]
        tasks += finished.tasks
        context = finished.following
    return StepResult(tuple(completed), tuple(tasks), halted=not completed)


@dataclass
class _Finished:
    """The steps of one transaction, the tasks that they opened, and the claimed step that this worker runs next."""

    steps: list[StepSpec] = field(default_factory=list)
    tasks: list[TaskMessage] = field(default_factory=list)
    following: StepContext | None = None


def _execute(runtime: Runtime, context: StepContext) -> _Finished:
    """Execute one claimed step, and those after it that need no preparation."""
    spec = STEPS_BY_NAME[context.step]
    if context.attempt > runtime.settings.step_max_attempts:
        attempts = context.attempt - 1
        raise WorkerLost(
            f"{spec.name} was started {attempts} times, and its worker died each time without recording a reason: it was"
            " killed, crashed, or ran out of memory or time; see the workers' logs of that time",
            attempts,
        )
    shutdown.raise_if_requested()
    _begin(spec)
    # The recipients decide how long sending takes, and each send has its own limit.
    bounded = nullcontext() if spec.name in NOTIFY_STEPS else WATCHDOG.limit(runtime.settings.step_timeout_seconds)
    prepared = None
    try:
        with bounded:
            if spec.prepare is not None:
                with hold_lease(runtime, context):
                    prepared = spec.prepare(runtime, context)
            finished = _finish(runtime, context, prepared)
    except IntegrityError as error:
        # A worker with a newer fence may have written the same rows. Otherwise the facts collide, and a person must
        # decide.
        if not holds_lease(runtime, context):
            raise Fenced from error
        raise Terminal(f"{spec.name} collides with recorded data: {str(error.orig).splitlines()[0]}") from error
    for spec in finished.steps:
        failpoint(f"{spec.name}.after")
        log.info("step_done", step=spec.name, attempt=context.attempt)
    return finished


def _begin(spec: StepSpec) -> None:
    failpoint(f"{spec.name}.before")


def _finish(runtime: Runtime, context: StepContext, prepared: Any) -> _Finished:
    """Commit the step together with those after it that need no preparation.

    If one of the later steps fails, only the first is committed; the later one then fails by itself.
    """
    # Once a worker was lost, each step has its own transaction: otherwise the first would get the blame for all.
    together = context.attempt == 1
    while True:
        finished = _Finished()
        try:
            with runtime.db.write() as session:
                _commit(session, runtime, context, prepared, finished, together=together)
        except (Fenced, DatabaseBusy):
            raise
        except Exception:
            if not together or not finished.steps:
                raise
            log.warning("steps_separated", exc_info=True)
            together = False
        else:
            return finished


def _release_step(runtime: Runtime, context: StepContext) -> None:
    try:
        release_step(runtime, context)
    except DatabaseBusy:
        log.warning("step_not_released")  # its lease will expire
    else:
        log.info("step_released")


def _commit(
    session: Session, runtime: Runtime, context: StepContext, prepared: Any, finished: _Finished, *, together: bool
) -> None:
    """Write the step's result and open the next steps; `together` does those at once that need no preparation."""
    # All transactions lock in this order: the step's own new rows, the export's row, the rows of its steps. A later step
    # of the same transaction holds the export's row already, and its own new rows are of the same export.
    spec, export_id = STEPS_BY_NAME[context.step], context.export_id
    happened = spec.write(session, context, prepared)
    events.append(session, export_id, context.step, happened)
    here = step_params(export_id, context.unit_no, context.step)
    if row_count(session.execute(_MARK_DONE, here | {"held_fence": context.fence})) != 1:
        raise Fenced
    failpoint(f"{spec.name}.mid")
    finished.steps.append(spec)
    if spec.name in NOTIFY_STEPS:
        finished.tasks += stream_tasks(prepared or ()) + _complete_if_last(session, context)
        return
    unit_no = context.unit_no if spec.per_unit else EXPORT_LEVEL
    if spec.name == "close_unit":
        unit_no = EXPORT_LEVEL
        if session.scalar(_COUNT_OPEN_UNITS, {"of_export": export_id}):
            return
    opened = []
    for following in map(STEPS_BY_NAME.__getitem__, spec.opens):
        at_once = together and following.prepare is None
        if not at_once and not spec.continues_inline:
            opened.append(following.name)
        elif (claimed := claim_opened_step(session, runtime, context, unit_no, following.name)) is None:
            # Another unit has failed: the next step becomes ready, but starts only after a person retries the export.
            opened.append(following.name)
        elif at_once:
            _begin(following)
            _commit(session, runtime, claimed, None, finished, together=True)
        else:
            finished.following = claimed
    if not opened:
        return
    session.execute(
        _MARK_READY,
        {"of_export": export_id, "of_unit": unit_no, "opened": opened, "seconds": runtime.settings.stalled_seconds},
    )
    # Within a unit the caller's chain continues by itself; the worker that handed off publishes the notify steps.
    if not spec.per_unit:
        finished.tasks += [TaskMessage(export_id, step=name) for name in opened]


def _complete_if_last(session: Session, context: StepContext) -> list[TaskMessage]:
    # The event above has locked the export's row, so the three notify steps are counted one after another.
    if session.scalar(_COUNT_UNNOTIFIED, {"of_export": context.export_id}):
        return []
    transition_export(session, context.export_id, ExportState.EXECUTED)
    events.append(session, context.export_id, context.step, [NewEvent(EventType.EXPORT_EXECUTED)])
    return _release_deliveries(session, context.export_id)


def _release_deliveries(session: Session, export_id: str) -> list[TaskMessage]:
    return stream_tasks(outbox.release_waiting(session, export_id))
