"""Records the result of sending: attempts, states, events and submission status, in one transaction."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import partners
from pipeline.accounts.states import PartnerState
from pipeline.core.db import constants, database_now, table
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, Fenced, WorkerLost
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.protocol import DeliveryReceipt, describe_target
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.operator_messages import DeadDelivery, enqueue_delivery_dead
from pipeline.deliveries.outbox.outbox import BROKER, OPERATOR, UPSTREAM, WAREHOUSE, DeliveryStream
from pipeline.deliveries.outbox.subjects import lock_plan
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams import circuit_breaker, recovery
from pipeline.deliveries.streams.handover import record_handover, record_later_answers
from pipeline.deliveries.streams.retry_policy import Failure, compute_retry_delay
from pipeline.deliveries.streams.streams import ClaimedDelivery, StreamLease, pending_in_stream
from pipeline.deliveries.submissions import submissions
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.states import DeliveryState, SubmissionState

log = structlog.get_logger(__name__)

ACTOR: Final = "delivery"

_NOTIFIED: Final = {
    BROKER: EventType.BROKER_NOTIFIED,
    WAREHOUSE: EventType.WAREHOUSE_NOTIFIED,
    OPERATOR: EventType.OPERATOR_NOTIFIED,
    UPSTREAM: EventType.UPSTREAM_NOTIFIED,
}


@dataclass(frozen=True)
class SendResult:
    """Result of sending: the first `len(receipts)` were taken, then one failed if `failure`, the rest are untried."""

    receipts: Sequence[DeliveryReceipt]
    durations_ms: Sequence[int]
    failure: Failure | None


@dataclass(frozen=True)
class RecordResult:
    """The fate of the failed message, if there is one, and the streams that got new pending deliveries.

    `left` says that the stream had more pending deliveries than those that were sent.
    """

    retried: bool = False
    dead: bool = False
    left: bool = False
    pending_streams: tuple[DeliveryStream, ...] = ()


def record_attempts(runtime: Runtime, claimed: StreamLease, sent: SendResult) -> RecordResult:
    """Record the result of sending, in a transaction of its own.

    Taken deliveries become delivered. A failed one gets its attempt, and is retried or dead. Untried ones are released.
    Raises Fenced if the lease was lost, or if the result was recorded before: nothing is written then. The new holder
    of the lease sends again. After DatabaseBusy it is unknown if the result was recorded.
    """
    with runtime.db.write() as session:
        if claimed.about_plan:
            lock_plan(session, claimed.stream.subject_id)
        else:
            # Each writer of the log locks the export's row first: two channels of a partner must not count at once.
            events.lock_export(session, claimed.stream.subject_id)
        (recorded,), happened = write_attempts(session, runtime.settings, [(claimed, sent)])
        if happened and not claimed.about_plan:
            events.append(session, claimed.stream.subject_id, ACTOR, happened)
    return recorded


def write_attempts(
    session: Session, settings: Settings, sendings: Sequence[tuple[StreamLease, SendResult]]
) -> tuple[list[RecordResult], list[NewEvent]]:
    """Record the results of sending streams of one export or plan, in a transaction that holds its row.

    Return also the events to append, if it is an export.
    """
    _update_held(session, [each for sending in sendings for each in _taken(*sending)], _DELIVERED)
    written = [_write_result(session, settings, claimed, sent) for claimed, sent in sendings]
    if tried := [row for sending in sendings for row in _attempt_rows(*sending)]:
        session.execute(_INSERT_ATTEMPTS, tried)
    failpoint("delivery.mid")
    return [recorded for recorded, _ in written], [event for _, happened in written for event in happened]


def _taken(claimed: StreamLease, sent: SendResult) -> Sequence[ClaimedDelivery]:
    return claimed.deliveries[: len(sent.receipts)]


def _write_result(
    session: Session, settings: Settings, claimed: StreamLease, sent: SendResult
) -> tuple[RecordResult, list[NewEvent]]:
    stream = claimed.stream
    taken = _taken(claimed, sent)
    happened: list[NewEvent] = []
    counted = _count_for_partner(session, claimed, len(taken))
    happened += _notified_event(claimed, taken, counted)
    if claimed.submission_id is not None and taken:
        happened += record_handover(session, settings, claimed.submission_id, stream, sent.receipts)
    else:
        happened += record_later_answers(session, settings, stream, sent.receipts)
    # Messages are enqueued under the same lock: what is enqueued later is published when the stream is free.
    recorded = RecordResult(left=counted.pending > 0)
    untried = claimed.deliveries[len(taken) :]
    if sent.failure is not None:
        failing, untried = untried[0], untried[1:]
        pause = compute_retry_delay(settings, failing, sent.failure)
        happened += _record_failure(session, settings, claimed, failing, sent.failure, pause)
        enqueued = outbox.Enqueued()
        # A message about a plan goes to operators, and they get no message about their own dead letters.
        if pause is None and not claimed.about_plan:
            enqueued = enqueue_delivery_dead(session, stream, [_to_dead_delivery(claimed, failing, sent.failure)])
            happened[-1] = replace(happened[-1], data={**happened[-1].data, **enqueued.fact})
        recorded = replace(
            recorded, retried=pause is not None, dead=pause is None, pending_streams=tuple(enqueued.streams)
        )
        _update_held(session, untried, _RELEASED, pause=pause or 0)
        if pause is not None:
            _postpone_following(session, claimed, pause)
        elif isinstance(sent.failure, ChannelUnavailable):
            _leave_last_attempts(session, stream, settings)
    else:
        _update_held(session, untried, _RELEASED, pause=0)
    _update_breaker(session, settings, claimed, sent)
    _pause_gone_partner(session, claimed, sent)
    return recorded, happened


def _update_breaker(session: Session, settings: Settings, claimed: StreamLease, sent: SendResult) -> None:
    # An endpoint that refuses a message permanently is alive, and may take the next one.
    failed = isinstance(sent.failure, ChannelUnavailable)
    if not (failed or claimed.must_record):
        return
    endpoint = circuit_breaker.EndpointKey(claimed.account_id, claimed.stream.partner_id, claimed.stream.channel)
    recorded = circuit_breaker.record_result(session, endpoint, settings, taken=len(sent.receipts), failed=failed)
    if recorded is None:
        return
    before, breaker = recorded
    if breaker.open_until is not None:
        log.warning(
            "breaker_opened", partner_id=endpoint.partner_id, channel=endpoint.channel, failures=breaker.failures
        )
    if before.failures and not breaker.failures:
        log.info("endpoint_recovered", retries=recovery.make_endpoint_due(session, settings, endpoint))


def _pause_gone_partner(session: Session, claimed: StreamLease, sent: SendResult) -> None:
    # An endpoint that answers 410 Gone gets nothing until the partner is resumed.
    gone = isinstance(sent.failure, ChannelRefused) and sent.failure.gone
    if gone and partners.change_state(session, claimed.account_id, claimed.stream.partner_id, PartnerState.PAUSED):
        log.warning("partner_paused_by_its_endpoint")


_deliveries = table(Delivery).c

_UPDATE_HELD: Final = (
    update(table(Delivery))
    .where(
        _deliveries.id.in_(bindparam("ids", expanding=True)),
        _deliveries.fence == bindparam("held_fence"),
        # A writer that does not know if its commit succeeded retries; this condition makes the retry a no-op.
        _deliveries.attempts == bindparam("held_attempts"),
        _deliveries.state == DeliveryState.PENDING.value,
    )
    # A sweep may have found them due while earlier ones of their stream were sent. They were not stalled.
    .values(stalled_since=None)
    .returning(_deliveries.id)
)
_next_attempt = _deliveries.attempts + 1
_retry_at = database_now(bindparam("pause"))

_DELIVERED: Final = _UPDATE_HELD.values(
    state=DeliveryState.DELIVERED.value,
    attempts=_next_attempt,
    lease_until=None,
    due_at=None,
    delivered_at=database_now(),
    error=None,
)
_RELEASED: Final = _UPDATE_HELD.values(lease_until=None, due_at=_retry_at)
# With an error and a later time, it waits for its retry and blocks the stream: no message overtakes the failed one.
_RETRY: Final = _RELEASED.values(attempts=_next_attempt, error=bindparam("reason"))
_DEAD: Final = _UPDATE_HELD.values(
    state=DeliveryState.DEAD.value, attempts=_next_attempt, error=bindparam("reason"), lease_until=None, due_at=None
)

#: The handoff has an event of its own: its first channel counts, or an answer that came before; copies do not.
_FOLLOW_UPS: Final = frozenset(each for each in MessageType if each.follows_up)

_notifications = table(Notification).c
_is_regular = _notifications.event_type.not_in(constants(sorted(_FOLLOW_UPS)))
_is_undelivered = _deliveries.state.not_in(constants((DeliveryState.DELIVERED, DeliveryState.CANCELLED)))
_COUNT_FOR_PARTNER: Final = (
    select(
        func.count().filter(_is_regular, _is_undelivered).label("undelivered"),
        func.count(_deliveries.notification_id.distinct()).filter(_is_regular).label("messages"),
        func.count()
        .filter(_deliveries.channel == bindparam("of_channel"), _deliveries.state == DeliveryState.PENDING.value)
        .label("pending"),
    )
    .join(table(Notification), _notifications.id == _deliveries.notification_id)
    .where(_deliveries.subject_id == bindparam("of_subject"), _deliveries.partner_id == bindparam("of_partner"))
)

_INSERT_ATTEMPTS: Final = insert(table(Attempt))


class _PartnerCounts(NamedTuple):
    """Of an export or plan and a partner: undelivered and all regular messages, and the pending deliveries of one stream."""

    undelivered: int
    messages: int
    pending: int


def _update_held(
    session: Session, deliveries: Sequence[ClaimedDelivery], statement: ReturningUpdate[Any], **parameters: object
) -> None:
    """Update the deliveries. Raises Fenced unless this worker still holds all of them as claimed."""
    ids_by_claim: dict[tuple[int, int], list[str]] = defaultdict(list)
    for each in deliveries:
        ids_by_claim[each.fence, each.attempts].append(each.id)
    for (fence, attempts), ids in ids_by_claim.items():
        held = {"ids": ids, "held_fence": fence, "held_attempts": attempts}
        found = session.execute(statement, held | parameters).all()
        if len(found) != len(ids):
            raise Fenced


def _record_failure(
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
        _update_held(session, [failing], _RETRY, reason=reason, pause=pause)
        return happened
    _update_held(session, [failing], _DEAD, reason=reason)
    if claimed.submission_id is not None:
        submissions.advance_status(
            session, settings, claimed.submission_id, SubmissionState.FAILED, error_message=reason
        )
    return [*happened, NewEvent(EventType.DELIVERY_DEAD, fact)]


def _postpone_following(session: Session, claimed: StreamLease, pause: float) -> None:
    """Delay the stream's unclaimed deliveries to the next attempt, so that sweeps do not read them until then."""
    beyond = col(Delivery.id).not_in([each.id for each in claimed.deliveries])
    session.execute(
        update(Delivery)
        .where(*pending_in_stream(claimed.stream), beyond, col(Delivery.due_at) < database_now(pause))
        .values(due_at=database_now(pause), stalled_since=None)
        .execution_options(synchronize_session=False)
    )


