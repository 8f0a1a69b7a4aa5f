"""The outbox: writes notifications, and their deliveries to recipients over channels."""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, insert, select, update
from sqlmodel import Session, col

from pipeline.accounts import recipients
from pipeline.accounts.recipients import Recipient
from pipeline.core.db import database_now, table
from pipeline.core.ids import new_id
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.schemas.cloudevent import OutboxMessage
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.hash_chain import digest_rows
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.states import DELIVERY_TRANSITIONS, DeliveryState, InboxState, source_states
from pipeline.exports.step_context import StepContext

BROKER: Final = "customs_broker"
WAREHOUSE: Final = "warehouse"
OPERATOR: Final = "operator"
UPSTREAM: Final = "upstream"

#: The namespace of our name-based UUIDs. A change would change the ids that recipients use to detect duplicates.
_NAMESPACE: Final = uuid.UUID("5f1c2d9e-8a4b-5c67-9d10-3b7e6a2f4c88")


@dataclass(frozen=True)
class DeliveryStream:
    """The deliveries of one export to one recipient over one channel. One sender at a time sends them, in order.

    The messages about a registered plan without an export have streams of the same kind; `subject_id` is the plan's id.
    """

    subject_id: str
    partner_id: str
    channel: str


@dataclass(frozen=True)
class NewNotification:
    """A new message to an audience. `subject` distinguishes messages of one type, e.g. by the package's name."""

    audience: str
    type: MessageType
    subject: str
    message: OutboxMessage


@dataclass(frozen=True)
class OutboxRows:
    """Rows of notifications and deliveries, ready to insert."""

    notifications: Sequence[Mapping[str, Any]]
    pending: Sequence[Mapping[str, Any]]
    waiting: Sequence[Mapping[str, Any]]

    @property
    def fact(self) -> dict[str, Any]:
        """The facts for the log: the numbers of rows, and the digest over messages and recipients."""
        deliveries = [*self.pending, *self.waiting]
        return {
            "notifications": len(self.notifications),
            "deliveries": len(deliveries),
            "messagesDigest": messages_digest(self.notifications, deliveries),
        }


def find_watchers(session: Session, export: Export | StepContext) -> dict[str, list[Recipient]]:
    """Return who is notified of an export as a whole, by audience: operators, and the upstream service if there is one."""
    named = [] if export.upstream_id is None else [export.upstream_id]
    upstream, operators = recipients.find_audiences(session, export.account_id, named, test=export.test)
    return {OPERATOR: operators} | ({UPSTREAM: list(upstream.values())} if upstream else {})


def derive_notification_id(export_id: str, revision: int, audience: str, event_type: str, subject: str) -> str:
    """Return the id of a notification. The same facts always give the same id."""
    return _derive_id(export_id, str(revision), audience, event_type, subject)


