"""One export's tables compared with its log: what is missing, changed or added, and the row that repairs it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from sqlalchemy import ColumnElement, func, select
from sqlmodel import Session, SQLModel, col

from pipeline.core.clock import add_years
from pipeline.core.db import database_now, table
from pipeline.core.errors import InvalidState, PlanHashMismatch, RulesUnreadable
from pipeline.customs import rulesets
from pipeline.customs.checks.same_goods import SSCC_YEARS
from pipeline.customs.reference.content import use_rules
from pipeline.deliveries.models import (
    Acknowledgement,
    Attempt,
    BrokerSubmission,
    ConversationMessage,
    CustomsEntry,
    Delivery,
    Notification,
)
from pipeline.documents.repository import PURGED
from pipeline.exports.event_models import Event
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.hash_chain import digest_rows
from pipeline.exports.models import Artifact, Export, ExportPackage, ExportUnit, LineTreatment, PlanSnapshot, Step
from pipeline.exports.plans import HashedPlan
from pipeline.exports.states import StepState
from pipeline.ops import audit, raw_rows
from pipeline.ops.raw_rows import MALFORMED, UNREADABLE
from pipeline.ops.rebuild import messages, projections
from pipeline.ops.rebuild.history import ExportHistory, MissingFact, fold_log
from pipeline.ops.rebuild.messages import MessageBatch, MessageRows
from pipeline.ops.rebuild.projections import ExpectedRow, ExportFacts
from pipeline.workflow.preflight import load_snapshot
from pipeline.workflow.steps import NOTIFY_STEPS

Kind = Literal["missing", "changed", "added"]

#: The tables that only a plan can fill; without the plan they are not compared.
_PLAN_TABLES: Final = (ExportPackage, LineTreatment)


#: The columns that the log holds only as a digest.
_DIGESTED_COLUMNS: Final = {
    "exports": frozenset({"findings"}),
    "notifications": frozenset({"audience", "event_type", "position", "data"}),
    "deliveries": frozenset({"notification_id", "partner_id", "channel"}),
}


class Difference(BaseModel):
    """A difference between a table and the log: a row that is missing, changed or added."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    table: str
    key: dict[str, Any]
    kind: Kind
    columns: list[str] = []
    message: str
    restorable: bool = True


@dataclass
class RebuildResult:
    """The comparison of one export: `differences`, or why its log is incomplete or broken."""

    export_id: str
    differences: list[Difference] = field(default_factory=list)
    refusal: str | None = None
    repairs: list[tuple[Difference, ExpectedRow | None]] = field(default_factory=list, repr=False)
    #: The messages that the handoff enqueued, as they are now.
    handed_off: MessageBatch | None = field(default=None, repr=False)
    #: The differences that remain after the restore.
    after_restore: "RebuildResult | None" = None

    @property
    def refusal_reason(self) -> str | None:
        """Why nothing was restored, found before or after the restore; None if there was no refusal."""
        return self.refusal or (None if self.after_restore is None else self.after_restore.refusal)

    @property
    def intact(self) -> bool:
        """Whether every table holds what the log says."""
        return not self.differences and self.refusal is None

    def add_difference(self, difference: Difference, row: ExpectedRow | None = None) -> None:
        """Add a difference, and the row that repairs it."""
        self.differences.append(difference)
        if difference.restorable:
            self.repairs.append((difference, row))


def compare_export(session: Session, export_id: str) -> RebuildResult:
    """Derive the tables of one export and compare them with the stored rows; an unreadable value is a difference."""
    result = RebuildResult(export_id)
    try:
        _compare_with_log(session, result)
    except MissingFact as missing:
        result.refusal = f"its log lacks a fact: {missing}"
    except RulesUnreadable as unreadable:
        result.refusal = f"the rules that accepted it cannot be read: {unreadable}"
    except MALFORMED as error:
        # Every hash fits, but the data is not what the service writes. One such export must not stop the others.
        result.refusal = f"its stored data is contradictory ({type(error).__name__})"
    return result


def _compare_with_log(session: Session, result: RebuildResult) -> None:
    export_id = result.export_id
    log = raw_rows.read_rows(session, Event, col(Event.export_id) == export_id, order_by=(col(Event.seq),))
    export = _read_export(session, export_id)
    # A number that is too low can be restored; one that is too high means that the end of the log is missing.
    last_number = export.next_seq if export is not None and isinstance(export.next_seq, int) else 1
    chain = audit.Chain(export_id, max(last_number, len(log) + 1))
    for event in log:
        chain.follow_event(raw_rows.row_values(event))
    chain.finish()
    if chain.first_break is not None:
        result.refusal = f"its log is broken: event {chain.first_break.seq} is {chain.first_break.kind}"
        return
    history = fold_log(export_id, log)
    facts = _gather_facts(session, history, export, result)
    message_rows = read_message_rows(session, export_id)
    with use_rules(rulesets.read_stored(session, history.accepted.get("rulesHash"))):
        rows = [*projections.expected_rows(facts)]
    derived = [*rows, *messages.expected_message_rows(history, message_rows, facts.account_id)]
    derived.append(messages.expected_outcome(history, message_rows, derived))
    _compare_tables(session, result, _merge_rows(derived), facts, _attempted_ids(message_rows))
    if not facts.purged:
        _compare_findings(result, history, export)
    _compare_messages(result, history, message_rows)


