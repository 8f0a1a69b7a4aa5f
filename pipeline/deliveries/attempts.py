"""What came of sending: attempts, states, events and the broker submission's status, written in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import partners
from pipeline.accounts.states import PartnerState
from pipeline.core.db import database_now, table
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, Fenced, WorkerLost
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.deliveries import circuit_breaker, outbox, submissions
from pipeline.deliveries.channels.protocol import Receipt
from pipeline.deliveries.models import Attempt, BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox import BROKER, OPERATOR, WAREHOUSE, DeadDelivery, DeliveryStream
from pipeline.deliveries.retry_policy import Failure, retry_pause
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams import ClaimedDelivery, StreamLease, pending_in_stream
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.states import DeliveryState, SubmissionState

log = structlog.get_logger(__name__)

ACTOR: Final = "delivery"

_TOLD: Final = {
    BROKER: EventType.BROKER_NOTIFIED,
    WAREHOUSE: EventType.WAREHOUSE_NOTIFIED,
    OPERATOR: EventType.OPERATOR_NOTIFIED,
}


@dataclass(frozen=True)
class Sent:
    """What came of sending: the first `len(receipts)` were taken, then perhaps one was not, and the rest were not tried."""

    receipts: Sequence[Receipt]
    durations_ms: Sequence[int]
    failure: Failure | None


@dataclass(frozen=True)
class Recorded:
    """What became of the message that was not taken, if there was one, and which streams are owed something new."""

    put_off: bool = False
    dead: bool = False
    pending_streams: tuple[DeliveryStream, ...] = ()


def record(runtime: Runtime, claimed: StreamLease, sent: Sent) -> Recorded:
    """Write what came of sending.

    What was taken is delivered; what was not has its attempt and its next try, or is dead; what was not tried is as it
    was. Raises Fenced where the lease was lost meanwhile: then nothing is written, and whoever holds it sends again. So
    does what was written already, and DatabaseBusy leaves open whether it was.
    """
    stream = claimed.stream
    taken = claimed.deliveries[: len(sent.receipts)]
    with runtime.db.write() as session:
        # The export's row first, as by every writer of its log: two channels of one partner are counted one after another.
        events.append(session, stream.export_id, ACTOR, [])
        happened: list[NewEvent] = []
        _guarded(session, taken, _DELIVERED)
        happened += _told(session, claimed, taken)
        if claimed.submission_id is not None and taken:
            happened += _handed_over(session, runtime.settings, claimed.submission_id, sent.receipts)
        recorded = Recorded()
        untried = claimed.deliveries[len(taken) :]
        if sent.failure is not None:
            failing, untried = untried[0], untried[1:]
            pause = retry_pause(runtime.settings, failing, sent.failure)
            happened += _not_taken(session, runtime.settings, claimed, failing, sent.failure, pause)
            enqueued = outbox.Enqueued()
            if pause is None:
                enqueued = outbox.enqueue_delivery_dead(session, stream, [_told_dead(claimed, failing, sent.failure)])
                happened[-1] = replace(happened[-1], data={**happened[-1].data, **enqueued.fact})
            recorded = Recorded(put_off=pause is not None, dead=pause is None, pending_streams=tuple(enqueued.streams))
            _guarded(session, untried, _RELEASED, pause=pause or 0)
            if pause is not None:
                _put_off_behind(session, claimed, pause)
            elif isinstance(sent.failure, ChannelUnavailable):
                _last_tries(session, stream, runtime.settings)
        else:
            _guarded(session, untried, _RELEASED, pause=0)
        session.execute(insert(table(Attempt)), _attempts(claimed, sent))
        _watch(session, runtime.settings, claimed, sent)
        _pause_gone(session, claimed, sent)
        events.append(session, stream.export_id, ACTOR, happened)
        failpoint("delivery.mid")
    return recorded


def _watch(session: Session, settings: Settings, claimed: StreamLease, sent: Sent) -> None:
    # An endpoint that refuses one message for good is alive: that says nothing of the next.
    failed = isinstance(sent.failure, ChannelUnavailable)
    if not (failed or claimed.must_record):
        return
    way = circuit_breaker.Way(claimed.account_id, claimed.stream.partner_id, claimed.stream.channel)
    health = circuit_breaker.record(session, way, settings, taken=len(sent.receipts), failed=failed)
    if health is not None and health.open_until is not None:
        log.warning("endpoint_rested", partner_id=way.partner_id, channel=way.channel, failures=health.failures)


def _pause_gone(session: Session, claimed: StreamLease, sent: Sent) -> None:
    # An endpoint that says 410 Gone wants nothing more, until its owner resumes it.
    gone = isinstance(sent.failure, ChannelRefused) and sent.failure.gone
    if gone and partners.move(session, claimed.account_id, claimed.stream.partner_id, PartnerState.PAUSED):
        log.warning("partner_paused_by_its_endpoint")


_deliveries = table(Delivery).c

_GUARDED: Final = (
    update(table(Delivery))
    .where(
        _deliveries.id.in_(bindparam("ids", expanding=True)),
        _deliveries.fence == bindparam("held_fence"),
        # Whoever hears nothing of its commit writes once more: what is written already is not written twice.
        _deliveries.attempts == bindparam("held_attempts"),
        _deliveries.state == DeliveryState.PENDING.value,
    )
    # A sweep may have found them due while others of their stream were sent for long: they have not lain there.
    .values(stalled_since=None)
    .returning(_deliveries.id)
)
_once_more = _deliveries.attempts + 1
_pause_end = database_now(bindparam("pause"))

_DELIVERED: Final = _GUARDED.values(
    state=DeliveryState.DELIVERED.value,
    attempts=_once_more,
    lease_until=None,
    due_at=None,
    delivered_at=database_now(),
    error=None,
)
_RELEASED: Final = _GUARDED.values(lease_until=None, due_at=_pause_end)
# The lease runs on until the next try, and with it the stream's: nothing overtakes the message that failed.
_PUT_OFF: Final = _GUARDED.values(
    attempts=_once_more,
    error=bindparam("reason"),
    lease_until=_pause_end,
    due_at=_pause_end,
)
_DEAD: Final = _GUARDED.values(
    state=DeliveryState.DEAD.value,
    attempts=_once_more,
    error=bindparam("reason"),
    lease_until=None,
    due_at=None,
)

#: What may follow what an export itself has to say: news of its own, which does not tell the end of the export again.
_NEWS: Final = frozenset({MessageType.DELIVERY_DEAD, MessageType.HANDOFF_OVERDUE, MessageType.HANDOFF_ANSWERED})

_said = table(Notification).c
_OF_PARTNER: Final = (
    select(
        func.count().filter(_deliveries.state.not_in((DeliveryState.DELIVERED.value, DeliveryState.CANCELLED.value))),
        func.count(_deliveries.notification_id.distinct()),
    )
    .join(table(Notification), _said.id == _deliveries.notification_id)
    .where(
        _deliveries.export_id == bindparam("of_export"),
        _deliveries.partner_id == bindparam("of_partner"),
        _said.event_type.not_in(sorted(_NEWS)),
    )
)


def _guarded(
    session: Session, deliveries: Sequence[ClaimedDelivery], statement: ReturningUpdate[Any], **parameters: object
) -> None:
    """Update the deliveries if this worker still holds them all, as it claimed them; else raise Fenced."""
    alike: dict[tuple[int, int], list[str]] = defaultdict(list)
    for each in deliveries:
        alike[each.fence, each.attempts].append(each.id)
    for (fence, attempts), ids in alike.items():
        held = {"ids": ids, "held_fence": fence, "held_attempts": attempts}
        found = session.execute(statement, held | parameters).all()
        if len(found) != len(ids):
            raise Fenced


def _not_taken(
    session: Session,
    settings: Settings,
    claimed: StreamLease,
    failing: ClaimedDelivery,
    failure: Failure,
    pause: float | None,
) -> list[NewEvent]:
    reason = str(failure)
    fact = {
        "deliveryId": failing.id,
        "notificationId": failing.notification_id,
        "audience": claimed.audience,
        "partnerId": claimed.stream.partner_id,
        "channel": claimed.stream.channel,
        "attempt": failing.attempts + 1,
        "reason": reason,
    }
    happened = [NewEvent(EventType.DELIVERY_FAILED, fact)]
    if pause is not None:
        _guarded(session, [failing], _PUT_OFF, reason=reason, pause=pause)
        return happened
    _guarded(session, [failing], _DEAD, reason=reason)
    if claimed.submission_id is not None:
        submissions.advance_status(
            session, settings, claimed.submission_id, SubmissionState.FAILED, error_message=reason
        )
    return [*happened, NewEvent(EventType.DELIVERY_DEAD, fact)]


def _put_off_behind(session: Session, claimed: StreamLease, pause: float) -> None:
    """Put off what waits in the stream beyond what was claimed: sweeps would look at all of it until the next try."""
    beyond = col(Delivery.id).not_in([each.id for each in claimed.deliveries])
    session.execute(
        update(Delivery)
        .where(*pending_in_stream(claimed.stream), beyond, col(Delivery.due_at) < database_now(pause))
        .values(due_at=database_now(pause), stalled_since=None)
        .execution_options(synchronize_session=False)
    )


def _last_tries(session: Session, stream: DeliveryStream, settings: Settings) -> None:
    """Leave what waits in the stream one try each: the endpoint has had the whole schedule, and would have it again for each."""
    session.execute(
        update(Delivery)
        .where(*pending_in_stream(stream))
        .values(attempts_not_counted=col(Delivery.attempts) - len(settings.delivery_schedule_seconds))
        .execution_options(synchronize_session=False)
    )


def _told_dead(claimed: StreamLease, failing: ClaimedDelivery, failure: Exception) -> DeadDelivery:
    return DeadDelivery(
        delivery_id=failing.id,
        notification_id=failing.notification_id,
        audience=claimed.audience,
        event_type=failing.event_type,
        attempts=failing.attempts + 1,
        reason=str(failure),
    )


def _handed_over(
    session: Session, settings: Settings, submission_id: str, receipts: Sequence[Receipt]
) -> list[NewEvent]:
    submissions.advance_status(session, settings, submission_id, SubmissionState.DELIVERED)
    # The broker's own answer may have overtaken us; when it was sent is a fact all the same.
    session.execute(
        update(BrokerSubmission)
        .where(col(BrokerSubmission.id) == submission_id)
        .values(sent_at=func.coalesce(col(BrokerSubmission.sent_at), database_now()), error_message=None)
    )
    answers = [receipt.handoff for receipt in receipts if receipt.handoff is not None]
    if answers:
        session.execute(
            update(BrokerSubmission)
            .where(col(BrokerSubmission.id) == submission_id)
            .values(handoff_id=answers[-1].handoff_id, polled_at=database_now())
        )
    return [
        event
        for answer in answers
        for event in submissions.record(session, settings, submission_id, answer.acknowledgement)
    ]


def _told(session: Session, claimed: StreamLease, taken: Sequence[ClaimedDelivery]) -> list[NewEvent]:
    """Return the event that the partner has been told, once everything that it is owed of the export was delivered."""
    stream = claimed.stream
    if not any(each.first_delivery and each.event_type not in _NEWS for each in taken):
        return []
    remaining, messages = session.execute(
        _OF_PARTNER, {"of_export": stream.export_id, "of_partner": stream.partner_id}
    ).one()
    if remaining:
        return []
    data = {"partnerId": stream.partner_id, "channel": stream.channel, "messages": messages}
    return [NewEvent(_TOLD[claimed.audience], data)]


def _attempts(claimed: StreamLease, sent: Sent) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "delivery_id": each.id,
            "number": each.attempts + 1,
            "outcome": "delivered",
            "status": receipt.status,
            "answer": receipt.answer,
            "error_class": None,
            "duration_ms": duration,
        }
        for each, receipt, duration in zip(claimed.deliveries, sent.receipts, sent.durations_ms, strict=False)
    ]
    if sent.failure is not None:
        failing = claimed.deliveries[len(rows)]
        answered = None if isinstance(sent.failure, WorkerLost) else sent.failure
        rows.append(
            {
                "delivery_id": failing.id,
                "number": failing.attempts + 1,
                "outcome": "refused" if isinstance(sent.failure, ChannelRefused) else "failed",
                "status": type(sent.failure).__name__ if answered is None else answered.status,
                "answer": None if answered is None else answered.answer,
                "error_class": type(sent.failure).__name__,
                "duration_ms": sent.durations_ms[-1],
            }
        )
    return rows
