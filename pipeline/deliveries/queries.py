"""Views of deliveries: each with its newest attempts, and a remedy for a failed one."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import defer
from sqlmodel import Session, col

from pipeline.accounts.models import Partner
from pipeline.accounts.schemas import AttemptView, DeliveryPage, DeliveryView
from pipeline.core.db import index_constant
from pipeline.core.errors import NotFound
from pipeline.core.pages import unknown_cursor
from pipeline.core.runtime import Runtime
from pipeline.deliveries import sandbox_broker
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.deliveries.outbox.subjects import read_subject
from pipeline.deliveries.outcomes import IS_UNDELIVERED, delivery_is
from pipeline.deliveries.remedies import find_remedy
from pipeline.deliveries.schemas.cloudevent import CloudEventEnvelope
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady
from pipeline.deliveries.schemas.views import NotificationTrace
from pipeline.deliveries.streams import messages
from pipeline.deliveries.submissions import submissions
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.states import DeliveryState

MAX_ATTEMPTS_SHOWN: Final = 20
#: Counts end here, so that a count never reads a whole table.
MAX_COUNTED: Final = 1000
#: For the trace of one message. With resends there may be more attempts than the schedule has.
MAX_ATTEMPTS_TRACED: Final = 200


def list_deliveries(
    runtime: Runtime,
    account_id: str,
    *,
    state: DeliveryState | None = None,
    export_id: str | None = None,
    partner_id: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> DeliveryPage:
    """Return a page of the account's deliveries, newest first, starting after the delivery `after`.

    Those of a partner come in the order of their exports. Raises ValidationFailed if the delivery `after` is unknown.
    """
    wanted = [col(Delivery.account_id) == account_id]
    if state is not None:
        wanted.append(delivery_is(state))
    if export_id is not None:
        wanted.append(col(Delivery.subject_id) == export_id)
    order = [col(Delivery.id).desc()]
    if partner_id is not None:
        wanted.append(col(Delivery.partner_id) == partner_id)
        # The order of the partner's indexes. By ids of deliveries alone, the newest ones of all partners are read.
        order = [col(Delivery.subject_id).desc(), *order]
        if state not in (None, DeliveryState.DELIVERED):
            wanted.append(IS_UNDELIVERED)
    with runtime.db.read() as session:
        if after is not None:
            wanted += [col(Delivery.id) < after] if partner_id is None else _after_cursor(session, account_id, after)
        found = session.execute(
            select(Delivery, col(Notification.event_type))
            .join(Notification, col(Notification.id) == col(Delivery.notification_id))
            .where(*wanted)
            .order_by(*order)
            .limit(limit + 1)
        ).all()
        views = build_delivery_views(session, [(row, event_type) for row, event_type in found[:limit]])
    return DeliveryPage(items=views, next_cursor=views[-1].id if len(found) > limit else None)


def comes_after(export_id: str, delivery_id: str) -> list[ColumnElement[bool]]:
    """Return the conditions that a delivery comes after this one, newest export first."""
    columns = tuple_(col(Delivery.subject_id), col(Delivery.id))
    # The second is a bound for the index of all, which has only the export.
    return [columns < (export_id, delivery_id), col(Delivery.subject_id) <= export_id]


def _after_cursor(session: Session, account_id: str, delivery_id: str) -> list[ColumnElement[bool]]:
    last = session.scalar(
        select(col(Delivery.subject_id)).where(col(Delivery.id) == delivery_id, col(Delivery.account_id) == account_id)
    )
    if last is None:
        raise unknown_cursor()
    return comes_after(last, delivery_id)


def count_dead_letters(runtime: Runtime, account_id: str, partner_ids: Sequence[str]) -> Mapping[str, int]:
    """Return the number of dead deliveries of each of the partners, at most MAX_COUNTED + 1."""
    of_partner = (
        select(col(Delivery.id))
        .where(
            col(Delivery.account_id) == account_id,
            col(Delivery.partner_id) == col(Partner.id),
            IS_UNDELIVERED,
            col(Delivery.state) == index_constant(DeliveryState.DEAD),
        )
        .limit(MAX_COUNTED + 1)
        .correlate(Partner)
    )
    counted = select(func.count()).select_from(of_partner.subquery()).scalar_subquery()
    with runtime.db.read() as session:
        of_account = col(Partner.account_id) == account_id, col(Partner.id).in_(partner_ids)
        found = session.execute(select(col(Partner.id), counted).where(*of_account))
        return {row[0]: row[1] for row in found}


def get_delivery(runtime: Runtime, account_id: str, delivery_id: str) -> DeliveryView:
    """Return one delivery with its newest attempts. Raises NotFound, also for a delivery of another account."""
    with runtime.db.read() as session:
        return load_delivery(session, account_id, delivery_id)


def list_notification_deliveries(session: Session, notification: Notification) -> list[DeliveryView]:
    """Return all deliveries of a notification, by recipient and channel, each with its attempts."""
    found = session.scalars(
        select(Delivery)
        .where(col(Delivery.notification_id) == notification.id)
        .order_by(col(Delivery.partner_id), col(Delivery.channel))
    )
    return build_delivery_views(session, [(row, notification.event_type) for row in found], MAX_ATTEMPTS_TRACED)


def read_payload(runtime: Runtime, account_id: str, delivery_id: str, *, test_only: bool) -> bytes:
    """Return the CloudEvent of a delivery: the bytes that the partner receives, with its links to documents.

    Raises NotFound, also for a delivery of another account, and Purged. Raises InsufficientRole if `test_only` and the
    export or plan is live.
    """
    with runtime.db.read() as session:
        delivery = session.get(Delivery, delivery_id)
        if delivery is None or delivery.account_id != account_id:
            raise delivery_not_found(delivery_id)
        subject = read_subject(session, delivery.subject_id)
        subject.check_kept("the text of its messages is gone")
        subject.check_test(delivery_id, test_only=test_only)
        notification = session.get_one(Notification, delivery.notification_id)
        return messages.build_cloud_event(runtime.settings, notification, subject.trace, holder=delivery.partner_id)


def delivery_not_found(delivery_id: str) -> NotFound:
    """Return the error that the account has no such delivery."""
    return NotFound(f"there is no delivery {delivery_id} in this account")


def load_delivery(session: Session, account_id: str, delivery_id: str) -> DeliveryView:
    """Return the same as `get_delivery`, in the caller's transaction."""
    found = session.execute(
        select(Delivery, col(Notification.event_type))
        .join(Notification, col(Notification.id) == col(Delivery.notification_id))
        .where(col(Delivery.account_id) == account_id, col(Delivery.id) == delivery_id)
    ).first()
    if found is None:
        raise delivery_not_found(delivery_id)
    return build_delivery_views(session, [(found[0], found[1])])[0]


