"""Retention: which records have expired, and the purge that removes their payload and keeps the hashes."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, literal, or_, select, update
from sqlalchemy.orm import Mapped
from sqlmodel import Session, SQLModel, col

from pipeline.core.clock import add_years, midnight
from pipeline.core.db import row_count
from pipeline.core.runtime import Runtime
from pipeline.customs.models import OriginCertification
from pipeline.customs.reference.entry import entry_rules
from pipeline.deliveries.entries.facets import FACETS, Facet
from pipeline.deliveries.models import (
    Acknowledgement,
    BrokerSubmission,
    ConversationMessage,
    Delivery,
    Notification,
    SandboxHandoff,
)
from pipeline.deliveries.outbox import outbox
from pipeline.documents import repository
from pipeline.exports import events
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import (
    Artifact,
    Export,
    ExportPackage,
    ExportUnit,
    IdempotencyRecord,
    LegalHold,
    LineTreatment,
    PlanSnapshot,
    Step,
)
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, InboxState
from pipeline.ops import legal_holds
from pipeline.ops.raw_rows import MALFORMED, tolerant, undecoded_text_as_bytes
from pipeline.orders.models import Order, SyncRecord

ACTOR: Final = "retention"
#: A page is small because each record comes with its plan, which may have megabytes.
_PAGE_SIZE: Final = 20
_HASHES_PER_BATCH: Final = 200
#: How long the responses to syncs are kept for repeats.
_RESPONSE_DAYS: Final = 30

#: The statuses that say that customs have the entry.
_ENTERED: Final = [status.value for status, facet in FACETS.items() if facet not in (Facet.MESSAGE, Facet.BROKER)]

#: The columns of a unit with facts of its plan.
_UNIT_COLUMNS: Final = (
    "tariff invoice_number purchase_order informal_key informal_usd control_number_key invoice_key".split()
)
_OF_ANSWER: Final[dict[str, Any]] = {"fields": [], **dict.fromkeys(("message", "raw", "assessed", "comparison"))}

_EXPORT: Final = col(Export.id)
_PLAN: Final = col(PlanSnapshot.id)


@dataclass(frozen=True)
class ExpiredRecord:
    """A plan whose retention period is over, and the export made from it, if there is one.

    `entry_on` is the later of two days: the plan's day of entry, and the day when the customs broker last reported it
    of the entry to customs, such as filed, released or held.
    """

    export_id: str | None  # None for a registered plan without a kept export
    plan_id: str
    account_id: str
    batch_id: str
    entry_on: date
    jurisdiction: str
    years: int
    kept_until: date
    held_by: str | None  # the legal hold that keeps it


@dataclass(frozen=True)
class UnreadablePlan:
    """A plan without a readable day of entry; its retention period is unknown, so it is kept."""

    export_id: str | None
    plan_id: str
    account_id: str


@dataclass(frozen=True)
class PurgeResult:
    """The result of one purge."""

    exports: int
    plans: int  # without a kept export
    documents: int
    orders: int = 0  # without an export
    unreadable: tuple[str, ...] = ()  # ids of plans that are kept because their day of entry is unreadable


def find_expired(
    runtime: Runtime, on: date, report: Callable[[int, int], None] = lambda _, __: None
) -> Iterator[ExpiredRecord | UnreadablePlan]:
    """Yield the records that have expired by the day `on`, held ones included, oldest first, and the unreadable ones.

    First come the exports that have ended, then the registered plans without a kept export. `report` is called with the
    number of records that were looked at, and of those that may have expired.
    """
    years = dict(runtime.settings.retention_years)
    if not years:
        return
    entered_by = add_years(on, -min(years.values()))
    queries = ((_ended_exports(entered_by), _EXPORT), (_plans_without_export(entered_by), _PLAN))
    with runtime.db.read() as session:
        total = sum(
            session.scalar(query.with_only_columns(func.count(), maintain_column_froms=True)) or 0
            for query, _ in queries
        )
    done = 0
    for query, id_column in queries:
        after = ""
        while True:
            with runtime.db.read() as session, undecoded_text_as_bytes(session):
                rows = session.execute(query.where(id_column > after).order_by(id_column).limit(_PAGE_SIZE)).all()
            for row in rows:
                if (found := _read_record(*row, years=years, on=on)) is not None:
                    yield found
                done += 1
                report(done, total)
            if len(rows) < _PAGE_SIZE:
                break
            after = rows[-1][0] or rows[-1][1]


def purge_expired(runtime: Runtime, on: date, report: Callable[[int, int], None] = lambda _, __: None) -> PurgeResult:
    """Remove the payload of every expired export and plan that is not held, one per transaction, then the documents.

    Hashes and the log stay, so every chain can still be verified. The next purge completes one that was interrupted, and
    removes those whose messages are being sent now.
    `report` is called as by `find_expired`.
    """
    exports = plans = 0
    unreadable = []
    for each in find_expired(runtime, on, report):
        if isinstance(each, UnreadablePlan):
            unreadable.append(each.plan_id)
            continue
        if each.held_by is not None:
            continue
        if each.export_id is None:
            plans += _purge_plan(runtime, each)
        else:
            exports += _purge_export(runtime, each.export_id, each)
    orders = _purge_orders(runtime, on)
    return PurgeResult(exports, plans, _purge_documents(runtime), orders, tuple(unreadable))


def _ended_exports(entered_by: date) -> Select[*tuple[Any, ...]]:
    """Return the query for ended, unpurged exports that may be entered by then, as `_to_expired_record` reads them."""
    return (
        select(
            _EXPORT,
            _PLAN,
            col(Export.account_id),
            col(Export.batch_id),
            col(PlanSnapshot.document),
            tolerant(_entry_confirmed_at()),
            legal_holds.oldest_hold_of_export(),
        )
        .join(PlanSnapshot, col(Export.plan_id) == _PLAN)
        .where(col(Export.purged_at).is_(None), col(Export.state).not_in(ACTIVE_STATES), _may_be_entered(entered_by))
    )


def _plans_without_export(entered_by: date) -> Select[*tuple[Any, ...]]:
    """Return the same query for plans that are not purged and have no kept export."""
    return select(
        literal(None),
        _PLAN,
        col(PlanSnapshot.account_id),
        col(PlanSnapshot.batch_id),
        col(PlanSnapshot.document),
        literal(None),  # a plan has no answer of a customs broker
        legal_holds.oldest_hold_of_plan(),
    ).where(col(PlanSnapshot.document) != repository.PURGED, _may_be_entered(entered_by), ~_export_is_kept(_PLAN))


def _may_be_entered(by: date) -> ColumnElement[bool]:
    # Only plans that can have expired are read. Plans older than this column have no value and are always read.
    return or_(col(PlanSnapshot.entry_on).is_(None), col(PlanSnapshot.entry_on) <= by)


def _entry_confirmed_at() -> ColumnElement[datetime]:
    """Return when the customs broker last reported the entry of the export as made, as a subquery on `exports`."""
    return (
        select(func.max(col(Acknowledgement.received_at)))
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(Acknowledgement.submission_id))
        .where(col(BrokerSubmission.export_id) == _EXPORT, col(Acknowledgement.status).in_(_ENTERED))
        .correlate(Export)
        .scalar_subquery()
    )


def _export_is_kept(plan_id: Mapped[str] | str) -> ColumnElement[bool]:
    return exists().where(and_(col(Export.plan_id) == plan_id, col(Export.purged_at).is_(None)))


def _read_record(
    export_id: str | None, plan_id: str, account_id: str, *columns: Any, **law: Any
) -> ExpiredRecord | UnreadablePlan | None:
    try:
        return _to_expired_record(export_id, plan_id, account_id, *columns, **law)
    except MALFORMED:
        return UnreadablePlan(export_id, plan_id, account_id)


def _to_expired_record(
    export_id: str | None,
    plan_id: str,
    account_id: str,
    batch_id: str,
    plan: str,
    entered_at: datetime | None,
    held_by: str | None,
    *,
    years: Mapping[str, int],
    on: date,
) -> ExpiredRecord | None:
    # Read without validation: a plan that was valid years ago may be invalid today.
    document: dict[str, Any] = json.loads(plan)
    entry_on = max(_entry_on(unit["entry"]) for unit in document["units"])
    if entered_at is not None:
        entry_on = max(entry_on, _day(entered_at))
    jurisdictions = [
        country for country in (document["destinationCountry"], document["exportCountry"]) if country in years
    ]
    if not jurisdictions:
        return None
    jurisdiction = max(jurisdictions, key=lambda country: years[country])
    kept_until = add_years(entry_on, years[jurisdiction])
    if on <= kept_until:
        return None
    return ExpiredRecord(
        export_id, plan_id, account_id, batch_id, entry_on, jurisdiction, years[jurisdiction], kept_until, held_by
    )


def _entry_on(entry: Mapping[str, Any]) -> date:
    # As in the rules: the day of arrival on the rules' clock if it is known, else the day of export.
    arrival = entry.get("estimatedArrivalAt")
    if arrival is None:
        return date.fromisoformat(entry["exportDate"])
    return _day(datetime.fromisoformat(arrival))


def _day(at: datetime) -> date:
    return at.astimezone(ZoneInfo(entry_rules().clock.zone)).date()


def _purge_export(runtime: Runtime, export_id: str, record: ExpiredRecord) -> bool:
    with runtime.db.write() as session:
        events.lock_export(session, export_id)
        export = session.get_one(Export, export_id, populate_existing=True)
        legal_holds.lock_holds(session, record.account_id)
        # Checked again: a hold may have been placed after the export was found expired.
        is_held = session.scalar(select(legal_holds.oldest_hold_of_export()).where(col(Export.id) == export_id))
        if export.purged_at is not None or is_held or outbox.is_sending(session, export_id, export.plan_id):
            return False
        fact = {
            "planHash": export.plan_hash,
            "entryOn": record.entry_on.isoformat(),
            "jurisdiction": record.jurisdiction,
            "years": record.years,
        }
        purged = events.append(session, export_id, ACTOR, [events.NewEvent(events.EventType.EXPORT_PURGED, fact)])
        # Messages that a paused partner did not receive have lost their body.
        outbox.cancel_unsent(session, export_id)
        _clear_columns(
            session,
            Export,
            col(Export.id) == export_id,
            purged_at=purged.at,
            findings=[],
            failure=None,
            approved_by=None,
            approved_at=None,
        )
        _clear_columns(
            session,
            ExportUnit,
            col(ExportUnit.export_id) == export_id,
            document=repository.PURGED,
            **dict.fromkeys(_UNIT_COLUMNS),
        )
        _clear_columns(session, Notification, col(Notification.export_id) == export_id, data=repository.PURGED)
        _clear_columns(session, Step, col(Step.export_id) == export_id, error=None)
        _clear_columns(session, Delivery, col(Delivery.subject_id) == export_id, error=None)
        submissions = select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        for model, cleared in ((Acknowledgement, _OF_ANSWER), (ConversationMessage, {"text": None})):
            _clear_columns(session, model, col(model.submission_id).in_(submissions), **cleared)
        _clear_columns(session, ConversationFile, col(ConversationFile.export_id) == export_id, filename=None)
        session.execute(delete(SandboxHandoff).where(col(SandboxHandoff.submission_id).in_(submissions)))
        _clear_columns(
            session,
            BrokerSubmission,
            col(BrokerSubmission.export_id) == export_id,
            recipient=None,
            subject="",
            error_message=None,
            # No answer is expected or polled for any more.
            **dict.fromkeys(("deadline_at", "summary_due_at", "polled_at")),
        )
        for table in (ExportPackage, LineTreatment, IdempotencyRecord, Order, OriginCertification):
            session.execute(delete(table).where(col(table.export_id) == export_id))
        _lock_plan(session, export.plan_id)
        _clear_plan(session, export.plan_id)
    return True


def _purge_orders(runtime: Runtime, on: date) -> int:
    """Delete orders without an export that were not synced for long, and old responses; return the number of orders.

    A legal hold on the whole account keeps both.
    """
    orders_until = midnight(on) - timedelta(days=runtime.settings.order_days)
    responses_until = midnight(on) - timedelta(days=_RESPONSE_DAYS)
    held = select(col(LegalHold.account_id)).where(
        col(LegalHold.export_id).is_(None), col(LegalHold.released_at).is_(None)
    )
    with runtime.db.write() as session:
        deleted = session.execute(
            delete(Order).where(
                col(Order.export_id).is_(None),
                col(Order.synced_at) < orders_until,
                or_(col(Order.held_until).is_(None), col(Order.held_until) < orders_until),
                col(Order.account_id).not_in(held),
            )
        )
        session.execute(
            delete(SyncRecord).where(
                col(SyncRecord.created_at) < responses_until, col(SyncRecord.account_id).not_in(held)
            )
        )
    return row_count(deleted)


def _purge_plan(runtime: Runtime, record: ExpiredRecord) -> bool:
    with runtime.db.write() as session:
        legal_holds.lock_holds(session, record.account_id)
        _lock_plan(session, record.plan_id)
        if session.scalar(select(legal_holds.oldest_hold_of_plan()).where(col(PlanSnapshot.id) == record.plan_id)):
            return False
        return _clear_plan(session, record.plan_id)


def _clear_plan(session: Session, plan_id: str) -> bool:
    """Remove the locked plan's payload, and that of its messages, unless a kept export uses it or one is being sent; return if it did."""
    if session.scalar(select(_export_is_kept(plan_id))) or outbox.is_sending(session, plan_id):
        return False
    _clear_columns(session, PlanSnapshot, col(PlanSnapshot.id) == plan_id, document=repository.PURGED)
    outbox.cancel_unsent(session, plan_id)
    _clear_columns(session, Notification, col(Notification.plan_id) == plan_id, data=repository.PURGED)
    _clear_columns(session, Delivery, col(Delivery.subject_id) == plan_id, error=None)
    dead = col(Delivery.subject_id) == plan_id, col(Delivery.state) == DeliveryState.DEAD.value
    _clear_columns(session, Delivery, *dead, inbox=InboxState.CLOSED.value)
    return True


def _lock_plan(session: Session, plan_id: str) -> None:
    # A separate statement: it waits for a transaction that writes an export of the plan, and then sees that export.
    session.execute(select(_PLAN).where(col(PlanSnapshot.id) == plan_id).with_for_update())


def _clear_columns(session: Session, table: type[SQLModel], *which: ColumnElement[bool], **values: Any) -> None:
    session.execute(update(table).where(*which).values(**values).execution_options(synchronize_session=False))


def _purge_documents(runtime: Runtime) -> int:
    """Delete the bytes of purged exports' documents and attachments, and return their number; the next purge retries the others."""
    purged_hashes = [
        select(col(model.sha256))
        .join(Export, col(model.export_id) == _EXPORT)
        .where(col(Export.purged_at).is_not(None), col(model.purged_at).is_(None))
        .limit(_HASHES_PER_BATCH)
        for model in (Artifact, ConversationFile)
    ]
    count = 0
    while True:
        with runtime.db.read() as session:
            hashes = {each for query in purged_hashes for each in session.scalars(query)}
        if not hashes:
            return count
        count += sum(repository.delete_unreferenced(runtime, sha256) for sha256 in hashes)
