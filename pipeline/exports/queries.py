"""Reads of an export: its row, its state and its events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import case, func
from sqlalchemy import select as select_columns
from sqlalchemy.orm import defer
from sqlmodel import Session, col, or_, select

from pipeline.core.errors import NotFound
from pipeline.exports.event_models import Act, Event
from pipeline.exports.models import Export, ExportUnit, PlanSnapshot, Step
from pipeline.exports.schemas.export import AcknowledgedView, EventView, PersonsRequestView
from pipeline.exports.states import ExportState, Outcome, StepState


def event_view(event: Event) -> EventView:
    """Return the API's view of the event."""
    return EventView(
        id=f"{event.export_id}.{event.seq}",
        seq=event.seq,
        type=event.type,
        at=event.at,
        actor=event.actor,
        data=event.data,
    )


def build_acknowledged(event: Event) -> AcknowledgedView:
    """Return the view of the event by which a person acknowledged an export."""
    data = event.data
    return AcknowledgedView(
        seq=event.seq, outcome=Outcome(data["outcome"]), by=event.actor, at=event.at, note=data.get("note")
    )


def find_request(session: Session, export_id: str, seq: int | None) -> PersonsRequestView | None:
    """Return the view of the event by which a person held the handoff, or requested the withdrawal; None without one."""
    if seq is None:
        return None
    event = session.get_one(Event, (export_id, seq))
    return PersonsRequestView(seq=seq, by=event.actor, at=event.at, reason=event.data["reason"])


def build_acknowledged_letter(act: Act) -> AcknowledgedView:
    """Return the view of the act by which a person acknowledged a dead letter about a registered plan."""
    return AcknowledgedView(
        seq=act.seq, outcome=Outcome.UNDELIVERABLE, by=act.actor, at=act.at, note=act.detail.get("note")
    )


def find_export(session: Session, account_id: str, export_or_batch_id: str, *, test: bool = False) -> Export:
    """Return the export's row by export id or batch id.

    Of a batch it returns the newest revision with this `test`, or else the newest one of all. Raises NotFound, also for an
    export of another account.
    """
    id_or_batch = export_or_batch_id
    export = session.exec(
        select(Export)
        .where(
            col(Export.account_id) == account_id,
            or_(col(Export.id) == id_or_batch, col(Export.batch_id) == id_or_batch),
        )
        .order_by(
            (col(Export.id) == id_or_batch).desc(), (col(Export.test) == test).desc(), col(Export.revision).desc()
        )
        .limit(1)
    ).first()
    if export is None:
        of_batch = col(PlanSnapshot.account_id) == account_id, col(PlanSnapshot.batch_id) == id_or_batch
        if session.scalars(select(PlanSnapshot.id).where(*of_batch).limit(1)).first() is not None:
            raise NotFound(
                f"batch {id_or_batch} is planned and not executed; `GET /api/plans/{id_or_batch}` has its plan"
            )
        raise NotFound(f"there is no export or batch {id_or_batch} in this account")
    return export


def read_state(session: Session, export_id: str) -> ExportState:
    """Return the state of an existing export."""
    return ExportState(session.exec(select(Export.state).where(col(Export.id) == export_id)).one())


def list_events_before(session: Session, export_id: str, before: int, *, limit: int) -> list[EventView]:
    """Return the events with a lower number than `before`, the newest first."""
    rows = session.exec(
        select(Event)
        .where(col(Event.export_id) == export_id, col(Event.seq) < before)
        .order_by(col(Event.seq).desc())
        .limit(limit)
    )
    return [event_view(row) for row in rows]


#: The most revisions of a batch that are listed.
MAX_REVISIONS: Final = 50


def list_revisions(session: Session, export: Export) -> Sequence[Export]:
    """Return the newest revisions of the export's batch without their findings, also the export itself, the newest first."""
    return session.exec(
        select(Export)
        .options(defer(Export.findings))  # type: ignore[arg-type]  # SQLModel types a column as its value
        .where(
            col(Export.account_id) == export.account_id,
            col(Export.batch_id) == export.batch_id,
            col(Export.test) == export.test,
        )
        .order_by(col(Export.revision).desc())
        .limit(MAX_REVISIONS)
    ).all()


@dataclass(frozen=True)
class UnitSpan:
    """From when to when the steps of some units ran, which are all `failed`, `open` or `closed`."""

    state: str
    units: int
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class UnitGroup:
    """Units that follow each other, from the first to the last, with a span for those of each state that have started."""

    first_ref: str
    last_ref: str
    spans: Sequence[UnitSpan]


def list_unit_groups(session: Session, export: Export, *, most: int) -> list[UnitGroup]:
    """Return all units of an export in at most so many groups of equal size, in their order."""
    size = -(-export.units_total // most)
    state = col(Step.state)
    units = (
        select_columns(
            col(Step.unit_no),
            func.min(col(Step.started_at)).label("started_at"),
            func.max(col(Step.finished_at)).label("finished_at"),
            case(
                (func.sum(case((state == StepState.FAILED.value, 1), else_=0)) > 0, "failed"),
                (func.sum(case((state == StepState.DONE.value, 0), else_=1)) > 0, "open"),
                else_="closed",
            ).label("state"),
        )
        .where(col(Step.export_id) == export.id, col(Step.unit_no).between(1, export.units_total))
        .group_by(col(Step.unit_no))
        .subquery()
        .c
    )
    group = (units.unit_no - 1) // size
    rows = session.execute(
        select_columns(group, units.state, func.count(), func.min(units.started_at), func.max(units.finished_at))
        .where(units.started_at.is_not(None))
        .group_by(group, units.state)
        .order_by(group, units.state)
    )
    spans: dict[int, list[UnitSpan]] = {}
    for place, span_state, count, started_at, ended_at in rows:
        spans.setdefault(place, []).append(UnitSpan(span_state, count, started_at, ended_at))
    edges = [(at, min(at + size, export.units_total + 1) - 1) for at in range(1, export.units_total + 1, size)]
    refs = dict(
        session.execute(
            select_columns(col(ExportUnit.unit_no), col(ExportUnit.unit_ref)).where(
                col(ExportUnit.export_id) == export.id,
                col(ExportUnit.unit_no).in_({at for edge in edges for at in edge}),
            )
        ).all()
    )
    return [UnitGroup(refs[first], refs[last], spans.get(place, ())) for place, (first, last) in enumerate(edges)]