def _find_remedy(row: Delivery, attempts: Sequence[Attempt]) -> str | None:
    if row.error is None or not attempts:
        return None
    return find_remedy(row.account_id, row.partner_id, row.channel, attempts[0].status)


def build_delivery_views(
    session: Session, rows: Sequence[tuple[Delivery, str]], max_attempts: int = MAX_ATTEMPTS_SHOWN
) -> list[DeliveryView]:
    """Return the views of deliveries, each given with the type of its message, with the newest attempts."""
    attempts_by_delivery: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in session.scalars(
        select(Attempt)
        .options(defer(Attempt.exchange))  # type: ignore[arg-type]  # SQLModel types a column as its value
        .join(Delivery, col(Delivery.id) == col(Attempt.delivery_id))
        # Attempts are numbered in order, so this reads only the newest ones.
        .where(
            col(Delivery.id).in_([row.id for row, _ in rows]),
            col(Attempt.number) > col(Delivery.attempts) - max_attempts,
        )
        .order_by(col(Attempt.delivery_id), col(Attempt.number).desc())
    ):
        attempts_by_delivery[attempt.delivery_id].append(attempt)
    # Not a join of the lists: the export is read only for the rows of a page.
    subjects = {row.subject_id for row, _ in rows}
    of_exports = _find_batches(session, Export, subjects)
    plans = subjects - of_exports.keys()
    of_plans = _find_batches(session, PlanSnapshot, plans) if plans else {}
    return [
        DeliveryView(
            id=row.id,
            notification_id=row.notification_id,
            export_id="" if row.subject_id in of_plans else row.subject_id,
            plan_id=row.subject_id if row.subject_id in of_plans else None,
            batch_id=(of_plans if row.subject_id in of_plans else of_exports)[row.subject_id],
            event_type=event_type,
            audience=row.audience,
            partner_id=row.partner_id,
            channel=row.channel,
            state=DeliveryState(row.state),
            attempts=row.attempts,
            due_at=row.due_at,
            delivered_at=row.delivered_at,
            error=row.error,
            remedy=_find_remedy(row, attempts_by_delivery[row.id]),
            created_at=row.created_at,
            tries=[
                AttemptView(
                    number=each.number,
                    outcome=each.outcome,
                    status=each.status,
                    answer=each.answer,
                    error_class=each.error_class,
                    duration_ms=each.duration_ms,
                    at=each.at,
                )
                for each in attempts_by_delivery[row.id]
            ],
        )
        for row, event_type in rows
    ]


def _find_batches(session: Session, model: type[Export | PlanSnapshot], ids: Collection[str]) -> dict[str, str]:
    """Return the batches of those exports or plans that exist, by their ids."""
    return dict(session.execute(select(col(model.id), col(model.batch_id)).where(col(model.id).in_(ids))).all())


def trace_notification(runtime: Runtime, account_id: str, notification_id: str) -> NotificationTrace:
    """Return the trace of the account's message with this CloudEvent id.

    Raises NotFound, also for a message of another account, or if its text was purged.
    """
    with runtime.db.read() as session:
        notification = session.get(Notification, notification_id)
        if notification is None or notification.account_id != account_id:
            raise NotFound(f"there is no message {notification_id} in this account")
        subject = read_subject(session, notification.subject_id)
        if subject.is_purged:
            query = f"exportId={subject.id}"
            raise NotFound(
                f"message {notification_id} was purged with {subject.name} when its retention ended; its deliveries"
                f" are kept, see /api/deliveries?{query}"
            )
        submission = None
        # Only a handoff is answered; other messages about it change no status.
        if notification.event_type == MessageType.HANDOFF_READY:
            submission_id = HandoffReady.model_validate_json(notification.data).submission_id
            submission = submissions.read_submission(session, account_id, submission_id)
        return NotificationTrace(
            id=notification.id,
            event_type=notification.event_type,
            audience=notification.audience,
            export_id=subject.id if subject.plan_id is None else "",
            plan_id=subject.plan_id,
            batch_id=subject.batch_id,
            revision=subject.revision,
            test=subject.test,
            created_at=notification.created_at,
            event=CloudEventEnvelope.model_validate(
                json.loads(messages.build_cloud_event(runtime.settings, notification, subject.trace))
            ),
            deliveries=list_notification_deliveries(session, notification),
            sandbox=sandbox_broker.find_handoff(session, account_id, notification.id),
            broker_submission=submission,
        )
