"""The deliveries of an export, counted by message type and recipient."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select

from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams.streams import WORKER_LOST
from pipeline.exports.schemas.export import NotificationView
from pipeline.exports.states import DeliveryState


@dataclass(frozen=True)
class DeliveryTally:
    """The number of deliveries with the same kind of message, recipient, channel and state."""

    event_type: str
    audience: str
    partner_id: str
    channel: str
    state: str
    count: int
    delivered_at: datetime | None = None
    error: str | None = None


def count_deliveries(session: Session, export_id: str) -> list[DeliveryTally]:
    """Return the counts of an export's deliveries."""
    kind = (
        col(Notification.event_type),
        col(Delivery.audience),
        col(Delivery.partner_id),
        col(Delivery.channel),
        col(Delivery.state),
    )
    rows = session.execute(
        select(*kind, func.count(), func.max(col(Delivery.delivered_at)), func.max(col(Delivery.error)))  # type: ignore[call-overload]  # SQLModel declares at most four columns
        .join(Notification, col(Notification.id) == col(Delivery.notification_id))
        .where(col(Delivery.subject_id) == export_id)
        .group_by(*kind)
        .order_by(*kind)
    ).all()
    return [DeliveryTally(*row) for row in rows]


def list_retried_handoffs(tallies: Iterable[DeliveryTally]) -> dict[str, str]:
    """Return the error of each handoff that waits for its next attempt, by customs broker."""
    # The claim of the next attempt clears the error, or replaces it by that of the worker that died.
    return {
        each.partner_id: each.error
        for each in tallies
        if each.event_type == MessageType.HANDOFF_READY.value
        and each.state == DeliveryState.PENDING.value
        and each.error
        and each.error != WORKER_LOST
    }


def build_notification_views(tallies: Iterable[DeliveryTally]) -> list[NotificationView]:
    """Return the notifications, those to the same recipient of one kind as one."""
    kinds: defaultdict[tuple[str, str, str, str], list[DeliveryTally]] = defaultdict(list)
    for tally in tallies:
        kinds[tally.event_type, tally.audience, tally.partner_id, tally.channel].append(tally)
    return [
        NotificationView(
            event_type=event_type,
            audience=audience,
            partner_id=partner_id,
            channel=channel,
            messages=sum(tally.count for tally in same),
            **{tally.state: tally.count for tally in same},
            last_delivered_at=max((tally.delivered_at for tally in same if tally.delivered_at), default=None),
            last_error=next((tally.error for tally in same if tally.error), None),
        )
        for (event_type, audience, partner_id, channel), same in kinds.items()
    ]