def _read_export(session: Session, export_id: str) -> Export | None:
    return next(iter(raw_rows.read_rows(session, Export, col(Export.id) == export_id)), None)


def read_message_rows(session: Session, export_id: str) -> MessageRows:
    """Return the messages of an export, their deliveries, the attempts, and the submissions.

    Raises MissingFact if an attempt cannot be read: the attempts decide the state of a delivery.
    """
    belongs_to_export = (col(Notification.export_id) == export_id, col(Delivery.subject_id) == export_id)
    notifications = raw_rows.read_rows(
        session, Notification, belongs_to_export[0], order_by=(col(Notification.position),)
    )
    deliveries = raw_rows.read_rows(session, Delivery, belongs_to_export[1])
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in raw_rows.read_rows(
        session,
        Attempt,
        col(Attempt.delivery_id).in_(select(col(Delivery.id)).where(belongs_to_export[1])),
        order_by=(col(Attempt.delivery_id), col(Attempt.number)),
    ):
        if damaged := raw_rows.unreadable_columns(raw_rows.row_values(attempt)):
            raise MissingFact(
                f"{', '.join(damaged)} of attempt {attempt.number} of {attempt.delivery_id} cannot be read (attempts)"
            )
        attempts[attempt.delivery_id].append(attempt)
    submissions = raw_rows.read_rows(session, BrokerSubmission, col(BrokerSubmission.export_id) == export_id)
    return MessageRows(notifications, deliveries, attempts, submissions)


def _gather_facts(
    session: Session, history: ExportHistory, export: Export | None, result: RebuildResult
) -> ExportFacts:
    plan_hash, batch_id = history.accepted["planHash"], history.accepted["batchId"]
    account_id = None if export is None or export.account_id is UNREADABLE else export.account_id
    plans = raw_rows.read_rows(
        session,
        PlanSnapshot,
        col(PlanSnapshot.plan_hash) == plan_hash,
        col(PlanSnapshot.batch_id) == batch_id,
        col(PlanSnapshot.test) == history.accepted["test"],
    )
    # A plan of any account is accepted only if the export's row is missing or names another account.
    snapshot_row = next((plan for plan in plans if plan.account_id == account_id), plans[0] if plans else None)
    plan = None if snapshot_row is None else _read_plan(snapshot_row, plan_hash)
    purged = history.purged_at is not None and snapshot_row is not None and snapshot_row.document == PURGED
    if plan is None and not purged:
        key = {"batch_id": batch_id, "plan_hash": plan_hash}
        message = "the accepted plan is missing; restore it from a backup"
        kind: Kind = "missing" if snapshot_row is None else "changed"
        result.add_difference(Difference(table="plans", key=key, kind=kind, message=message, restorable=False))
    notified = select(func.count(), database_now()).where(
        col(Step.export_id) == history.export_id, col(Step.name).in_(NOTIFY_STEPS), col(Step.state) == StepState.DONE
    )
    steps, now = session.execute(notified).one()
    read_now = {
        "all_notified": steps == len(NOTIFY_STEPS),
        "ssccs_free": history.accepted_at is not None and add_years(history.accepted_at, SSCC_YEARS) <= now,
    }
    if snapshot_row is not None and plan is not None:
        return ExportFacts(history, plan.plan.account_id, snapshot_row.id, plan, **read_now)
    owner = account_id or (snapshot_row.account_id if snapshot_row is not None else None)
    if not isinstance(owner, str):
        raise MissingFact("the export's row and its plan are both missing, so its account is unknown")
    return ExportFacts(history, owner, None if snapshot_row is None else snapshot_row.id, None, **read_now)


def _read_plan(snapshot_row: PlanSnapshot, plan_hash: str) -> HashedPlan | None:
    try:
        read = load_snapshot(snapshot_row)
    except (PlanHashMismatch, InvalidState, *MALFORMED):
        return None
    return read if read.plan_hash == plan_hash else None


def _attempted_ids(message_rows: MessageRows) -> set[str]:
    """Return the ids of attempted deliveries and of their messages, which are never deleted."""
    attempted = [delivery for delivery in message_rows.deliveries if message_rows.attempts.get(delivery.id)]
    return {delivery.id for delivery in attempted} | {delivery.notification_id for delivery in attempted}


def _merge_rows(derived: Sequence[ExpectedRow]) -> list[ExpectedRow]:
    """Return one row for each key, merged from all parts that derive it."""
    merged: dict[tuple[str, tuple[Any, ...]], ExpectedRow] = {}
    for row in derived:
        table_key = (str(row.model.__tablename__), tuple(row.key.values()))
        before = merged.get(table_key)
        merged[table_key] = row if before is None else before.merged_with(row)
    return list(merged.values())


