"""The engine: STEPS is the pipeline as a table, and run_step() executes one step exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from config.settings import Settings
from pipeline.core import shutdown
from pipeline.core.db import constants, table
from pipeline.core.errors import DatabaseBusy, Fenced, Stopped, Terminal, WorkerLost
from pipeline.core.failpoints import failpoint
from pipeline.core.metrics import count, observe
from pipeline.core.runtime import Runtime
from pipeline.core.watchdog import WATCHDOG
from pipeline.deliveries.streams import attempts, sender, streams
from pipeline.deliveries.streams.held_streams import HeldStreams
from pipeline.deliveries.streams.sender import Sending
from pipeline.deliveries.streams.streams import StreamLease
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.metrics import FAILED, FENCED, LEASES_LOST, RELEASED, RETRIED, STEP, STEP_SECONDS
from pipeline.exports.models import Step
from pipeline.exports.states import ACTIVE_STATES, ExportState, StepState
from pipeline.exports.step_context import StepContext
from pipeline.exports.transitions import transition_export
from pipeline.workflow import step_failures
from pipeline.workflow.step_leases import (
    EXPORT_LEVEL,
    StepChange,
    change_steps,
    claim_step,
    find_untried_step,
    hold_lease,
    holds_lease,
    release_step,
)
from pipeline.workflow.step_spans import DoneStep, record_passed, report_done, trace_step
from pipeline.workflow.steps import (
    CLOSE_UNIT,
    HAND_OFF,
    NOTIFY_STEPS,
    STEPS,
    STEPS_BY_NAME,
    StepResult,
    StepSpec,
    TaskMessage,
    begin_step,
    prepare_steps,
    steps_at_once,
    stream_tasks,
    write_step,
)

log = structlog.get_logger(__name__)

_steps = table(Step).c
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


class _ExportEnded(Exception):
    """The export ended during the transaction, so no further step may start in it."""


def run_step(
    runtime: Runtime, export_id: str, unit_no: int, name: str, *, redelivered: bool = False, renders: bool = True
) -> StepResult:
    """Run the step `name` and the cheap ones after it; return what was done.

    Does nothing if the step is done, leased, not yet opened, or its export has ended. So a lost, doubled or reordered
    message changes nothing. A failure is recorded and the step is retried later. The export fails after the maximum of
    attempts, or at once if a retry cannot help. It is quarantined if the step killed its worker or the renderer, or
    raised an unknown error. An outage of the database or of the document store does not count as an attempt: the step
    is retried for as long as the outage lasts.

    If this process is asked to stop, it releases steps that were not started or can be interrupted. That does not count
    as an attempt. `redelivered` says that another worker got the same message, and may have died of it. `renders` says
    that this process may go on with documents.
    """
    # A process has one renderer. A step that waits for it is not claimed yet, so a crash blames only the step that
    # renders.
    with _RENDERER if STEPS_BY_NAME[name].needs_renderer else nullcontext(), ExitStack() as stack:
        renderer = stack if renders else None
        begun = None
        if name == STEPS[0].name and not redelivered and not shutdown.is_requested():
            with structlog.contextvars.bound_contextvars(export_id=export_id, unit_no=unit_no, step=name):
                begun = _begin_unit(runtime, export_id, unit_no, name, renderer)
        return _run(runtime, export_id, unit_no, name, renderer, begun)


def _begin_unit(
    runtime: Runtime, export_id: str, unit_no: int, name: str, renderer: ExitStack | None
) -> _Finished | None:
    """Do the first steps of a unit in one transaction, without a claim before it. Return None if that cannot be done.

    A claim records an attempt before the work, so that a plan that kills its workers ends in quarantine. Here the second
    attempt is the first that counts. A step with a failure is claimed too: only its holder may record that.
    """
    finished = _Finished()
    try:
        with (
            ExitStack() as span,  # it ends after the commit
            WATCHDOG.limit(runtime.settings.step_timeout_seconds),
            runtime.db.write() as session,
        ):
            context = find_untried_step(session, export_id, unit_no, name, STEPS_BY_NAME)
            if context is None:
                return None
            span.enter_context(trace_step(context))
            begin_step(STEPS_BY_NAME[name])
            _commit(session, runtime, context, {}, finished, renderer, together=True)
    except Exception as error:  # noqa: BLE001 - the claimed attempt meets the same error and records it
        log.info("step_will_be_claimed", reason=type(error).__name__)
        return None
    record_passed(finished.times[1:])
    report_done(finished.times, 1)
    return finished


def _run(
    runtime: Runtime, export_id: str, unit_no: int, name: str, renderer: ExitStack | None, begun: _Finished | None
) -> StepResult:
    made = begun
    if made is None:
        context = claim_step(
            runtime, export_id, unit_no, name, starts_export=name == STEPS[0].name, step_names=STEPS_BY_NAME
        )
        made = _Finished(following=[] if context is None else [context])
    halted = begun is None and not made.following
    while made.following:
        held = made.following.pop(0)
        began = time.monotonic()
        with trace_step(held) as span:
            try:
                finished = _execute(runtime, held, renderer)
            except Fenced as error:
                span.fail(error, "fenced")
                log.warning("step_fenced", fence=held.fence)
                count(LEASES_LOST, STEP)
                result = FENCED
            except Stopped:
                span.set(outcome="released")
                release_step(runtime, held)
                made.tasks.append(TaskMessage(export_id, held.unit_no, held.step))
                result = RELEASED
            except Exception as error:  # noqa: BLE001 - every error of a step is recorded as its failure
                span.fail(error, "failed")
                made.tasks += stream_tasks(step_failures.record_failure(runtime, held, error))
                result = FAILED if step_failures.is_final(runtime.settings, held, error) else RETRIED
            else:
                made.add(finished)
                if finished.held.now and (ended := _notify(runtime, made.following, finished.held)) is not None:
                    made.following = []
                    made.add(ended)
                continue
            halted = True
            observe(STEP_SECONDS, time.monotonic() - began, held.step, result)
    return StepResult(tuple(spec.name for spec in made.steps), tuple(made.tasks), halted=halted)


@dataclass
class _Finished:
    """The steps that are done, the tasks that they opened, and the claimed steps that this worker runs next.

    `held` are the claimed streams of the notify steps among them; `times` is when each step that is done took effect.
    """

    steps: list[StepSpec] = field(default_factory=list)
    tasks: list[TaskMessage] = field(default_factory=list)
    following: list[StepContext] = field(default_factory=list)
    held: HeldStreams = field(default_factory=HeldStreams)
    times: list[DoneStep] = field(default_factory=list)

    def add(self, other: _Finished) -> None:
        """Add what was done after this; the held streams are the caller's."""
        self.steps += other.steps
        self.tasks += other.tasks
        self.following += other.following


