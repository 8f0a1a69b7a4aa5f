"""The life of an export: STEPS, the pipeline as one table, and advance(), which makes one step real exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import bindparam, func, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from pipeline import delivery, events, handoff, notifications, packages, rendering, setbacks, stopping
from pipeline.claims import (
    EXPORT_LEVEL,
    THIS_STEP,
    claim,
    claim_opened,
    give_back,
    held,
    made_of,
    of_unended,
    place,
    still_holds,
)
from pipeline.customs import treatment
from pipeline.db import changed, database_now, statement_now, table
from pipeline.errors import DatabaseBusy, Fenced, Stopped, Terminal, WorkerDied
from pipeline.events import EventType, NewEvent
from pipeline.failpoints import failpoint
from pipeline.lanes import due_lanes
from pipeline.models import Export, Step
from pipeline.moves import move
from pipeline.notifications import Lane
from pipeline.runtime import Runtime
from pipeline.states import ExportState, StepState
from pipeline.steps import StepContext
from pipeline.timeouts import TIMEOUTS

log = structlog.get_logger(__name__)

Prepare = Callable[[Runtime, StepContext], Any]
Write = Callable[[Session, StepContext, Any], Sequence[NewEvent]]


@dataclass(frozen=True)
class StepSpec:
    """One row of the pipeline.

    `prepare` does what is slow or reaches outside, in no transaction, and may run more than once; `write` puts its
    result into the database in the one transaction that also marks the step done, and so takes effect exactly once.
    `opens` names the steps that may begin then. The worker that finished a step carries on with the first of them
    itself where `carries_on` says that this is cheaper than another message. What `renders` needs the process's renderer.
    """

    name: str
    per_unit: bool
    write: Write
    prepare: Prepare | None = None
    opens: tuple[str, ...] = ()
    carries_on: bool = False
    renders: bool = False


NOTIFY: Final = ("notify_broker", "notify_warehouse", "notify_operator")

_exports, _steps = table(Export).c, table(Step).c
_of_export = _exports.id == bindparam("of_export")

_CLOSE_UNIT: Final = update(table(Export)).where(_of_export).values(units_closed=_exports.units_closed + 1)
_UNITS_OPEN: Final = select(_exports.units_total - _exports.units_closed).where(_of_export)

_DONE: Final = (
    update(table(Step))
    .where(*THIS_STEP, _steps.state == StepState.OWED.value, _steps.fence == bindparam("held_fence"))
    .values(state=StepState.DONE.value, lease_until=None, due_at=None, finished_at=database_now(), error=None)
)
_OPEN: Final = (
    update(table(Step))
    .where(
        _steps.export_id == bindparam("of_export"),
        _steps.unit_no == bindparam("of_unit"),
        _steps.name.in_(bindparam("opened", expanding=True)),
        _steps.state == StepState.WAITING.value,
    )
    .values(state=StepState.OWED.value, due_at=database_now(bindparam("seconds")))
)
_UNTOLD: Final = (
    select(func.count())
    .select_from(table(Step))
    .where(_steps.export_id == bindparam("of_export"), _steps.name.in_(NOTIFY), _steps.state != StepState.DONE.value)
)


def _nothing(_: Session, __: StepContext, ___: Any) -> Sequence[NewEvent]:
    return ()


def _tell(audience: str) -> Prepare:
    def tell(runtime: Runtime, context: StepContext) -> list[Lane]:
        return delivery.tell(runtime, context, audience)

    return tell


def _close_unit(session: Session, context: StepContext, _: Any) -> Sequence[NewEvent]:
    session.execute(_CLOSE_UNIT, {"of_export": context.export_id})
    return (NewEvent(EventType.CUSTOMS_PACKAGE_CLOSED, {"unitNo": context.unit_no}),)


STEPS: Final[tuple[StepSpec, ...]] = (
    StepSpec("record_packages", True, packages.record, opens=("attach_customs",), carries_on=True),
    StepSpec("attach_customs", True, treatment.attach, opens=("render_documents",)),
    StepSpec(
        "render_documents",
        True,
        rendering.write,
        prepare=rendering.prepare,
        opens=("close_unit",),
        carries_on=True,
        renders=True,
    ),
    # The last unit to close opens the handoff; which one that is, the database counts.
    StepSpec("close_unit", True, _close_unit, opens=("hand_off",), carries_on=True),
    StepSpec("hand_off", False, handoff.write, prepare=handoff.prepare, opens=NOTIFY),
    StepSpec("notify_broker", False, _nothing, prepare=_tell("customs_broker")),
    StepSpec("notify_warehouse", False, _nothing, prepare=_tell("warehouse")),
    # The operator hears that the export is executed once it is: the last of the three releases what is owed to them.
    StepSpec("notify_operator", False, _nothing),
)
SPECS: Final = {spec.name: spec for spec in STEPS}

_RENDERER: Final = threading.RLock()


@dataclass(frozen=True)
class Wake:
    """Something that became owed and wants a message: a step, or the deliveries to one recipient by one channel."""

    export_id: str
    unit_no: int = EXPORT_LEVEL
    step: str | None = None
    partner_id: str | None = None
    channel: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What one call of advance() came to.

    `did` are the steps made here, in order; `wakes` what they opened beyond the caller's own chain; `stopped` tells
    that the next step is not to be tried now.
    """

    did: tuple[str, ...] = ()
    wakes: tuple[Wake, ...] = ()
    stopped: bool = False