def _compare_tables(
    session: Session, result: RebuildResult, derived: Sequence[ExpectedRow], facts: ExportFacts, attempted: set[str]
) -> None:
    by_model: dict[type[SQLModel], list[ExpectedRow]] = defaultdict(list)
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
        ConversationMessage,
        CustomsEntry,
        ConversationFile,
        Notification,
        Delivery,
    ]
    for model in models:
        if facts.plan is None and model in _PLAN_TABLES and not facts.purged:
            continue
        names = [column.name for column in table(model).primary_key]
        actual_rows = {
            tuple(getattr(row, name) for name in names): row
            for row in raw_rows.read_rows(session, model, _belongs_to_export(model, facts.history.export_id))
        }
        for row in by_model[model]:
            actual = actual_rows.pop(tuple(row.key[name] for name in names), None)
            # A row with this key that names another export still belongs to this one.
            _compare_row(result, row, actual or _find_by_key(session, row))
        for key in actual_rows:
            is_kept = model in (Notification, Delivery) and not attempted.isdisjoint(key)
            result.add_difference(
                Difference(
                    table=str(model.__tablename__),
                    key={
                        name: value if isinstance(value, str | int) else repr(value)
                        for name, value in zip(names, key, strict=True)
                    },
                    kind="added",
                    message="the log does not mention this row"
                    + ("; it was attempted, and attempts are never deleted" if is_kept else ""),
                    restorable=not is_kept,
                ),
                ExpectedRow(model, dict(zip(names, key, strict=True))),
            )


def _belongs_to_export(model: type[SQLModel], export_id: str) -> ColumnElement[bool]:
    if model is Export:
        return col(Export.id) == export_id
    if model in (Acknowledgement, ConversationMessage, CustomsEntry):
        submissions = select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        return table(model).c.submission_id.in_(submissions)
    if model is Delivery:
        return col(Delivery.subject_id) == export_id
    return table(model).c.export_id == export_id


def _find_by_key(session: Session, row: ExpectedRow) -> SQLModel | None:
    columns = table(row.model).c
    return next(
        iter(raw_rows.read_rows(session, row.model, *(columns[name] == value for name, value in row.key.items()))), None
    )


def _compare_row(result: RebuildResult, row: ExpectedRow, actual: SQLModel | None) -> None:
    name = str(row.model.__tablename__)

    def add_difference(kind: Kind, message: str, columns: Sequence[str] = (), *, restorable: bool = True) -> None:
        result.add_difference(
            Difference(
                table=name, key=dict(row.key), kind=kind, columns=list(columns), message=message, restorable=restorable
            ),
            row,
        )

    if actual is None:
        unrestorable = [column.name for column in table(row.model).c if not row.can_restore(column.name)]
        suffix = f", but not its {', '.join(unrestorable)}; restore it from a backup" if unrestorable else ""
        add_difference("missing", f"the log says that this row exists{suffix}", restorable=not unrestorable)
        return
    actual_values = raw_rows.row_values(actual)
    changed = [column for column, value in row.values.items() if actual_values[column] != value]
    changed += [column for column, values in row.allowed.items() if actual_values[column] not in values]
    if changed:
        add_difference("changed", f"not as the log says: {', '.join(changed)}", changed)
    # A column that is compared by its digest is not reported twice.
    damaged = [
        each
        for each in raw_rows.unreadable_columns(actual_values)
        if each not in row.derived_columns | _DIGESTED_COLUMNS.get(name, frozenset())
    ]
    for restorable in (True, False):
        if columns := [each for each in damaged if row.can_restore(each) is restorable]:
            add_difference("changed", f"cannot be read: {', '.join(columns)}", columns, restorable=restorable)


def _compare_findings(result: RebuildResult, history: ExportHistory, export: Export | None) -> None:
    if export is None or _digest(export.findings) == history.accepted.get("findingsDigest"):
        return
    result.add_difference(
        Difference(
            table="exports",
            key={"id": history.export_id},
            kind="changed",
            columns=["findings"],
            message="not the findings at acceptance: they do not fit the digest in the log; restore them from a backup",
            restorable=False,
        )
    )


def _digest(findings: Sequence[Any]) -> str | None:
    try:
        return digest_rows(findings)
    except MALFORMED:
        return None


def _compare_messages(result: RebuildResult, history: ExportHistory, message_rows: MessageRows) -> None:
    for batch in messages.message_batches(history, message_rows):
        handed_off = batch.enqueued.seq == history.handed_off_seq
        if handed_off:
            result.handed_off = batch
        if batch.intact:
            continue
        expected, actual = batch.enqueued.notifications, len(batch.notifications)
        if actual > expected:
            message = f"event {batch.enqueued.seq} enqueued {expected} messages, but there are {actual}; the added ones are unknown"
        elif actual < expected:
            message = f"event {batch.enqueued.seq} enqueued {expected} messages, but there are only {actual}"
        else:
            message = f"a message that event {batch.enqueued.seq} enqueued, or its recipient, was changed"
        result.add_difference(
            Difference(
                table="notifications",
                key={"export_id": history.export_id, "event": batch.enqueued.seq},
                kind="changed",
                message=message,
                restorable=handed_off and not batch.purged,
            )
        )
