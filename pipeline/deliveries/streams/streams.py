"""Delivery streams: claims the pending deliveries of a stream in order, under a lease."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final, cast

import structlog
from sqlalchemy import ColumnElement, Row, and_, bindparam, case, exists, func, or_, select, update
from sqlmodel import Session

from config.settings import Settings
from pipeline.accounts import recipients
from pipeline.accounts.recipients import SealedTarget
from pipeline.core.db import constants, database_now, row_count, table
from pipeline.core.lease_columns import LEASE_SECONDS, LeaseSeconds, is_blocked, is_free
from pipeline.core.leases import LEASE_RENEWER, Lease
from pipeline.core.runtime import Runtime
from pipeline.core.trace_context import TraceContext
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox.outbox import BROKER, OPERATOR, UPSTREAM, DeliveryStream
from pipeline.deliveries.outbox.subjects import find_sendable
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams import circuit_breaker
from pipeline.deliveries.submissions import submissions
from pipeline.exports.states import DeliveryState, SubmissionState

log = structlog.get_logger(__name__)

_PENDING: Final = DeliveryState.PENDING.value

#: The error of a delivery whose sender died, until there is another result.
WORKER_LOST: Final = "the worker died before it recorded the result"


@dataclass(frozen=True)
class ClaimedDelivery:
    """One claimed delivery with its notification."""

    id: str
    fence: int
    attempts: int
    counted_attempts: int  # since the last resend, including those whose worker was lost
    first_delivery: bool  # it was never delivered before
    notification: Notification

    @property
    def notification_id(self) -> str:
        """The id of the notification."""
        return self.notification.id

    @property
    def event_type(self) -> str:
        """The type of the notification."""
        return self.notification.event_type


@dataclass(frozen=True)
class StreamLease:
    """The deliveries of a stream that this worker holds."""

    stream: DeliveryStream
    account_id: str
    audience: str
    target: SealedTarget
    trace: TraceContext | None
    deliveries: Sequence[ClaimedDelivery]
    submission_id: str | None  # None unless this is the customs broker's primary channel
    claimed_at: float  # just before the claim, on this process's clock
    must_record: bool = False  # the endpoint failed lately, so a success must be recorded
    complete: bool = False  # these are all deliveries of the export to the partner
    about_plan: bool = False  # the messages are about a registered plan, which has no log


def pending_in_stream(stream: Any, deliveries: Any = Delivery) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a row of `deliveries` is pending in `stream`, a DeliveryStream or similar columns."""
    return (
        deliveries.subject_id == stream.subject_id,
        deliveries.partner_id == stream.partner_id,
        deliveries.channel == stream.channel,
        deliveries.state == _PENDING,
    )


#: A stream given by the statement's parameters.
_STREAM_PARAMS: Final = SimpleNamespace(
    subject_id=bindparam("of_subject"), partner_id=bindparam("of_partner"), channel=bindparam("of_channel")
)


def _is_worker_lost(delivery: Any) -> ColumnElement[bool]:
    # A claim clears the error. A recorded result sets the error or releases the lease.
    return and_(delivery.lease_until.is_not(None), or_(delivery.error.is_(None), delivery.error == WORKER_LOST))


_deliveries, _other = table(Delivery).c, table(Delivery).alias().c
_FIRST_WORKER_LOST = (
    select(func.min(_other.position))
    .where(*pending_in_stream(_STREAM_PARAMS, _other), _is_worker_lost(_other))
    .scalar_subquery()
)
# Deliveries of a lost worker are sent one by one, to find the poison message and deliver the others.
_BATCH = (
    select(_deliveries.id)
    .where(
        *pending_in_stream(_STREAM_PARAMS, _deliveries),
        _deliveries.position <= func.coalesce(_FIRST_WORKER_LOST, _deliveries.position),
    )
    .order_by(_deliveries.position)
    .limit(bindparam("most"))
)
# No message overtakes one that is being sent or waits for its retry.
_STREAM_IS_BLOCKED = exists().where(*pending_in_stream(_STREAM_PARAMS, _other), is_blocked(_other, LEASE_SECONDS))
_LEASE_END = database_now(LEASE_SECONDS)

