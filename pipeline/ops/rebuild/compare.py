"""One export's tables held against its log: what is missing, changed or added, and the row that mends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from sqlalchemy import ColumnElement, func, select
from sqlmodel import Session, SQLModel, col

from pipeline.core.db import table
from pipeline.core.errors import InvalidState, PlanHashMismatch
from pipeline.deliveries.models import Acknowledgement, Attempt, BrokerSubmission, Delivery, Notification
from pipeline.documents.repository import PURGED
from pipeline.exports.hash_chain import digest_rows
from pipeline.exports.models import (
    Artifact,
    Event,
    Export,
    ExportPackage,
    ExportUnit,
    LineTreatment,
    PlanSnapshot,
    Step,
)
from pipeline.exports.plans import HashedPlan
from pipeline.exports.states import StepState
from pipeline.ops import audit, raw_rows
from pipeline.ops.raw_rows import MALFORMED, UNREADABLE
from pipeline.ops.rebuild import messages, projections
from pipeline.ops.rebuild.history import History, Untold, history
from pipeline.ops.rebuild.messages import Sayings, Stretch
from pipeline.ops.rebuild.projections import Known, Row
from pipeline.workflow.preflight import load_snapshot
from pipeline.workflow.steps import NOTIFY_STEPS

Kind = Literal["missing", "changed", "added"]

#: The tables that only a plan can fill: without it they are left alone.
_OF_THE_PLAN: Final = (ExportPackage, LineTreatment)


#: The columns that the log holds by their digest alone.
_BY_DIGEST: Final = {
    "exports": frozenset({"findings"}),
    "notifications": frozenset({"audience", "event_type", "position", "data"}),
    "deliveries": frozenset({"notification_id", "partner_id", "channel"}),
}


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
    def why_refused(self) -> str | None:
        """Why nothing of it was restored, as it was found or once it was tried."""
        return self.refused or (None if self.left is None else self.left.refused)

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
    """Derive the tables of one export and compare them with what is there; what cannot be read is a difference as well."""
    found = Rebuilt(export_id)
    try:
        _check(session, found)
    except Untold as untold:
        found.refused = f"its log does not say enough: {untold}"
    except MALFORMED as error:
        # Every hash holds, but not what we write: one export that nobody foresaw stops no other.
        found.refused = f"what is kept of it does not fit together ({type(error).__name__})"
    return found


def _check(session: Session, found: Rebuilt) -> None:
    export_id = found.export_id
    log = raw_rows.read_rows(session, Event, col(Event.export_id) == export_id, order_by=(col(Event.seq),))
    export = _export(session, export_id)
    # A number that is too low comes back; one that is too high tells that the end of the log is gone.
    given_out = export.next_seq if export is not None and isinstance(export.next_seq, int) else 1
    chain = audit.Chain(export_id, max(given_out, len(log) + 1))
    for event in log:
        chain.follow_event(raw_rows.row_values(event))
    chain.finish()
    if chain.first_break is not None:
        found.refused = f"its log cannot be believed: event {chain.first_break.seq} is {chain.first_break.kind}"
        return
    told = history(export_id, log)
    known = _known(session, told, export, found)
    sayings = read_sayings(session, export_id)
    derived = [*projections.rows(known), *messages.rows(told, sayings, known.account_id)]
    _compare(session, found, _merged(derived), known, _tried(sayings))
    if not known.purged:
        _compare_findings(found, told, export)
    _compare_sayings(found, told, sayings)


def _export(session: Session, export_id: str) -> Export | None:
    return next(iter(raw_rows.read_rows(session, Export, col(Export.id) == export_id)), None)


def read_sayings(session: Session, export_id: str) -> Sayings:
    """Return the messages of an export, to whom they are owed, and the tries.

    Raises Untold where a try cannot be read: what became of a message is told by its tries.
    """
    of_export = (col(Notification.export_id) == export_id, col(Delivery.export_id) == export_id)
    notifications = raw_rows.read_rows(session, Notification, of_export[0], order_by=(col(Notification.position),))
    deliveries = raw_rows.read_rows(session, Delivery, of_export[1])
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in raw_rows.read_rows(
        session,
        Attempt,
        col(Attempt.delivery_id).in_(select(col(Delivery.id)).where(of_export[1])),
        order_by=(col(Attempt.delivery_id), col(Attempt.number)),
    ):
        if damaged := raw_rows.unreadable_columns(raw_rows.row_values(attempt)):
            raise Untold(
                f"{', '.join(damaged)} of try {attempt.number} of {attempt.delivery_id} cannot be read (attempts)"
            )
        attempts[attempt.delivery_id].append(attempt)
    return Sayings(notifications, deliveries, attempts)


def _known(session: Session, told: History, export: Export | None, found: Rebuilt) -> Known:
    plan_hash, batch_id = told.accepted["planHash"], told.accepted["batchId"]
    account_id = None if export is None or export.account_id is UNREADABLE else export.account_id
    plans = raw_rows.read_rows(
        session,
        PlanSnapshot,
        col(PlanSnapshot.plan_hash) == plan_hash,
        col(PlanSnapshot.batch_id) == batch_id,
        col(PlanSnapshot.test) == told.accepted["test"],
    )
    # Only where the export's own row is gone or names another account, the plan is whosever it is.
    kept = next((plan for plan in plans if plan.account_id == account_id), plans[0] if plans else None)
    read = None if kept is None else _read(kept, plan_hash)
    purged = told.purged_at is not None and kept is not None and kept.document == PURGED
    if read is None and not purged:
        key = {"batch_id": batch_id, "plan_hash": plan_hash}
        message = "the plan that was accepted is not there any more; only a backup has it"
        kind: Kind = "missing" if kept is None else "changed"
        found.differs(Difference(table="plans", key=key, kind=kind, message=message, restorable=False))
    notified = select(func.count()).where(
        col(Step.export_id) == told.export_id, col(Step.name).in_(NOTIFY_STEPS), col(Step.state) == StepState.DONE
    )
    all_notified = session.scalar(notified) == len(NOTIFY_STEPS)
    if kept is not None and read is not None:
        return Known(told, read.plan.account_id, kept.id, read, all_notified)
    owner = account_id or (kept.account_id if kept is not None else None)
    if not isinstance(owner, str):
        raise Untold("neither the export's row nor its plan is there to say whose it is")
    return Known(told, owner, None if kept is None else kept.id, None, all_notified)


def _read(kept: PlanSnapshot, plan_hash: str) -> HashedPlan | None:
    try:
        read = load_snapshot(kept)
    except (PlanHashMismatch, InvalidState, *MALFORMED):
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
        ExportPackage,
        LineTreatment,
        Artifact,
        BrokerSubmission,
        Acknowledgement,
        Notification,
        Delivery,
    ]
    for model in models:
        if known.read is None and model in _OF_THE_PLAN and not known.purged:
            continue
        names = [column.name for column in table(model).primary_key]
        there = {
            tuple(getattr(row, name) for name in names): row
            for row in raw_rows.read_rows(session, model, _of_export(model, known.history.export_id))
        }
        for row in by_model[model]:
            actual = there.pop(tuple(row.key[name] for name in names), None)
            # A row that names another export is this one's all the same.
            _compare_row(found, row, actual or _by_key(session, row))
        for key in there:
            stays = model in (Notification, Delivery) and not tried.isdisjoint(key)
            found.differs(
                Difference(
                    table=str(model.__tablename__),
                    key={
                        name: held if isinstance(held, str | int) else repr(held)
                        for name, held in zip(names, key, strict=True)
                    },
                    kind="added",
                    message="the log knows nothing of this row"
                    + ("; it was tried, and tries are kept" if stays else ""),
                    restorable=not stays,
                ),
                Row(model, dict(zip(names, key, strict=True))),
            )


def _of_export(model: type[SQLModel], export_id: str) -> ColumnElement[bool]:
    if model is Export:
        return col(Export.id) == export_id
    if model is Acknowledgement:
        submissions = select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        return col(Acknowledgement.submission_id).in_(submissions)
    return table(model).c.export_id == export_id


def _by_key(session: Session, row: Row) -> SQLModel | None:
    columns = table(row.model).c
    return next(
        iter(raw_rows.read_rows(session, row.model, *(columns[name] == value for name, value in row.key.items()))), None
    )


def _compare_row(found: Rebuilt, row: Row, actual: SQLModel | None) -> None:
    name = str(row.model.__tablename__)

    def differs(kind: Kind, message: str, columns: Sequence[str] = (), *, restorable: bool = True) -> None:
        found.differs(
            Difference(
                table=name,
                key=dict(row.key),
                kind=kind,
                columns=list(columns),
                message=message,
                restorable=restorable,
            ),
            row,
        )

    if actual is None:
        wanting = [column.name for column in table(row.model).c if not row.mends(column.name)]
        kept = f", and not its {', '.join(wanting)}, which only a backup has" if wanting else ""
        differs("missing", f"the log says that there is such a row{kept}", restorable=not wanting)
        return
    held = raw_rows.row_values(actual)
    changed = [column for column, value in row.holds.items() if held[column] != value]
    changed += [column for column, values in row.may.items() if held[column] not in values]
    if changed:
        differs("changed", f"not as the log says: {', '.join(changed)}", changed)
    # What is told of by a digest is not told twice.
    damaged = [
        each
        for each in raw_rows.unreadable_columns(held)
        if each not in row.derived | _BY_DIGEST.get(name, frozenset())
    ]
    for mends in (True, False):
        if columns := [each for each in damaged if row.mends(each) is mends]:
            differs("changed", f"cannot be read: {', '.join(columns)}", columns, restorable=mends)


def _compare_findings(found: Rebuilt, told: History, export: Export | None) -> None:
    if export is None or _digest(export.findings) == told.accepted.get("findingsDigest"):
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


def _digest(findings: Sequence[Any]) -> str | None:
    try:
        return digest_rows(findings)
    except MALFORMED:
        return None


def _compare_sayings(found: Rebuilt, told: History, sayings: Sayings) -> None:
    for stretch in messages.stretches(told, sayings):
        handed_off = stretch.told.seq == told.handed_off_seq
        if handed_off:
            found.handed_off = stretch
        if stretch.intact:
            continue
        owed, there = stretch.told.notifications, len(stretch.notifications)
        if there > owed:
            message = (
                f"event {stretch.told.seq} owed {owed} messages, and {there} are there: which were added cannot be told"
            )
        elif there < owed:
            message = f"event {stretch.told.seq} owed {owed} messages, of which {there} are there"
        else:
            message = f"of what event {stretch.told.seq} owed a message, or whom it was owed, is not as it was"
        found.differs(
            Difference(
                table="notifications",
                key={"export_id": told.export_id, "event": stretch.told.seq},
                kind="changed",
                message=message,
                restorable=handed_off and not stretch.purged,
            )
        )
