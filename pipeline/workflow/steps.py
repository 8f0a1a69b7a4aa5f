"""The steps of an export, in their order, and the rows and task messages made from them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import structlog
from sqlmodel import Session

from config import queues
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.customs import treatment
from pipeline.deliveries import handoff
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import sender
from pipeline.exports import packages
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.states import StepState
from pipeline.exports.step_context import StepContext
from pipeline.workflow import render_documents

log = structlog.get_logger(__name__)

#: The unit number of the steps that belong to the export as a whole.
EXPORT_LEVEL: Final = 0
FIRST_UNIT: Final = 1

Prepare = Callable[[Runtime, StepContext], Any]
Write = Callable[[Session, StepContext, Any], Sequence[NewEvent]]
Continues = Callable[[Any], bool]


def _always(_: Any) -> bool:
    return True


def _write_nothing(_: Session, __: StepContext, ___: Any) -> Sequence[NewEvent]:
    return ()


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """All that is known of one step; a task, a metric and a row of each export are made from it.

    `text` says to people what the step does, and `queue` is where its task messages wait. Each step of a unit writes its
    `event`: the log shows by it that the step is done. `prepare` does slow or external work outside a transaction, and
    may run more than once. `write` records its result in the transaction that also marks the step done, so it takes
    effect exactly once. `opens` names the steps that may start then; those without `prepare` are done in the same
    transaction. `continues` says, from what `prepare` returned, whether the worker runs the others itself: that is
    cheaper than a message. It never waits for the renderer. `needs_renderer` says that the step needs the process's
    renderer.
    """

    name: str
    text: str
    queue: str = queues.STEPS
    event: EventType | None = None
    write: Write = _write_nothing
    prepare: Prepare | None = None
    opens: tuple[str, ...] = ()
    continues: Continues = _always
    needs_renderer: bool = False

    @property
    def per_unit(self) -> bool:
        """Whether each unit has the step; otherwise the export has it once."""
        return self.event is not None


def _notify(audience: str) -> Prepare:
    def notify(runtime: Runtime, context: StepContext) -> list[DeliveryStream]:
        return sender.notify_audience(runtime, context, audience)

    return notify


def _close_unit(_: Session, context: StepContext, __: Any) -> Sequence[NewEvent]:
    return (NewEvent(EventType.CUSTOMS_PACKAGE_CLOSED, {"unitNo": context.unit_no}),)


STEPS: Final[tuple[StepSpec, ...]] = (
    StepSpec(
        name="record_packages",
        text="Recording packages",
        event=EventType.PACKAGES_RECORDED,
        write=packages.record_packages,
        opens=("attach_customs",),
    ),
    StepSpec(
        name="attach_customs",
        text="Attaching customs treatment",
        event=EventType.TREATMENT_ATTACHED,
        write=treatment.attach_treatment,
        opens=("render_documents",),
    ),
    StepSpec(
        name="render_documents",
        text="Rendering documents",
        queue=queues.DOCUMENTS,
        event=EventType.CUSTOMS_ARTIFACT_GENERATED,
        write=render_documents.write,
        prepare=render_documents.prepare,
        opens=("close_unit",),
        needs_renderer=True,
    ),
    # The last unit to close opens the handoff; the database counts to find the last one.
    StepSpec(
        name="close_unit",
        text="Closing customs packages",
        queue=queues.DOCUMENTS,
        event=EventType.CUSTOMS_PACKAGE_CLOSED,
        write=_close_unit,
        opens=("hand_off",),
    ),
    StepSpec(
        name="hand_off",
        text="Handing off to {broker}",
        write=handoff.write_handoff,
        prepare=handoff.prepare_handoff,
        opens=("notify_broker", "notify_warehouse", "notify_operator"),
        continues=handoff.holds_streams,
    ),
    StepSpec(
        name="notify_broker",
        text="Notifying the customs broker {broker}",
        queue=queues.DELIVERIES,
        prepare=_notify("customs_broker"),
    ),
    StepSpec(
        name="notify_warehouse",
        text="Notifying the warehouse {warehouse}",
        queue=queues.DELIVERIES,
        prepare=_notify("warehouse"),
    ),
    # The operators are notified only of an executed export: the last of the three steps releases their notification.
    StepSpec(name="notify_operator", text="Notifying the operators", queue=queues.DOCUMENTS),
)
STEPS_BY_NAME: Final = {spec.name: spec for spec in STEPS}
RENDER_DOCUMENTS: Final = STEPS_BY_NAME["render_documents"]
CLOSE_UNIT: Final = STEPS_BY_NAME["close_unit"]
HAND_OFF: Final = STEPS_BY_NAME["hand_off"]
NOTIFY_STEPS: Final = HAND_OFF.opens


def steps_at_once(spec: StepSpec, prepared: Collection[str] = ()) -> list[StepSpec]:
    """Return the steps that `spec` opens, directly or not, and that its transaction can do.

    They need no preparation, or it is done: `prepared` are the names of those.
    """
    following = [STEPS_BY_NAME[name] for name in spec.opens if STEPS_BY_NAME[name].prepare is None or name in prepared]
    return [each for opened in following for each in (opened, *steps_at_once(opened, prepared))]


def begin_step(spec: StepSpec) -> None:
    """Fire the failpoint before the step's first action."""
    failpoint(f"{spec.name}.before")