_CLAIM: Final = (
    update(table(Delivery))
    .where(
        _deliveries.id.in_(_BATCH),
        _deliveries.state == _PENDING,
        is_free(_deliveries, LEASE_SECONDS),
        ~_STREAM_IS_BLOCKED,
    )
    .values(
        fence=_deliveries.fence + 1,
        lease_until=_LEASE_END,
        due_at=_LEASE_END,
        stalled_since=None,
        # A lost attempt counts in the schedule, although it may not have been made.
        attempts_not_counted=_deliveries.attempts_not_counted - case((_is_worker_lost(_deliveries), 1), else_=0),
        error=case((_is_worker_lost(_deliveries), WORKER_LOST)),
    )
    .returning(
        _deliveries.id,
        _deliveries.notification_id,
        _deliveries.audience,
        _deliveries.position,
        _deliveries.fence,
        _deliveries.attempts,
        _deliveries.attempts_not_counted,
        _deliveries.delivered_at,
    )
)

_RENEW: Final = (
    update(table(Delivery))
    .where(
        _deliveries.id == bindparam("of_delivery"),
        _deliveries.fence == bindparam("held_fence"),
        _deliveries.state == _PENDING,
    )
    .values(lease_until=_LEASE_END, due_at=_LEASE_END)
)

_submissions = table(BrokerSubmission).c
_notifications = table(Notification).c
_SUBMISSION_ID = (
    select(_submissions.id)
    .where(
        _submissions.export_id == _notifications.export_id,
        _submissions.partner_id == bindparam("of_partner"),
        _submissions.channel == bindparam("of_channel"),
        # The submission is only the handoff itself. Its retraction does not change the status.
        _notifications.event_type == MessageType.HANDOFF_READY.value,
    )
    .scalar_subquery()
)
_FIND_NOTIFICATIONS: Final = select(table(Notification), _SUBMISSION_ID.label("submission_id")).where(
    _notifications.id.in_(bindparam("ids", expanding=True))
)


def claim_stream(runtime: Runtime, stream: DeliveryStream) -> StreamLease | None:
    """Claim the stream's next deliveries (database time). Return None if there is nothing to send now."""
    with runtime.db.write() as session:
        return _claim(session, runtime.settings, stream)


def _claim(session: Session, settings: Settings, stream: DeliveryStream) -> StreamLease | None:
    since = time.monotonic()
    stream_params = {"of_subject": stream.subject_id, "of_partner": stream.partner_id, "of_channel": stream.channel}
    subject = find_sendable(session, stream_params)
    if subject is None:
        return None
    target = recipients.resolve_target(
        session, subject, subject.account_id, stream.partner_id, stream.channel, test_export=subject.test
    )
    if target is None:
        return None
    endpoint = circuit_breaker.EndpointKey(subject.account_id, stream.partner_id, stream.channel)
    permit: circuit_breaker.Permit | None = circuit_breaker.Permit(must_record=target.failures > 0)
    if circuit_breaker.has_breaker(stream.channel):
        permit = circuit_breaker.try_acquire(session, endpoint, settings.lease_seconds)
    if permit is None:
        return None
    bounds = {"most": settings.delivery_batch, "lease_seconds": settings.lease_seconds}
    rows = session.execute(_CLAIM, stream_params | bounds).all()
    if not rows:
        if permit.exclusive:
            circuit_breaker.release(session, endpoint)
        return None
    rows = sorted(rows, key=lambda row: row.position)
    ids = {"ids": [row.notification_id for row in rows]}
    found = session.execute(_FIND_NOTIFICATIONS, stream_params | ids).all()
    # A row of all columns has the attributes of the model.
    notifications = {row.id: cast("Notification", row) for row in found}
    audience = rows[0].audience
    submission_id = None
    if audience == BROKER:
        submission_id = next((row.submission_id for row in found if row.submission_id is not None), None)
    if submission_id is not None:
        submissions.advance_status(session, settings, submission_id, SubmissionState.SENT)
    return StreamLease(
        stream=stream,
        account_id=subject.account_id,
        audience=audience,
        target=target,
        trace=TraceContext.from_row(subject),
        deliveries=[_to_claimed(row, notifications[row.notification_id]) for row in rows],
        submission_id=submission_id,
        claimed_at=since,
        must_record=permit.must_record,
        about_plan=subject.about_plan,
    )