def _execute(runtime: Runtime, context: StepContext, renderer: ExitStack | None) -> _Finished:
    """Execute one claimed step, and those after it that need no preparation; `renderer` will release the renderer."""
    spec, began = STEPS_BY_NAME[context.step], time.monotonic()
    if context.attempt > runtime.settings.step_max_attempts:
        attempts = context.attempt - 1
        raise WorkerLost(
            f"{spec.name} was started {attempts} times, and its worker died each time without recording a reason: it was"
            " killed, crashed, or ran out of memory or time; see the workers' logs of that time",
            attempts,
        )
    shutdown.raise_if_requested()
    begin_step(spec)
    # The recipients decide how long sending takes, and each send has its own limit.
    bounded = nullcontext() if spec.name in NOTIFY_STEPS else WATCHDOG.limit(runtime.settings.step_timeout_seconds)
    prepared: Mapping[str, Any] = {}
    try:
        with bounded:
            if spec.prepare is not None:
                with hold_lease(runtime, context):
                    prepared = prepare_steps(runtime, context)
            finished = _finish(runtime, context, prepared, renderer)
    except IntegrityError as error:
        # A worker with a newer fence may have written the same rows. Otherwise the facts collide, and a person must
        # decide.
        if not holds_lease(runtime, context):
            raise Fenced from error
        raise Terminal(f"{spec.name} collides with recorded data: {str(error.orig).splitlines()[0]}") from error
    if finished.following and HAND_OFF in finished.steps:
        finished.held = prepared[HAND_OFF.name].held
    # The first step also took the time of its preparation and of the commit.
    others = sum(each.seconds for each in finished.times[1:])
    finished.times[0] = finished.times[0]._replace(seconds=time.monotonic() - began - others)
    record_passed(finished.times[1:])
    report_done(finished.times, context.attempt)
    return finished


