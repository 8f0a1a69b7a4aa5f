"""One export's tables held against its log: what is missing, changed or added, and the row that mends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import func, select
from sqlmodel import Session, SQLModel, col

from pipeline import audit
from pipeline.chain import rows_digest
from pipeline.db import table
from pipeline.errors import InvalidState, PlanHashMismatch
from pipeline.execution import NOTIFY
from pipeline.models import (
    Acknowledgement,
    Artifact,
    Attempt,
    BrokerSubmission,
    Delivery,
    Event,
    Export,
    ExportUnit,
    LineTreatment,
    Notification,
    Package,
    PlanSnapshot,
    Step,
)
from pipeline.plans import ReadPlan, snapshot
from pipeline.rebuilding import messages, tables
from pipeline.rebuilding.history import History, Untold, history
from pipeline.rebuilding.messages import Sayings, Stretch
from pipeline.rebuilding.tables import Known, Row
from pipeline.states import StepState

Kind = Literal["missing", "changed", "added"]

#: The tables that only a plan can fill: without it they are left alone.
_OF_THE_PLAN: Final = (ExportUnit, Package, LineTreatment)


class Difference(BaseModel):
    """Where a table does not hold what the log says: a row that is missing, changed or added."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    table: str
    key: dict[str, Any]
    kind: Literal["missing", "changed", "added"]
    columns: list[str] = []
    message: str
    restorable: bool = True


@dataclass
class Rebuilt:
    """What was found of one export: `differences`, or why its log says too little or cannot be believed."""

    export_id: str
    differences: list[Difference] = field(default_factory=list)
    refused: str | None = None
    mends: list[tuple[Difference, Row | None]] = field(default_factory=list, repr=False)
    handed_off: Stretch | None = field(default=None, repr=False)  # what the handoff owed, as it is now
    left: Rebuilt | None = None  # what differed still once it was restored

    @property
    def intact(self) -> bool:
        """Whether every table holds what the log says."""
        return not self.differences and self.refused is None

    def differs(self, difference: Difference, row: Row | None = None) -> None:
        """Add a difference, and the row that mends it."""
        self.differences.append(difference)
        if difference.restorable:
            self.mends.append((difference, row))


def check(session: Session, export_id: str) -> Rebuilt:
    """Derive the tables of one export and compare them with what is there."""
    found = Rebuilt(export_id)
    log = session.scalars(select(Event).where(col(Event.export_id) == export_id).order_by(col(Event.seq))).all()
    # A number that is too low comes back; one that is too high tells that the end of the log is gone.
    given_out = session.scalar(select(col(Export.next_seq)).where(col(Export.id) == export_id)) or 1
    chain = audit.Chain(export_id, max(given_out, len(log) + 1))
    for event in log:
        chain.follow(event.model_dump())
    chain.end()
    if chain.fault is not None:
        found.refused = f"its log cannot be believed: event {chain.fault.seq} is {chain.fault.kind}"
        return found
    try:
        told = history(export_id, log)
        if told.purged:
            return found
        known = _known(session, told, found)
        sayings = read_sayings(session, export_id)
        derived = [*tables.rows(known), *messages.rows(told, sayings, known.account_id)]
    except Untold as untold:
        found.refused = f"its log does not say enough: {untold}"
        return found
    _compare(session, found, _merged(derived), known, _tried(sayings))
    _compare_findings(session, found, told)
    _compare_sayings(found, told, sayings)
    return found


def read_sayings(session: Session, export_id: str) -> Sayings:
    """Return the messages of an export, to whom they are owed, and the tries."""
    notifications = session.scalars(
        select(Notification).where(col(Notification.export_id) == export_id).order_by(col(Notification.position))
    ).all()
    deliveries = session.scalars(select(Delivery).where(col(Delivery.export_id) == export_id)).all()
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in session.scalars(
        select(Attempt)
        .join(Delivery, col(Delivery.id) == col(Attempt.delivery_id))
        .where(col(Delivery.export_id) == export_id)
        .order_by(col(Attempt.delivery_id), col(Attempt.number))
    ):
        attempts[attempt.delivery_id].append(attempt)
    return Sayings(notifications, deliveries, attempts)


def _known(session: Session, told: History, found: Rebuilt) -> Known:
    plan_hash, batch_id = told.accepted["planHash"], told.accepted["batchId"]
    export = session.get(Export, told.export_id)
    query = select(PlanSnapshot).where(
        col(PlanSnapshot.plan_hash) == plan_hash,
        col(PlanSnapshot.batch_id) == batch_id,
        col(PlanSnapshot.test) == told.accepted["test"],
    )
    kept = session.scalars(query.where(col(PlanSnapshot.account_id) == export.account_id)).first() if export else None
    # Only where the export's own row is gone or names another account, all plans are searched.
    kept = kept or session.scalars(query).first()
    read = None if kept is None else _read(kept, plan_hash)
    if kept is None or read is None:
        key = {"batch_id": batch_id, "plan_hash": plan_hash}
        message = "the plan that was accepted is not there any more; only a backup has it"
        kind: Kind = "missing" if kept is None else "changed"
        found.differs(Difference(table="plans", key=key, kind=kind, message=message, restorable=False))
    notified = select(func.count()).where(
        col(Step.export_id) == told.export_id, col(Step.name).in_(NOTIFY), col(Step.state) == StepState.DONE
    )
    all_notified = session.scalar(notified) == len(NOTIFY)
    if kept is not None and read is not None:
        return Known(told, read.plan.account_id, kept.id, read, all_notified)
    owner = export or kept
    if owner is None:
        raise Untold("neither the export's row nor its plan is there to say whose it is")
    return Known(told, owner.account_id, None, None, all_notified)