def is_stream_free(
    deliveries: Any = Delivery, lease_seconds: LeaseSeconds = None, *, seconds: float = 0
) -> ColumnElement[bool]:
    """Return the condition, on a row of `deliveries`, that no message of its stream is being sent or waits for a retry.

    The same is true of the last `seconds` for messages that are still pending.
    """
    is_before = is_blocked(_other, lease_seconds, seconds=seconds)
    return ~exists().where(*pending_in_stream(deliveries, _other), is_before)


_IS_HELD = and_(
    _deliveries.partner_id.in_(bindparam("of_partners", expanding=True)),
    _deliveries.channel == recipients.QUEUE,
    is_stream_free(_deliveries, LEASE_SECONDS),
)
_COUNT_TO_WATCHERS = (
    select(func.count())
    .where(_other.subject_id == bindparam("of_export"), _other.audience.in_(constants((OPERATOR, UPSTREAM))))
    .scalar_subquery()
)
_RELEASE_AND_CLAIM: Final = (
    update(table(Delivery))
    .where(_deliveries.subject_id == bindparam("of_export"), _deliveries.state == DeliveryState.WAITING.value)
    .values(
        state=_PENDING,
        fence=_deliveries.fence + case((_IS_HELD, 1), else_=0),
        lease_until=case((_IS_HELD, _LEASE_END)),
        due_at=case((_IS_HELD, _LEASE_END), else_=database_now()),
    )
    .returning(
        _deliveries.partner_id,
        _deliveries.channel,
        _deliveries.lease_until.is_not(None).label("claimed"),
        _COUNT_TO_WATCHERS.label("to_watchers"),
    )
)


def release_and_claim(
    session: Session, settings: Settings, export_id: str, held: Iterable[StreamLease] = ()
) -> tuple[list[DeliveryStream], list[StreamLease]]:
    """Make the deliveries pending that waited for the end of the export, and claim those that are `held`.

    Return the streams to publish, and the claimed ones. A stream that another worker sends from is not claimed.
    """
    since, leases = time.monotonic(), {each.stream.partner_id: each for each in held}
    of_export = {"of_export": export_id, "of_partners": list(leases), "lease_seconds": settings.lease_seconds}
    found = session.execute(_RELEASE_AND_CLAIM, of_export).all()
    to_publish = [DeliveryStream(export_id, row.partner_id, row.channel) for row in found if not row.claimed]
    # Only messages to operators and upstream services wait. If there are no others, the lease has all of its partner.
    complete = all(row.to_watchers == len(found) for row in found)
    claimed = [replace(leases[row.partner_id], claimed_at=since, complete=complete) for row in found if row.claimed]
    return list(dict.fromkeys(to_publish)), claimed


def _to_claimed(row: Row[Any], notification: Notification) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row.id,
        fence=row.fence,
        attempts=row.attempts,
        counted_attempts=row.attempts - row.attempts_not_counted,
        first_delivery=row.delivered_at is None,
        notification=notification,
    )


def keep_lease(runtime: Runtime, claimed: StreamLease) -> AbstractContextManager[Lease]:
    """Renew the lease while the block sends. Otherwise a slow endpoint would look like a dead worker."""
    lease = runtime.settings.lease_seconds
    first = claimed.deliveries[0]

    def renew() -> bool:
        with runtime.db.write() as session:
            # One leased row keeps the whole stream.
            renewed = session.execute(
                _RENEW, {"of_delivery": first.id, "held_fence": first.fence, "lease_seconds": lease}
            )
            return row_count(renewed) == 1

    return LEASE_RENEWER.hold(lease, renew, since=claimed.claimed_at, delivery_id=first.id)