def first_steps(export_id: str, unit_nos: Sequence[int], due_at: datetime) -> list[dict[str, Any]]:
    """Return the rows of every step of a new export: the first of each unit is owed from `due_at`, the rest wait."""
    rows = []
    per_unit = [spec for spec in STEPS if spec.per_unit]
    for unit_no in (*unit_nos, EXPORT_LEVEL):
        for position, spec in enumerate(STEPS):
            if spec.per_unit == (unit_no == EXPORT_LEVEL):
                continue
            owed = spec is per_unit[0]
            rows.append(
                {
                    "export_id": export_id,
                    "unit_no": unit_no,
                    "name": spec.name,
                    "position": position,
                    "state": (StepState.OWED if owed else StepState.WAITING).value,
                    "due_at": due_at if owed else None,
                }
            )
    return rows


def advance(runtime: Runtime, export_id: str, unit_no: int, name: str) -> Outcome:
    """Make the step `name` real, and the cheap ones after it, each in a transaction of its own.

    A step that is done, held by another worker, not yet opened or of an ended export is left alone: losing, doubling or
    reordering the message that led here changes nothing. A failure is recorded and put off; after as many attempts as
    the settings allow, or at once where trying again cannot help, the export fails. It is quarantined where what stopped
    it is no known fault: it ended its worker or the renderer, or raised what nobody foresaw. An outage of the database or
    of the document store is no attempt: the step is put off for as long as it lasts.

    Where this process is told to end, what is not begun or can be broken off is given back, without counting as an attempt.
    """
    # A process has one renderer. Who would wait for it has not begun: a plan that ends the process is then alone to blame.
    with _RENDERER if SPECS[name].renders else nullcontext():
        return _advance(runtime, export_id, unit_no, name)


def _advance(runtime: Runtime, export_id: str, unit_no: int, name: str) -> Outcome:
    context = claim(runtime, export_id, unit_no, name, begins=name == STEPS[0].name, among=SPECS)
    did: list[str] = []
    wakes: list[Wake] = []
    while context is not None:
        held_step = context
        with structlog.contextvars.bound_contextvars(export_id=export_id, unit_no=context.unit_no, step=context.step):
            try:
                context, opened = _make(runtime, held_step)
            except Fenced:
                log.warning("step_fenced", fence=held_step.fence)
                return Outcome(tuple(did), tuple(wakes), stopped=True)
            except Stopped:
                _give_back(runtime, held_step)
                return Outcome(tuple(did), (*wakes, Wake(export_id, held_step.unit_no, held_step.step)), stopped=True)
            except Exception as error:  # noqa: BLE001 - whatever a step raises is recorded against it
                wakes += _of(setbacks.record(runtime, held_step, error))
                return Outcome(tuple(did), tuple(wakes), stopped=True)
        did.append(held_step.step)
        wakes += opened
    return Outcome(tuple(did), tuple(wakes), stopped=not did)


def _make(runtime: Runtime, context: StepContext) -> tuple[StepContext | None, list[Wake]]:
    """Do one claimed step; return the context of the step to carry on with, and what else it opened."""
    spec = SPECS[context.step]
    if context.attempt > runtime.settings.step_max_attempts:
        begun = context.attempt - 1
        raise WorkerDied(
            f"{spec.name} was begun {begun} times, and each time its worker came to an end before it could say why: it was"
            " killed, crashed, ran out of memory or out of time; the workers' logs of then say more",
            begun,
        )
    stopping.check()
    failpoint(f"{spec.name}.before")
    # How long sending takes is up to the recipients, and each send is bounded by itself.
    bounded = nullcontext() if spec.name in NOTIFY else TIMEOUTS.within(runtime.settings.step_timeout_seconds)
    prepared = None
    try:
        with bounded:
            if spec.prepare is not None:
                with held(runtime, context):
                    prepared = spec.prepare(runtime, context)
            with runtime.db.write() as session:
                following, opened = _finish(session, runtime, context, spec, prepared)
                failpoint(f"{spec.name}.mid")
    except IntegrityError as error:
        # Whoever overtook us wrote the same rows first; otherwise the facts themselves collide and a person must look.
        if not still_holds(runtime, context):
            raise Fenced from error
        raise Terminal(f"{spec.name} collides with what is recorded: {str(error.orig).splitlines()[0]}") from error
    failpoint(f"{spec.name}.after")
    log.info("step_done", attempt=context.attempt)
    return following, opened