def _leave_last_attempts(session: Session, stream: DeliveryStream, settings: Settings) -> None:
    """Leave one attempt to each pending delivery of the stream: the endpoint already failed for a whole schedule."""
    session.execute(
        update(Delivery)
        .where(*pending_in_stream(stream))
        .values(attempts_not_counted=col(Delivery.attempts) - settings.delivery_retries)
        .execution_options(synchronize_session=False)
    )


def _to_dead_delivery(claimed: StreamLease, failing: ClaimedDelivery, failure: Exception) -> DeadDelivery:
    return DeadDelivery(
        delivery_id=failing.id,
        notification_id=failing.notification_id,
        audience=claimed.audience,
        event_type=failing.event_type,
        attempts=failing.attempts + 1,
        reason=str(failure),
    )


def _count_for_partner(session: Session, claimed: StreamLease, taken: int) -> _PartnerCounts:
    """Return the counts of the stream's export and partner, after the taken deliveries were recorded."""
    stream, messages = claimed.stream, len(claimed.deliveries)
    if claimed.complete:
        return _PartnerCounts(undelivered=messages - taken, messages=messages, pending=messages - taken)
    parameters = {"of_subject": stream.subject_id, "of_partner": stream.partner_id, "of_channel": stream.channel}
    return _PartnerCounts(*session.execute(_COUNT_FOR_PARTNER, parameters).one())


def _notified_event(claimed: StreamLease, taken: Sequence[ClaimedDelivery], counted: _PartnerCounts) -> list[NewEvent]:
    """Return the event that the partner was notified, if all messages of the export to it are delivered."""
    stream = claimed.stream
    new = {each.event_type for each in taken if each.first_delivery}
    if counted.undelivered or new <= {*_FOLLOW_UPS, MessageType.HANDOFF_READY}:
        return []
    data = {"partnerId": stream.partner_id, "channel": stream.channel, "messages": counted.messages}
    return [NewEvent(_NOTIFIED[claimed.audience], data)]


def _attempt_rows(claimed: StreamLease, sent: SendResult) -> list[dict[str, Any]]:
    # A channel that does not describe its requests is known by its address.
    known = describe_target(claimed.target)
    rows: list[dict[str, Any]] = [
        {
            "delivery_id": each.id,
            "number": each.attempts + 1,
            "outcome": "delivered",
            "status": receipt.status,
            "answer": receipt.answer,
            "error_class": None,
            "exchange": receipt.exchange or known,
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
                "exchange": known if answered is None else answered.exchange or known,
                "duration_ms": sent.durations_ms[-1],
            }
        )
    return rows