def _read(kept: PlanSnapshot, plan_hash: str) -> ReadPlan | None:
    try:
        read = snapshot(kept)
    except (ValidationError, PlanHashMismatch, InvalidState, ValueError):
        return None
    return read if read.plan_hash == plan_hash else None


def _tried(sayings: Sayings) -> set[str]:
    """Return the deliveries that were tried, and their messages: a try is never deleted, nor what it is of."""
    tried = [delivery for delivery in sayings.deliveries if sayings.attempts.get(delivery.id)]
    return {delivery.id for delivery in tried} | {delivery.notification_id for delivery in tried}


def _merged(derived: Sequence[Row]) -> list[Row]:
    """Return one row a key: what two parts derive of the same row belongs together."""
    merged: dict[tuple[str, tuple[Any, ...]], Row] = {}
    for row in derived:
        place = (str(row.model.__tablename__), tuple(row.key.values()))
        before = merged.get(place)
        merged[place] = row if before is None else before.with_more(row)
    return list(merged.values())


def _compare(session: Session, found: Rebuilt, derived: Sequence[Row], known: Known, tried: set[str]) -> None:
    by_model: dict[type[SQLModel], list[Row]] = defaultdict(list)
    for row in derived:
        by_model[row.model].append(row)
    models: list[type[SQLModel]] = [
        Export,
        ExportUnit,
        Step,
        Package,
        LineTreatment,
        Artifact,
        BrokerSubmission,
        Acknowledgement,
        Notification,
        Delivery,
    ]
    for model in models:
        if known.read is None and model in _OF_THE_PLAN:
            continue
        names = [column.name for column in table(model).primary_key]
        there = {
            tuple(getattr(row, name) for name in names): row
            for row in session.scalars(_of_export(model, known.history.export_id))
        }
        for row in by_model[model]:
            actual = there.pop(tuple(row.key[name] for name in names), None)
            # A row that names another export is this one's all the same.
            _compare_row(found, row, actual or session.get(model, tuple(row.key[name] for name in names)))
        for key in there:
            found.differs(
                Difference(
                    table=str(model.__tablename__),
                    key=dict(zip(names, key, strict=True)),
                    kind="added",
                    message="the log knows nothing of this row",
                    restorable=not (model in (Notification, Delivery) and tried.intersection(key)),
                ),
                Row(model, dict(zip(names, key, strict=True))),
            )


def _of_export(model: type[SQLModel], export_id: str) -> Any:
    if model is Export:
        return select(Export).where(col(Export.id) == export_id)
    if model is Acknowledgement:
        submissions = select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        return select(Acknowledgement).where(col(Acknowledgement.submission_id).in_(submissions))
    return select(model).where(table(model).c.export_id == export_id)


def _compare_row(found: Rebuilt, row: Row, actual: SQLModel | None) -> None:
    name = str(row.model.__tablename__)
    if actual is None:
        message = "the log says that there is such a row"
        found.differs(Difference(table=name, key=dict(row.key), kind="missing", message=message), row)
        return
    changed = [column for column, value in row.holds.items() if getattr(actual, column) != value]
    changed += [column for column, values in row.may.items() if getattr(actual, column) not in values]
    if changed:
        message = f"not as the log says: {', '.join(changed)}"
        found.differs(Difference(table=name, key=dict(row.key), kind="changed", columns=changed, message=message), row)


def _compare_findings(session: Session, found: Rebuilt, told: History) -> None:
    export = session.get(Export, told.export_id)
    if export is None or rows_digest(export.findings) == told.accepted.get("findingsDigest"):
        return
    found.differs(
        Difference(
            table="exports",
            key={"id": told.export_id},
            kind="changed",
            columns=["findings"],
            message="not the findings that it was accepted with, of which the log has the digest; only a backup has them",
            restorable=False,
        )
    )


def _compare_sayings(found: Rebuilt, told: History, sayings: Sayings) -> None:
    for stretch in messages.stretches(told, sayings):
        handed_off = stretch.told.seq == told.handed_off_seq
        if handed_off:
            found.handed_off = stretch
        if stretch.intact:
            continue
        found.differs(
            Difference(
                table="notifications",
                key={"export_id": told.export_id, "event": stretch.told.seq},
                kind="changed",
                message=f"what event {stretch.told.seq} owed, or to whom, is not as it was: "
                f"{len(stretch.notifications)} of {stretch.told.notifications} messages are there",
                restorable=handed_off,
            )
        )