def _give_back(runtime: Runtime, context: StepContext) -> None:
    try:
        give_back(runtime, context)
    except DatabaseBusy:
        log.warning("step_not_given_back")  # then its lease runs out
    else:
        log.info("step_given_back")


def _finish(
    session: Session, runtime: Runtime, context: StepContext, spec: StepSpec, prepared: Any
) -> tuple[StepContext | None, list[Wake]]:
    # Locks are always taken in this order: the step's own new rows, the export's row, the rows of its steps.
    export_id = context.export_id
    happened = spec.write(session, context, prepared)
    events.append(session, export_id, context.step, happened)
    here = place(export_id, context.unit_no, context.step)
    if changed(session.execute(_DONE, here | {"held_fence": context.fence})) != 1:
        raise Fenced
    if spec.name in NOTIFY:
        left = [Wake(lane.export_id, partner_id=lane.partner_id, channel=lane.channel) for lane in prepared or ()]
        return None, left + _complete_if_last(session, context)
    opens = spec.opens
    unit_no = context.unit_no if spec.per_unit else EXPORT_LEVEL
    if spec.name == "close_unit":
        unit_no = EXPORT_LEVEL
        if session.scalar(_UNITS_OPEN, {"of_export": export_id}):
            return None, []
    if spec.carries_on:
        (following,) = opens
        if (carried := claim_opened(session, runtime, context, unit_no, following)) is not None:
            return carried, []
        # Another unit has failed: what follows is opened, and begun once somebody retries the export.
    session.execute(
        _OPEN,
        {"of_export": export_id, "of_unit": unit_no, "opened": opens, "seconds": runtime.settings.stalled_seconds},
    )
    # Within a unit the caller's chain leads on by itself; the fan-out is launched by whoever handed off.
    return None, [] if spec.per_unit else [Wake(export_id, step=name) for name in opens]


def _complete_if_last(session: Session, context: StepContext) -> list[Wake]:
    # The export's row is locked by the event above, so the three are counted one after another.
    if session.scalar(_UNTOLD, {"of_export": context.export_id}):
        return []
    move(session, context.export_id, ExportState.EXECUTED, finished_at=database_now())
    events.append(session, context.export_id, context.step, [NewEvent(EventType.EXPORT_EXECUTED)])
    return _released(session, context.export_id)


def _released(session: Session, export_id: str) -> list[Wake]:
    return _of(notifications.release(session, export_id))


def _of(lanes: Iterable[Lane]) -> list[Wake]:
    return [Wake(lane.export_id, partner_id=lane.partner_id, channel=lane.channel) for lane in lanes]


def owed_again(runtime: Runtime, *, steps: int | None = None, lanes: int | None = None) -> list[Wake]:
    """Return the steps and deliveries that are due and that nobody holds, oldest first; the sweep wakes them.

    There are no more than `steps` and `lanes` of them; where that is not said, no more than `sweep_limit` of each.

    A step that ended its worker as often as it may be begun is among them: whoever takes it does nothing of it, but
    quarantines its export.

    Each is put off by `stalled_seconds` as it is returned, so that any number of sweeps at once does no harm. What another
    version of the service accepted, with other steps, is left to that version's.
    """
    settings = runtime.settings
    due = (
        select(col(Step.export_id), col(Step.unit_no), col(Step.name))
        .where(
            col(Step.state) == StepState.OWED.value,
            col(Step.due_at) <= statement_now(),
            of_unended(col(Step.export_id)),
            made_of(col(Step.export_id), [*SPECS], len(SPECS)),
        )
        .order_by(col(Step.due_at))
        .limit(settings.sweep_limit if steps is None else steps)
    )
    if not runtime.db.is_sqlite:
        due = due.with_for_update(skip_locked=True)
    with runtime.db.write() as session:
        setbacks.space_out(session, settings)
        rows = session.execute(
            update(Step)
            .where(
                tuple_(col(Step.export_id), col(Step.unit_no), col(Step.name)).in_(due),
                col(Step.state) == StepState.OWED.value,
            )
            .values(
                due_at=database_now(settings.stalled_seconds),
                stalled_since=func.coalesce(col(Step.stalled_since), database_now()),
            )
            .returning(col(Step.export_id), col(Step.unit_no), col(Step.name))
        ).all()
        found = due_lanes(session, settings, settings.sweep_limit if lanes is None else lanes)
        failpoint("sweep.mid")
    return [Wake(*row) for row in rows] + _of(found)