def prepares_handoff(context: StepContext) -> bool:
    """Return whether the worker that makes the documents of this unit prepares the handoff, too."""
    return context.units == 1 and context.attempt == 1


def prepare_steps(runtime: Runtime, context: StepContext) -> dict[str, Any]:
    """Return the results of preparation, by step: of the context's step, and of others that are cheap to do with it.

    The first attempt at the documents of an export's only unit prepares the handoff, too. If that fails, it is left
    out: the handoff then meets the same error as a step of its own.
    """
    spec = STEPS_BY_NAME[context.step]
    prepared: dict[str, Any] = {} if spec.prepare is None else {spec.name: spec.prepare(runtime, context)}
    if spec is RENDER_DOCUMENTS and prepares_handoff(context):
        here = replace(context, unit_no=EXPORT_LEVEL, step=HAND_OFF.name, unit=None)
        begin_step(HAND_OFF)
        try:
            prepared[HAND_OFF.name] = handoff.prepare_handoff(runtime, here, prepared[spec.name].rows)
        except Exception as error:  # noqa: BLE001 - the step itself records the error
            log.info("handoff_prepared_later", reason=type(error).__name__)
    return prepared


@dataclass(frozen=True)
class TaskMessage:
    """Work to publish: a step, or the delivery stream to one recipient over one channel.

    `export_id` of a stream may also be the id of a registered plan, if the stream's messages are about it. `queue` is
    the one that the step waits in; None if it is the step's own.
    """

    export_id: str
    unit_no: int = EXPORT_LEVEL
    step: str | None = None
    partner_id: str | None = None
    channel: str | None = None
    queue: str | None = field(default=None, compare=False)


def initial_steps(export_id: str, large: Sequence[bool], due_at: datetime) -> list[dict[str, Any]]:
    """Return the rows of all steps of a new export: the first of each unit is ready, due at `due_at`; the rest wait.

    `large` says of each unit whether it is large.
    """
    rows = []
    per_unit = [spec for spec in STEPS if spec.per_unit]
    for unit_no, is_large in (*enumerate(large, 1), (EXPORT_LEVEL, False)):
        for position, spec in enumerate(STEPS):
            if spec.per_unit == (unit_no == EXPORT_LEVEL):
                continue
            ready = spec is per_unit[0]
            rows.append(
                {
                    "export_id": export_id,
                    "unit_no": unit_no,
                    "name": spec.name,
                    "position": position,
                    "large": is_large,
                    "state": (StepState.READY if ready else StepState.WAITING).value,
                    "due_at": due_at if ready else None,
                }
            )
    return rows


def stream_tasks(streams: Iterable[DeliveryStream]) -> list[TaskMessage]:
    """Return the task messages of the streams."""
    return [TaskMessage(stream.subject_id, partner_id=stream.partner_id, channel=stream.channel) for stream in streams]