def _derive_id(*facts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\n".join(facts)))


def messages_digest(notifications: Sequence[Mapping[str, Any]], deliveries: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest over all messages, in order, with their recipients and channels."""
    recipients_by_message: dict[str, list[list[str]]] = defaultdict(list)
    for row in deliveries:
        recipients_by_message[row["notification_id"]].append([row["partner_id"], row["channel"]])
    return digest_rows(
        [
            [
                row["id"],
                row["audience"],
                row["event_type"],
                hashlib.sha256(row["data"].encode()).hexdigest(),
                sorted(recipients_by_message[row["id"]]),
            ]
            for row in sorted(notifications, key=lambda row: int(row["position"]))
        ]
    )


@dataclass(frozen=True)
class Enqueued:
    """The result of enqueueing: the streams to publish, and the facts for the log."""

    streams: Sequence[DeliveryStream] = ()
    fact: Mapping[str, Any] = field(default_factory=dict)


def build_rows(
    account_id: str,
    notifications: Iterable[NewNotification],
    recipients_by_audience: Mapping[str, Sequence[Recipient]],
    *,
    first: int = 1,
    created_at: datetime | None = None,
) -> OutboxRows:
    """Return the rows of each notification and of its deliveries to all channels of its audience's recipients.

    Positions start at `first`. Without `created_at` the database sets that of each notification. Deliveries of
    `exports.export.executed` wait until the export is executed.
    """
    notification_rows: list[dict[str, Any]] = []
    written = {} if created_at is None else {"created_at": created_at}
    delivery_rows: dict[DeliveryState, list[dict[str, Any]]] = {DeliveryState.PENDING: [], DeliveryState.WAITING: []}
    for position, notification in enumerate(notifications, start=first):
        message = notification.message
        identity = _derive_id(*message.identity, notification.audience, notification.type, notification.subject)
        common = {"account_id": account_id, "audience": notification.audience, "position": position}
        notification_rows.append(
            common
            | written
            | {"export_id": None, "plan_id": None, **message.about}
            | {"id": identity, "event_type": notification.type.value, "data": message.model_dump_json(by_alias=True)}
        )
        state = DeliveryState.WAITING if notification.type is MessageType.EXPORT_EXECUTED else DeliveryState.PENDING
        delivery_rows[state].extend(
            common
            | {
                "id": new_id("dlv"),
                "notification_id": identity,
                "subject_id": message.subject_id,
                "partner_id": recipient.partner_id,
                "channel": channel,
                "state": state.value,
            }
            for recipient in recipients_by_audience[notification.audience]
            for channel in recipient.channels
        )
    return OutboxRows(notification_rows, delivery_rows[DeliveryState.PENDING], delivery_rows[DeliveryState.WAITING])


_deliveries = table(Delivery).c
_INSERT_NOTIFICATIONS: Final = insert(table(Notification))
_INSERT_DELIVERIES: Final = insert(table(Delivery)).values(
    due_at=database_now(bindparam("due_seconds")), lease_until=database_now(bindparam("lease_seconds"))
)


def insert_rows(session: Session, written: OutboxRows, *, due_seconds: float, held: bool = False) -> None:
    """Insert the rows with one statement per table. Pending deliveries are due in `due_seconds`.

    If `held`, the caller holds them until then.
    """
    session.execute(_INSERT_NOTIFICATIONS, list(written.notifications))
    claim = {"fence": int(held), "due_seconds": due_seconds, "lease_seconds": due_seconds if held else None}
    rows = [{**row, **claim} for row in written.pending]
    rows += [{**row, "fence": 0, "due_seconds": None, "lease_seconds": None} for row in written.waiting]
    if rows:
        session.execute(_INSERT_DELIVERIES, rows)


class Requeued(NamedTuple):
    """A delivery that is pending again; its messages are about the export or the plan `subject_id`."""

    subject_id: str
    channel: str
    audience: str


def requeue(session: Session, *conditions: ColumnElement[bool]) -> list[Requeued]:
    """Make the matching deliveries pending, due now, with a new retry schedule. Exclude pending and cancelled ones."""
    found = session.execute(
        update(Delivery)
        .where(*conditions)
        .values(
            state=DeliveryState.PENDING.value,
            attempts_not_counted=col(Delivery.attempts),
            lease_until=None,
            due_at=database_now(),
            stalled_since=None,
            error=None,
            inbox=InboxState.OPEN.value,
            acknowledged_seq=None,
        )
        .returning(col(Delivery.subject_id), col(Delivery.channel), col(Delivery.audience))
        .execution_options(synchronize_session=False)
    )
    return [Requeued(*row) for row in found]


def cancel_unsent(session: Session, subject_id: str) -> None:
    """Cancel all undelivered deliveries of the export or plan. A sender that is sending one now will not record its result."""
    session.execute(
        update(Delivery)
        .where(
            col(Delivery.subject_id) == subject_id,
            col(Delivery.state).in_(
                [state.value for state in source_states(DELIVERY_TRANSITIONS, DeliveryState.CANCELLED)]
            ),
        )
        .values(state=DeliveryState.CANCELLED.value, lease_until=None, due_at=None)
        .execution_options(synchronize_session=False)
    )


def is_sending(session: Session, *subject_ids: str) -> bool:
    """Return whether a worker may be sending a message about one of the exports or plans.

    Locks their pending deliveries: until the transaction ends, no worker claims one.
    """
    pending = (
        select(col(Delivery.lease_until) > database_now())
        .where(col(Delivery.subject_id).in_(subject_ids), col(Delivery.state) == DeliveryState.PENDING.value)
        .order_by(col(Delivery.id))
        .with_for_update()
    )
    return any(session.scalars(pending))


def build_answer_url(address: str, submission_id: str) -> str:
    """Return where the customs broker posts its answers, at an address of this service."""
    return f"{address}/api/broker-submissions/{submission_id}/acknowledgements"


def describe_export(export: Export | StepContext) -> dict[str, Any]:
    """Return the fields of ExportMessage for the export."""
    return {
        "export_id": export.id if isinstance(export, Export) else export.export_id,
        "batch_id": export.batch_id,
        "revision": export.revision,
        "test": export.test,
        "plan_hash": export.plan_hash,
        "treatment_digest": export.treatment_digest,
    }


def describe_plan(plan: PlanSnapshot) -> dict[str, Any]:
    """Return the fields of PlanRechecked for the plan."""
    return {"plan_id": plan.id, "batch_id": plan.batch_id, "test": plan.test, "plan_hash": plan.plan_hash}


def next_position(session: Session, about: Mapping[str, str]) -> int:
    """Return the position of the next message about this export or plan, after all earlier ones."""
    columns = table(Notification).c
    last = select(func.max(columns.position)).where(*(columns[name] == value for name, value in about.items()))
    return (session.scalar(last) or 0) + 1


def enqueue(
    session: Session,
    account_id: str,
    notifications: Sequence[NewNotification],
    recipients_by_audience: Mapping[str, Sequence[Recipient]],
) -> Enqueued:
    """Write the notifications of one export or plan, due now, after all its earlier ones."""
    message = notifications[0].message
    first = next_position(session, message.about)
    written = build_rows(account_id, notifications, recipients_by_audience, first=first)
    insert_rows(session, written, due_seconds=0)
    streams = dict.fromkeys(
        DeliveryStream(message.subject_id, each.partner_id, channel)
        for audience in dict.fromkeys(notification.audience for notification in notifications)
        for each in recipients_by_audience[audience]
        for channel in each.channels
    )
    return Enqueued(tuple(streams), written.fact)