def _before_commit(specs: Sequence[StepSpec]) -> None:
    for spec in specs:
        failpoint(f"{spec.name}.mid")


def _finish(
    runtime: Runtime, context: StepContext, prepared: Mapping[str, Any], renderer: ExitStack | None
) -> _Finished:
    """Commit the step together with those after it that need no preparation, or are prepared.

    If one of the later steps fails, only the first is committed; the later one then fails by itself.
    """
    # Once a worker was lost, each step has its own transaction: otherwise the first would get the blame for all.
    together = context.attempt == 1
    while True:
        finished = _Finished()
        try:
            with runtime.db.write() as session:
                _commit(session, runtime, context, prepared, finished, renderer, together=together)
        except (Fenced, DatabaseBusy):
            raise
        except Exception as error:
            if not together or not finished.steps:
                raise
            if not isinstance(error, _ExportEnded):
                log.warning("steps_separated", exc_info=True)
            together = False
        else:
            return finished


def _commit(
    session: Session,
    runtime: Runtime,
    context: StepContext,
    prepared: Mapping[str, Any],
    finished: _Finished,
    renderer: ExitStack | None,
    *,
    together: bool,
) -> None:
    """Write the step's result and open the next steps; `together` does those at once that are prepared or need it not.

    `prepared` are the results of preparation, by step.
    """
    # All transactions lock in this order: the steps' own new rows, the export's row, the rows of its steps.
    first, export_id, settings = STEPS_BY_NAME[context.step], context.export_id, runtime.settings
    began = time.monotonic()
    happened = write_step(session, context, prepared.get(first.name))
    finished.times.append(DoneStep.end_now(context, time.monotonic() - began))
    changes = [StepChange.finish(context, finished.times[-1].seconds)]
    finished.steps.append(first)
    for spec in steps_at_once(first, prepared) if together else ():
        began = time.monotonic()
        if spec.name not in prepared:
            begin_step(spec)
        here = replace(context, unit_no=_unit_no(spec, context), step=spec.name)
        happened += write_step(session, here, prepared.get(spec.name))
        finished.times.append(DoneStep.end_now(here, time.monotonic() - began))
        changes.append(StepChange.pass_through(here.unit_no, here.step, finished.times[-1].seconds))
        finished.steps.append(spec)
    closed = 1 if CLOSE_UNIT in finished.steps else 0
    export = events.append(session, export_id, context.step, happened, closed_units=closed, starts=first is STEPS[0])
    active = export.state in ACTIVE_STATES
    if not active and len(finished.steps) > 1:
        raise _ExportEnded
    for opener in finished.steps:
        if opener is CLOSE_UNIT and export.open_units:
            continue
        # Another unit may have failed: then the next step becomes ready, but starts only after a person retries the export.
        inline = active and opener.continues(prepared.get(opener.name))
        for following in map(STEPS_BY_NAME.__getitem__, opener.opens):
            unit_no = _unit_no(following, context)
            if following in finished.steps:
                continue
            if inline and (not following.needs_renderer or _take_renderer(renderer)):
                changes.append(StepChange.open_and_claim(unit_no, following.name, settings.lease_seconds))
                finished.following.append(
                    replace(context, unit_no=unit_no, step=following.name, fence=1, attempt=1, unit=None)
                )
                continue
            changes.append(StepChange.open(unit_no, following.name, settings.stalled_seconds))
            # Within a unit the caller's chain continues by itself.
            if not opener.per_unit:
                finished.tasks.append(TaskMessage(export_id, step=following.name))
    change_steps(session, export_id, changes)
    _before_commit(finished.steps)
    if first.name in NOTIFY_STEPS:
        finished.tasks += stream_tasks(prepared.get(first.name) or ()) + _complete_if_last(session, settings, context)


