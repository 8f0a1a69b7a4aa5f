"""Retractions: notify an export's recipients that it was superseded, cancelled or withdrawn."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import or_, select, update
from sqlmodel import Session, col

from pipeline.accounts import recipients
from pipeline.accounts.recipients import Recipient
from pipeline.core.db import database_now
from pipeline.deliveries.entries.facets import Headline
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.answer_messages import count_headlines
from pipeline.deliveries.outbox.outbox import BROKER, WAREHOUSE, Enqueued, NewNotification
from pipeline.deliveries.schemas.cloudevent import CustomsPackageRef, RevisionRef
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffSuperseded, HandoffWithdrawn
from pipeline.deliveries.schemas.to_operator import ExportCancelled, ExportSettled
from pipeline.deliveries.schemas.to_warehouse import PackageSuperseded, PackageWithdrawn
from pipeline.exports.models import Export, ExportPackage, ExportUnit
from pipeline.exports.states import Outcome

_SUPERSEDED: Final = (MessageType.HANDOFF_SUPERSEDED.value, MessageType.PACKAGE_SUPERSEDED.value)


@dataclass(frozen=True)
class _Notified:
    """Messages that may have reached customs brokers and warehouses: message ids and partners, by audience."""

    messages: dict[str, set[str]]
    partners: dict[str, set[str]]


def retract_superseded(session: Session, old: Export, by: Export, planned: Collection[tuple[str, str]]) -> Enqueued:
    """Notify all partners that may know `old` that it is superseded, and cancel its undelivered messages.

    `planned` are the packages of the newer revision `by`, by unitRef and packageRef. A partner that has no part in it
    is notified that nothing follows.
    """
    notified = _load_notified(session, old.id)
    outbox.cancel_unsent(session, old.id)
    # An answer to it is no longer expected.
    session.execute(
        update(BrokerSubmission)
        .where(col(BrokerSubmission.export_id) == old.id)
        .values(deadline_at=None, summary_due_at=None)
    )
    notifications = [
        *_handoff_notifications(session, old, by, notified),
        *_package_notifications(session, old, by, notified, planned if by.warehouse_id == old.warehouse_id else ()),
    ]
    return _enqueue(session, old, notifications, notified.partners, {}) if notifications else Enqueued()


def retract_withdrawn(
    session: Session,
    export: Export,
    submission: BrokerSubmission,
    reason: str,
    url: str,
    settled: Collection[Headline] = (),
) -> Enqueued:
    """Notify operators, upstream service and all partners that may know the export that it is withdrawn.

    Its undelivered messages are cancelled. `url` is where the customs broker answers. If that closes the last open entry
    at once, `settled` are the headlines of all.
    """
    notified = _load_notified(session, export.id)
    outbox.cancel_unsent(session, export.id)
    message = HandoffWithdrawn(
        **outbox.describe_export(export),
        submission_id=submission.id,
        notification_ids=sorted(notified.messages[BROKER]),
        customs_packages=list(_load_units(session, export.id).values()),
        reason=reason,
        acknowledgement_url=url,
    )
    watchers = outbox.find_watchers(session, export)
    audiences = (*([BROKER] if notified.messages[BROKER] else []), *watchers)
    withdrawn = [NewNotification(each, MessageType.HANDOFF_WITHDRAWN, submission.id, message) for each in audiences]
    for subject, package in _retracted_packages(session, export, notified):
        about = PackageWithdrawn(**package, reason=reason)
        withdrawn.append(NewNotification(WAREHOUSE, MessageType.PACKAGE_WITHDRAWN, subject, about))
    if settled:
        closed = ExportSettled(
            **outbox.describe_export(export),
            outcome=Outcome.WITHDRAWN,
            submission_id=submission.id,
            partner_id=submission.partner_id,
            answer_id=None,
            at=session.execute(select(database_now())).scalar_one(),
            **count_headlines(settled),
            inspect=f"/api/exports/{export.id}",
        )
        withdrawn += [NewNotification(each, MessageType.EXPORT_SETTLED, submission.id, closed) for each in watchers]
    return _enqueue(session, export, withdrawn, notified.partners, watchers)


def retract_cancelled(session: Session, export: Export) -> Enqueued:
    """Notify operators, upstream service and recipients of earlier retractions that the export was cancelled.

    The export's own undelivered messages are cancelled.
    """
    outbox.cancel_unsent(session, export.id)
    earlier = session.execute(
        select(col(Delivery.audience), col(Delivery.partner_id))
        .join(Notification, col(Notification.id) == col(Delivery.notification_id))
        .join(Export, col(Export.id) == col(Delivery.subject_id))
        .where(
            col(Export.account_id) == export.account_id,
            col(Export.batch_id) == export.batch_id,
            col(Export.test) == export.test,
            col(Export.revision) < export.revision,
            col(Notification.event_type).in_(_SUPERSEDED),
        )
        .distinct()
    ).all()
    partners: dict[str, set[str]] = {}
    for audience, partner_id in earlier:
        partners.setdefault(audience, set()).add(partner_id)
    watchers = outbox.find_watchers(session, export)
    before = None if export.supersedes_id is None else session.get_one(Export, export.supersedes_id)
    message = ExportCancelled(
        outcome=Outcome.CANCELLED,
        **outbox.describe_export(export),
        supersedes=None if before is None else _refer_to(before),
        inspect=f"/api/exports/{export.id}",
    )
    notifications = [
        NewNotification(audience, MessageType.EXPORT_CANCELLED, "cancelled", message)
        for audience in (*sorted(partners), *watchers)
    ]
    return _enqueue(session, export, notifications, partners, watchers)


def _refer_to(export: Export) -> RevisionRef:
    return RevisionRef(export_id=export.id, revision=export.revision)


def _load_notified(session: Session, export_id: str) -> _Notified:
    notified = _Notified({BROKER: set(), WAREHOUSE: set()}, {BROKER: set(), WAREHOUSE: set()})
    for notification_id, audience, partner_id in session.execute(
        select(col(Delivery.notification_id), col(Delivery.audience), col(Delivery.partner_id)).where(
            col(Delivery.subject_id) == export_id,
            col(Delivery.audience).in_((BROKER, WAREHOUSE)),
            # An attempt without a recorded result may have arrived: its lease is still set.
            or_(
                col(Delivery.delivered_at).is_not(None),
                col(Delivery.attempts) > 0,
                col(Delivery.lease_until).is_not(None),
            ),
        )
    ):
        notified.messages[audience].add(notification_id)
        notified.partners[audience].add(partner_id)
    return notified


def _enqueue(
    session: Session,
    export: Export,
    notifications: list[NewNotification],
    partners: dict[str, set[str]],
    watchers: Mapping[str, Sequence[Recipient]],
) -> Enqueued:
    ids = sorted(set().union(*partners.values()))
    reached = recipients.resolve_recipients(session, export.account_id, ids, test=export.test)
    recipients_by_audience = {
        audience: [reached[name] for name in sorted(partners[audience]) if name in reached] for audience in partners
    }
    return outbox.enqueue(session, export.account_id, notifications, {**recipients_by_audience, **watchers})


def _handoff_notifications(session: Session, old: Export, by: Export, notified: _Notified) -> Iterator[NewNotification]:
    if not notified.messages[BROKER]:
        return
    units = _load_units(session, old.id)
    for submission_id in session.scalars(
        select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == old.id)
    ):
        message = HandoffSuperseded(
            **outbox.describe_export(old),
            submission_id=submission_id,
            notification_ids=sorted(notified.messages[BROKER]),
            customs_packages=list(units.values()),
            superseded_by=_refer_to(by),
            reassigned=by.broker_id != old.broker_id,
        )
        yield NewNotification(BROKER, MessageType.HANDOFF_SUPERSEDED, submission_id, message)


def _package_notifications(
    session: Session, old: Export, by: Export, notified: _Notified, planned: Collection[tuple[str, str]]
) -> Iterator[NewNotification]:
    for subject, package in _retracted_packages(session, old, notified):
        dropped = (package["unit_ref"], package["package_ref"]) not in planned
        message = PackageSuperseded(**package, superseded_by=_refer_to(by), dropped=dropped)
        yield NewNotification(WAREHOUSE, MessageType.PACKAGE_SUPERSEDED, subject, message)


def _retracted_packages(session: Session, old: Export, notified: _Notified) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the subject and the members of the message about each package that a warehouse may know."""
    if not notified.messages[WAREHOUSE]:
        return
    units = _load_units(session, old.id)
    for unit_no, package_ref, sscc, lpn in session.execute(
        select(
            col(ExportPackage.unit_no), col(ExportPackage.package_ref), col(ExportPackage.sscc), col(ExportPackage.lpn)
        )
        .where(col(ExportPackage.export_id) == old.id)
        .order_by(col(ExportPackage.unit_no), col(ExportPackage.position))
    ):
        unit = units[unit_no]
        subject = f"{unit.unit_ref}/{package_ref}"
        recorded = outbox.derive_notification_id(old.id, old.revision, WAREHOUSE, MessageType.PACKAGE_RECORDED, subject)
        if recorded not in notified.messages[WAREHOUSE]:
            continue
        yield (
            subject,
            {
                **outbox.describe_export(old),
                "version": old.revision,
                "notification_ids": [recorded],
                "unit_ref": unit.unit_ref,
                "customs_package_id": unit.customs_package_id,
                "customs_package_number": unit.package_number,
                "package_ref": package_ref,
                "sscc": sscc,
                "lpn": lpn,
            },
        )


def _load_units(session: Session, export_id: str) -> dict[int, CustomsPackageRef]:
    rows = session.execute(
        select(
            col(ExportUnit.unit_no),
            col(ExportUnit.unit_ref),
            col(ExportUnit.customs_package_id),
            col(ExportUnit.package_number),
        )
        .where(col(ExportUnit.export_id) == export_id)
        .order_by(col(ExportUnit.unit_no))
    )
    return {
        unit_no: CustomsPackageRef(unit_ref=ref, customs_package_id=package_id, package_number=number)
        for unit_no, ref, package_id, number in rows
    }
