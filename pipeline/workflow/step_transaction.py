"""The transaction in which steps take effect, and the spans, figures and log records of these steps."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import bindparam, func, select
from sqlmodel import Session

from config.settings import Settings
from pipeline.core import tracing
from pipeline.core.db import constants, table
from pipeline.core.errors import Fenced
from pipeline.core.failpoints import failpoint
from pipeline.core.metrics import observe
from pipeline.core.spans import Attributes, Span
from pipeline.deliveries.streams import streams
from pipeline.deliveries.streams.held_streams import HeldStreams
from pipeline.exports import events
from pipeline.exports.events import EventType, LockedExport, NewEvent
from pipeline.exports.metrics import DONE, STEP_SECONDS
from pipeline.exports.models import Step
from pipeline.exports.states import ACTIVE_STATES, ExportState, StepState
from pipeline.exports.step_context import StepContext
from pipeline.exports.transitions import transition_export
from pipeline.workflow.step_leases import StepChange, change_steps
from pipeline.workflow.steps import (
    CLOSE_UNIT,
    EXPORT_LEVEL,
    HAND_OFF,
    NOTIFY_STEPS,
    STEPS,
    STEPS_BY_NAME,
    StepSpec,
    TaskMessage,
    begin_step,
    stream_tasks,
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

#: A process has one renderer: the step that needs it holds this lock.
RENDERER: Final = threading.RLock()

_NONE_HELD: Final = HeldStreams()


class ExportEnded(Exception):
    """The export ended during the transaction, or its handoff is held: no further step may start in it."""


class DoneStep(NamedTuple):
    """A step that is done: it took `seconds` until the instant `ended_ns`, and caused the events `happened`."""

    context: StepContext
    seconds: float
    ended_ns: int
    happened: Sequence[NewEvent] = ()

    @classmethod
    def end_now(cls, context: StepContext, began: float, happened: Sequence[NewEvent] = ()) -> "DoneStep":
        """Return the step that ends now; it began at `began` on the monotonic clock."""
        return cls(context, time.monotonic() - began, time.time_ns(), happened)


@dataclass(frozen=True)
class Committed:
    """The steps that took effect, the tasks that they opened, and the claimed steps that the worker runs next.

    `tasks` is the work beyond the caller's own chain. `held` are the claimed streams of the notify steps that follow.
    `halted` says that the next step must not be tried now.
    """

    done: tuple[DoneStep, ...] = ()
    tasks: tuple[TaskMessage, ...] = ()
    following: tuple[StepContext, ...] = ()
    held: HeldStreams = _NONE_HELD
    halted: bool = False

    @property
    def completed(self) -> tuple[str, ...]:
        """The names of the steps that took effect, in order."""
        return tuple(each.context.step for each in self.done)

    def __add__(self, later: "Committed") -> "Committed":
        """Return both, without the streams that the first held."""
        return Committed(
            self.done + later.done,
            self.tasks + later.tasks,
            self.following + later.following,
            later.held,
            self.halted or later.halted,
        )


def write_step(session: Session, context: StepContext, prepared: Mapping[str, Any]) -> DoneStep:
    """Write the result of the context's step, in the transaction that ends it; `prepared` are the results by step."""
    began, spec = time.monotonic(), STEPS_BY_NAME[context.step]
    written = spec.write(session, context, prepared.get(spec.name))
    return DoneStep.end_now(context, began, [replace(event, actor=spec.name) for event in written])