def _notify(runtime: Runtime, contexts: Sequence[StepContext], held: HeldStreams) -> _Finished | None:
    """Send the held streams, and record that together with the end of the notify steps and of the export.

    Return None if that failed: then each step runs by itself, and what was not recorded is sent again later.
    """
    finished = _Finished([STEPS_BY_NAME[context.step] for context in contexts])
    began = time.monotonic()
    try:
        with ExitStack() as leases:
            for context, spec in zip(contexts, finished.steps, strict=True):
                leases.enter_context(hold_lease(runtime, context))
                begin_step(spec)
            sendings = sender.send_held(runtime, held.now)
        changes = [StepChange.finish(context, time.monotonic() - began) for context in contexts]
        end = partial(_end_export, runtime, contexts[-1], changes, sendings, held.at_end)
        finished.tasks, claims = sender.record_while_leased(sendings[0].lease, end)
        finished.times = [DoneStep.end_now(context, time.monotonic() - began) for context in contexts]
    except Exception:
        log.warning("steps_separated", exc_info=True)
        return None
    record_passed(finished.times)
    report_done(finished.times, 1)
    finished.tasks += stream_tasks(sender.deliver_claimed(runtime, claims))
    return finished


def _end_export(
    runtime: Runtime,
    last: StepContext,
    changes: Sequence[StepChange],
    sendings: Sequence[Sending],
    held: Sequence[StreamLease],
) -> tuple[list[TaskMessage], list[StreamLease]]:
    """Record the sendings and the end of the export. Return the tasks, and those of the `held` streams that are claimed."""
    with runtime.db.write() as session:
        # This locks the export's row, before the results are counted.
        transition_export(session, last.export_id, ExportState.EXECUTED)
        recorded, happened = attempts.write_attempts(
            session, runtime.settings, [(each.claimed, each.sent) for each in sendings]
        )
        change_steps(session, last.export_id, changes)
        happened.append(NewEvent(EventType.EXPORT_EXECUTED, actor=last.step))
        events.append(session, last.export_id, attempts.ACTOR, happened)
        to_publish, claims = streams.release_and_claim(session, runtime.settings, last.export_id, held)
        _before_commit([STEPS_BY_NAME[change.at_step] for change in changes])
    # A claimed stream is sent until it is empty.
    claimed = {each.stream for each in claims}
    enqueued = [stream for each in recorded for stream in each.pending_streams if stream not in claimed]
    return stream_tasks(dict.fromkeys([*enqueued, *to_publish])), claims


def _take_renderer(renderer: ExitStack | None) -> bool:
    if renderer is None or not _RENDERER.acquire(blocking=False):
        return False
    renderer.callback(_RENDERER.release)
    return True


def _unit_no(spec: StepSpec, context: StepContext) -> int:
    return context.unit_no if spec.per_unit else EXPORT_LEVEL


def _complete_if_last(session: Session, settings: Settings, context: StepContext) -> list[TaskMessage]:
    # The event above has locked the export's row, so the three notify steps are counted one after another.
    if session.scalar(_COUNT_UNNOTIFIED, {"of_export": context.export_id}):
        return []
    transition_export(session, context.export_id, ExportState.EXECUTED)
    events.append(session, context.export_id, context.step, [NewEvent(EventType.EXPORT_EXECUTED)])
    to_publish, _ = streams.release_and_claim(session, settings, context.export_id)
    return stream_tasks(to_publish)
