"""How long records are kept: what is due to go, and the purge that leaves the hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, literal, or_, select, update
from sqlalchemy.orm import Mapped
from sqlmodel import Session, SQLModel, col

from pipeline.core.runtime import Runtime
from pipeline.customs.reference.entry import entry_rules
from pipeline.deliveries import outbox
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Delivery, Notification, SandboxHandoff
from pipeline.documents import repository
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import (
    Artifact,
    Export,
    ExportPackage,
    ExportUnit,
    IdempotencyRecord,
    LineTreatment,
    PlanSnapshot,
    Step,
)
from pipeline.exports.states import ACTIVE_STATES, SubmissionState
from pipeline.ops import legal_holds
from pipeline.ops.raw_rows import MALFORMED, tolerant, undecoded_text_as_bytes

ACTOR: Final = "retention"
#: Each comes with its plan, which may have megabytes.
_IN_ONE_STRETCH: Final = 20
_HASHES_IN_ONE_STRETCH: Final = 200

#: The statuses of which each says that customs have the entry.
_ENTERED: Final = (SubmissionState.FILED.value, SubmissionState.RELEASED.value, SubmissionState.HELD.value)

_EXPORT: Final = col(Export.id)
_PLAN: Final = col(PlanSnapshot.id)


@dataclass(frozen=True)
class Due:
    """A plan that need not be kept any more, and the export that was made of it: from which day, for how long, by whose law.

    `entry_on` is the day that the plan says, or that on which the customs broker last said that it was filed, released or
    held, whichever is later.
    """

    export_id: str | None  # None of a plan that was registered and of which no export is kept
    plan_id: str
    account_id: str
    batch_id: str
    entry_on: date
    jurisdiction: str
    years: int
    kept_until: date
    held_by: str | None  # the legal hold that keeps it all the same


@dataclass(frozen=True)
class Unreadable:
    """A plan that is kept and of which the day of entry cannot be read, so that nobody can say for how long; it is kept."""

    export_id: str | None
    plan_id: str
    account_id: str


@dataclass(frozen=True)
class Purge:
    """What one purge came to."""

    exports: int
    plans: int  # of which no export was kept
    documents: int
    unreadable: tuple[str, ...] = ()  # ids of plans that are kept, for nobody can say whether they are due


def due(runtime: Runtime, on: date) -> Iterator[Due | Unreadable]:
    """Yield what need not be kept on the day `on`, the held among it, each oldest first, and what cannot be read.

    First come the exports that have ended, then the plans that were registered and of which no export is kept.
    """
    years = dict(runtime.settings.retention_years)
    if not years:
        return
    entered_by = _years_after(on, -min(years.values()))
    for query, place in ((_ended_exports(entered_by), _EXPORT), (_plans_alone(entered_by), _PLAN)):
        after = ""
        while True:
            with runtime.db.read() as session, undecoded_text_as_bytes(session):
                rows = session.execute(query.where(place > after).order_by(place).limit(_IN_ONE_STRETCH)).all()
            yield from (each for row in rows if (each := _read(*row, years=years, on=on)) is not None)
            if len(rows) < _IN_ONE_STRETCH:
                break
            after = rows[-1][0] or rows[-1][1]


def purge(runtime: Runtime, on: date) -> Purge:
    """Take away the payload of every export and plan that is due and not held, one transaction each, then the documents.

    Hashes stay, and the log as it is: every chain is proven as before. What was broken off is done by the next purge.
    """
    exports = plans = 0
    unreadable = []
    for each in due(runtime, on):
        if isinstance(each, Unreadable):
            unreadable.append(each.plan_id)
            continue
        if each.held_by is not None:
            continue
        if each.export_id is None:
            plans += _purged_plan(runtime, each)
        else:
            exports += _purged(runtime, each.export_id, each)
    return Purge(exports, plans, _purge_documents(runtime), tuple(unreadable))


def _ended_exports(entered_by: date) -> Select[*tuple[Any, ...]]:
    """Return the query of what `_due` is given of the exports that have ended, may be entered by then, and are not purged."""
    return (
        select(
            _EXPORT,
            _PLAN,
            col(Export.account_id),
            col(Export.batch_id),
            col(PlanSnapshot.document),
            tolerant(_entered_at()),
            legal_holds.oldest_hold_of_export(),
        )
        .join(PlanSnapshot, col(Export.plan_id) == _PLAN)
        .where(
            col(Export.purged_at).is_(None),
            col(Export.state).not_in(ACTIVE_STATES),
            _may_be_entered(entered_by),
        )
    )


def _plans_alone(entered_by: date) -> Select[*tuple[Any, ...]]:
    """Return the query of the same of the plans that are there and of which no export is kept."""
    return select(
        literal(None),
        _PLAN,
        col(PlanSnapshot.account_id),
        col(PlanSnapshot.batch_id),
        col(PlanSnapshot.document),
        literal(None),  # no customs broker has answered
        legal_holds.oldest_hold_of_plan(),
    ).where(
        col(PlanSnapshot.document) != repository.PURGED,
        _may_be_entered(entered_by),
        ~_export_is_kept(_PLAN),
    )


def _may_be_entered(by: date) -> ColumnElement[bool]:
    # So that only plans are read that can be due. Of those from before the column was there it is not known.
    return or_(col(PlanSnapshot.entry_on).is_(None), col(PlanSnapshot.entry_on) <= by)


def _entered_at() -> ColumnElement[datetime]:
    """Return when the customs broker last said of the export, as a subquery on `exports`, that its entry is made."""
    return (
        select(func.max(col(Acknowledgement.received_at)))
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(Acknowledgement.submission_id))
        .where(col(BrokerSubmission.export_id) == _EXPORT, col(Acknowledgement.status).in_(_ENTERED))
        .correlate(Export)
        .scalar_subquery()
    )


def _export_is_kept(plan_id: Mapped[str] | str) -> ColumnElement[bool]:
    return exists().where(and_(col(Export.plan_id) == plan_id, col(Export.purged_at).is_(None)))


def _read(export_id: str | None, plan_id: str, account_id: str, *said: Any, **law: Any) -> Due | Unreadable | None:
    try:
        return _due(export_id, plan_id, account_id, *said, **law)
    except MALFORMED:
        return Unreadable(export_id, plan_id, account_id)


def _due(
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
) -> Due | None:
    # Read as it lies there: what was valid years ago need not be what a plan may say today.
    said: dict[str, Any] = json.loads(plan)
    entry_on = max(_entry_on(unit["entry"]) for unit in said["units"])
    if entered_at is not None:
        entry_on = max(entry_on, _day(entered_at))
    concerned = [country for country in (said["destinationCountry"], said["exportCountry"]) if country in years]
    if not concerned:
        return None
    longest = max(concerned, key=lambda country: years[country])
    kept_until = _years_after(entry_on, years[longest])
    if on <= kept_until:
        return None
    return Due(export_id, plan_id, account_id, batch_id, entry_on, longest, years[longest], kept_until, held_by)


def _entry_on(entry: Mapping[str, Any]) -> date:
    # As for the rules: the day of arrival by the clock that they go by, where it is known, else that of export.
    arrival = entry.get("estimatedArrivalAt")
    if arrival is None:
        return date.fromisoformat(entry["exportDate"])
    return _day(datetime.fromisoformat(arrival))


def _day(at: datetime) -> date:
    return at.astimezone(ZoneInfo(entry_rules().clock.zone)).date()


def _years_after(day: date, years: int) -> date:
    if day.year + years > MAXYEAR:  # an older version took such a plan
        return date.max
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # the 29th of February
        return date(day.year + years, 3, 1)


def _purged(runtime: Runtime, export_id: str, each: Due) -> bool:
    with runtime.db.write() as session:
        events.lock_export(session, export_id)
        export = session.get_one(Export, export_id, populate_existing=True)
        legal_holds.lock_holds(session, each.account_id)
        # Looked for once more: a hold may have been placed since the export was found to be due.
        if export.purged_at is not None or session.scalar(
            select(legal_holds.oldest_hold_of_export()).where(col(Export.id) == export_id)
        ):
            return False
        fact = {
            "planHash": export.plan_hash,
            "entryOn": each.entry_on.isoformat(),
            "jurisdiction": each.jurisdiction,
            "years": each.years,
        }
        at = events.append(session, export_id, ACTOR, [NewEvent(EventType.EXPORT_PURGED, fact)])
        # What a paused partner was not sent in all those years has no body any more.
        outbox.cancel_unsent(session, export_id)
        _clear(session, Export, col(Export.id) == export_id, purged_at=at, findings=[], failure=None)
        _clear(session, ExportUnit, col(ExportUnit.export_id) == export_id, document=repository.PURGED)
        _clear(session, Notification, col(Notification.export_id) == export_id, data=repository.PURGED)
        _clear(session, Step, col(Step.export_id) == export_id, error=None)
        _clear(session, Delivery, col(Delivery.export_id) == export_id, error=None)
        submissions = select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        _clear(session, Acknowledgement, col(Acknowledgement.submission_id).in_(submissions), message=None, fields=[])
        session.execute(delete(SandboxHandoff).where(col(SandboxHandoff.submission_id).in_(submissions)))
        _clear(
            session,
            BrokerSubmission,
            col(BrokerSubmission.export_id) == export_id,
            recipient=None,
            subject="",
            error_message=None,
            # Nobody waits for an answer any more, or asks for one.
            deadline_at=None,
            polled_at=None,
        )
        for table in (ExportPackage, LineTreatment, IdempotencyRecord):
            session.execute(delete(table).where(col(table.export_id) == export_id))
        _lock_plan(session, export.plan_id)
        _empty_plan(session, export.plan_id)
    return True


def _purged_plan(runtime: Runtime, each: Due) -> bool:
    with runtime.db.write() as session:
        legal_holds.lock_holds(session, each.account_id)
        _lock_plan(session, each.plan_id)
        if session.scalar(select(legal_holds.oldest_hold_of_plan()).where(col(PlanSnapshot.id) == each.plan_id)):
            return False
        return _empty_plan(session, each.plan_id)


def _empty_plan(session: Session, plan_id: str) -> bool:
    """Take away the locked plan's payload unless an export of it is kept; tell whether it did."""
    if session.scalar(select(_export_is_kept(plan_id))):
        return False
    _clear(session, PlanSnapshot, col(PlanSnapshot.id) == plan_id, document=repository.PURGED)
    return True


def _lock_plan(session: Session, plan_id: str) -> None:
    # A statement of its own: whoever is just making an export of it holds the row, and is seen once it was waited for.
    session.execute(select(_PLAN).where(col(PlanSnapshot.id) == plan_id).with_for_update())


def _clear(session: Session, table: type[SQLModel], *which: ColumnElement[bool], **values: Any) -> None:
    session.execute(update(table).where(*which).values(**values).execution_options(synchronize_session=False))


def _purge_documents(runtime: Runtime) -> int:
    """Let go of the documents of purged exports and return of how many the bytes were deleted; each is found until it is."""
    of_purged = (
        select(col(Artifact.sha256))
        .join(Export, col(Artifact.export_id) == _EXPORT)
        .where(col(Export.purged_at).is_not(None), col(Artifact.purged_at).is_(None))
        .distinct()
        .limit(_HASHES_IN_ONE_STRETCH)
    )
    count = 0
    while True:
        with runtime.db.read() as session:
            found = session.scalars(of_purged).all()
        if not found:
            return count
        count += sum(repository.let_go(runtime, sha256) for sha256 in found)