def commit_steps(
    session: Session,
    settings: Settings,
    written: DoneStep,
    prepared: Mapping[str, Any],
    others: Sequence[StepSpec],
    renderer: ExitStack | None,
) -> Committed:
    """Write the results of the `others` after the written step, and open the next steps; return what was done.

    `prepared` are the results of preparation, by step. `renderer` will release the renderer; without it, no step that
    needs the renderer is claimed. Raises ExportEnded if there are `others`, and the export has ended or they have a
    handoff that a person holds; and Fenced if the step itself is that handoff.
    """
    # All transactions lock in this order: the steps' own new rows, the export's row, the rows of its steps.
    context = written.context
    first, export_id = STEPS_BY_NAME[context.step], context.export_id
    specs, done = (first, *others), [written]
    for spec in others:
        if spec.name not in prepared:
            begin_step(spec)
        here = replace(context, unit_no=_unit_no(spec, context), step=spec.name)
        done.append(write_step(session, here, prepared))
    happened = [event for each in done for event in each.happened]
    export = events.append(
        session, export_id, first.name, happened, closed_units=int(CLOSE_UNIT in specs), starts=first is STEPS[0]
    )
    active = export.state in ACTIVE_STATES
    _check_goes_on(export, specs, active=active)
    changes = [StepChange.finish(context, done[0].seconds)]
    changes += [StepChange.pass_through(each.context.unit_no, each.context.step, each.seconds) for each in done[1:]]
    tasks, claimed = list[TaskMessage](), list[StepContext]()
    for opener in specs:
        if opener is CLOSE_UNIT and export.open_units:
            continue
        # Another unit may have failed: then the next step becomes ready, but starts only after a person retries the export.
        waits = export.is_held and HAND_OFF.name in opener.opens
        inline = active and not waits and opener.continues(prepared.get(opener.name))
        for following in map(STEPS_BY_NAME.__getitem__, opener.opens):
            unit_no = _unit_no(following, context)
            if following in specs:
                continue
            if inline and (not following.needs_renderer or _take_renderer(renderer)):
                changes.append(StepChange.open_and_claim(unit_no, following.name, settings.lease_seconds))
                claimed.append(replace(context, unit_no=unit_no, step=following.name, fence=1, attempt=1, unit=None))
                continue
            changes.append(StepChange.open(unit_no, following.name, None if waits else settings.stalled_seconds))
            # Within a unit the caller's chain continues by itself.
            if not opener.per_unit:
                tasks.append(TaskMessage(export_id, step=following.name))
    change_steps(session, export_id, changes)
    before_commit(specs)
    if first.name in NOTIFY_STEPS:
        tasks += stream_tasks(prepared.get(first.name) or ()) + _complete_if_last(session, settings, context)
    held = prepared[HAND_OFF.name].held if claimed and HAND_OFF in specs else _NONE_HELD
    return Committed(tuple(done), tuple(tasks), tuple(claimed), held)


def _check_goes_on(export: LockedExport, specs: Sequence[StepSpec], *, active: bool) -> None:
    held = export.is_held and HAND_OFF in specs
    if held and specs[0] is HAND_OFF:
        raise Fenced
    if len(specs) > 1 and (held or not active):
        raise ExportEnded


def before_commit(specs: Iterable[StepSpec]) -> None:
    """Fire the failpoint of each step before its transaction is committed."""
    for spec in specs:
        failpoint(f"{spec.name}.mid")


def _take_renderer(renderer: ExitStack | None) -> bool:
    if renderer is None or not RENDERER.acquire(blocking=False):
        return False
    renderer.callback(RENDERER.release)
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


@contextmanager
def trace_step(context: StepContext) -> Iterator[Span]:
    """Run one attempt at a step in its span. Log records in the block name the step. A caught failure must be set."""
    with (
        structlog.contextvars.bound_contextvars(
            export_id=context.export_id, unit_no=context.unit_no, step=context.step
        ),
        tracing.open_span(context.step, context.trace, attributes=_describe_step(context, "done")) as span,
    ):
        try:
            yield span
        except Exception as error:
            span.fail(error, "failed")
            raise


def report_done(steps: Sequence[DoneStep], attempt: int, *, traced: int = 0) -> None:
    """Count and log steps that took effect, after the commit. The first `traced` of them have a span of their own."""
    for step in steps[traced:] if tracing.is_tracing() else ():
        tracing.record_span(
            step.context.step,
            step.context.trace,
            _describe_step(step.context, "done"),
            started_ns=step.ended_ns - round(step.seconds * 1e9),
            ended_ns=step.ended_ns,
        )
    for step in steps:
        observe(STEP_SECONDS, step.seconds, step.context.step, DONE)
        failpoint(f"{step.context.step}.after")
        log.info("step_done", step=step.context.step, attempt=attempt)


def _describe_step(context: StepContext, outcome: str) -> Attributes:
    return {
        "export_id": context.export_id,
        "account_id": context.account_id,
        "step": context.step,
        "unit_no": context.unit_no or None,
        "attempt": max(context.attempt, 1),  # 0: the step is not claimed before its first attempt
        "outcome": outcome,
    }
