"""What was sent: when the messages of an export were attempted and delivered, and what each attempt exchanged."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, select
from sqlmodel import Session, col

from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.deliveries.outbox.subjects import read_subject
from pipeline.deliveries.queries import MAX_ATTEMPTS_SHOWN
from pipeline.deliveries.streams import messages
from pipeline.exports.states import DeliveryState

#: The most deliveries of one export that are read: the first ones, which include its handoff.
MAX_DELIVERIES: Final = 60
_MAX_ATTEMPTS: Final = 1_000


@dataclass(frozen=True)
class PastAttempt:
    """One attempt: its end, how long it took, and its outcome."""

    number: int
    at: datetime
    duration_ms: int
    outcome: str
    status: str | None


@dataclass(frozen=True)
class PastDelivery:
    """A delivery with its attempts in order; `due_at` is when the next one is due, None if there is none."""

    id: str
    event_type: str
    partner_id: str
    channel: str
    state: DeliveryState
    created_at: datetime
    due_at: datetime | None
    delivered_at: datetime | None
    attempts: Sequence[PastAttempt]


def load_past_deliveries(session: Session, export_id: str) -> list[PastDelivery]:
    """Return the first deliveries of the export, in the order of their messages."""
    columns = (
        col(Delivery.id),
        col(Delivery.partner_id),
        col(Delivery.channel),
        col(Delivery.state),
        col(Delivery.created_at),
        col(Delivery.due_at),
        col(Delivery.delivered_at),
    )
    found = (
        select(*columns, col(Notification.event_type))
        .join(Notification, col(Notification.id) == col(Delivery.notification_id))
        .where(col(Delivery.subject_id) == export_id)
        .order_by(col(Delivery.position), col(Delivery.partner_id), col(Delivery.channel))
        .limit(MAX_DELIVERIES)
    )
    rows = session.execute(found).all()
    attempts = _load_attempts(session, found.with_only_columns(col(Delivery.id)))
    return [
        PastDelivery(
            row.id,
            row.event_type,
            row.partner_id,
            row.channel,
            DeliveryState(row.state),
            row.created_at,
            row.due_at if row.state == DeliveryState.PENDING else None,
            row.delivered_at,
            attempts.get(row.id, ()),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class SentMessage:
    """A message with what its attempts exchanged, by their number.

    `body` is the CloudEvent with links that need a key, None if its export or plan was purged. An exchange is what
    `describe_exchange` returned; attempts without one are missing.
    """

    body: bytes | None
    exchanges: Mapping[int, Mapping[str, Any]]


def load_sent_message(runtime: Runtime, account_id: str, delivery_id: str) -> SentMessage:
    """Return the message of a delivery; raises NotFound, also for a delivery of another account.

    It has the exchanges of the newest MAX_ATTEMPTS_SHOWN attempts.
    """
    with runtime.db.read() as session:
        delivery = session.get(Delivery, delivery_id)
        if delivery is None or delivery.account_id != account_id:
            raise NotFound(f"there is no delivery {delivery_id} in this account")
        notification = session.get_one(Notification, delivery.notification_id)
        subject = read_subject(session, delivery.subject_id)
        body = None
        if not subject.is_purged:
            body = messages.build_cloud_event(runtime.settings, notification, subject.trace)
        rows = session.execute(
            select(col(Attempt.number), col(Attempt.exchange)).where(
                col(Attempt.delivery_id) == delivery_id, col(Attempt.number) > delivery.attempts - MAX_ATTEMPTS_SHOWN
            )
        )
        return SentMessage(body, {number: exchange for number, exchange in rows if exchange})


def _load_attempts(session: Session, delivery_ids: Select[tuple[str]]) -> Mapping[str, Sequence[PastAttempt]]:
    found: dict[str, list[PastAttempt]] = defaultdict(list)
    columns = col(Attempt.number), col(Attempt.at), col(Attempt.duration_ms), col(Attempt.outcome), col(Attempt.status)
    deliveries = delivery_ids.subquery()
    rows = session.execute(
        select(col(Attempt.delivery_id), *columns)
        .join(deliveries, deliveries.c.id == col(Attempt.delivery_id))
        .order_by(col(Attempt.delivery_id), col(Attempt.number))
        .limit(_MAX_ATTEMPTS)
    )
    for delivery_id, *values in rows:
        found[delivery_id].append(PastAttempt(*values))
    return found
