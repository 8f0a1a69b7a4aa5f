"""Deliveries: claimed in order, sent outside any transaction, recorded with every attempt, and resent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import func, select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts.models import PartnerChannel
from pipeline.accounts.recipients import QUEUE
from pipeline.accounts.schemas import DeliveryView
from pipeline.core import shutdown
from pipeline.core.bulkhead import Bulkhead, BulkheadLimits
from pipeline.core.errors import (
    ChannelRefused,
    ChannelUnavailable,
    DatabaseBusy,
    ExportsError,
    Fenced,
    InsufficientRole,
    InvalidState,
    Purged,
    WorkerLost,
)
from pipeline.core.failpoints import failpoint
from pipeline.core.leases import Lease
from pipeline.core.runtime import Runtime
from pipeline.deliveries import attempts, circuit_breaker, messages, outbox, queries, streams, submissions
from pipeline.deliveries.attempts import RecordResult, SendResult
from pipeline.deliveries.channels.protocol import DeliveryReceipt
from pipeline.deliveries.channels.registry import open_channels
from pipeline.deliveries.circuit_breaker import EndpointKey
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import DeliveryStream
from pipeline.deliveries.retry_policy import Failure
from pipeline.deliveries.schemas.messages import HELD_UNTIL_SUPERSEDED
from pipeline.deliveries.streams import StreamLease
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.states import DELIVERY_TRANSITIONS, DeliveryState, SubmissionState, source_states
from pipeline.exports.step_context import StepContext

#: Destinations that do not answer hold up no more than some of the senders, one by one and together.
SENDERS: Final[Bulkhead[EndpointKey, DeliveryStream]] = Bulkhead()

#: Consecutive failures of an endpoint; what an older version owes to an account itself has none.
FAILURES: Final = func.coalesce(col(PartnerChannel.failures), 0)


#: The part of an attempt's time after which its destination counts as unhealthy.
_SLOW_SHARE: Final = 0.25


def endpoint_limits(settings: Settings) -> BulkheadLimits:
    """Return the limits on the threads of this process at partners' endpoints."""
    return BulkheadLimits(
        settings.delivery_senders, settings.delivery_unhealthy_max, settings.delivery_timeout_seconds * _SLOW_SHARE
    )


def resolve_destination(settings: Settings, account_id: str, stream: DeliveryStream) -> EndpointKey:
    """Return the server that the stream leads to, as far as senders have to keep off each other there."""
    if open_channels(settings)[stream.channel].shared:
        return EndpointKey("", "", stream.channel)
    return EndpointKey(account_id, stream.partner_id, stream.channel)


def is_unhealthy(settings: Settings, channel: str, failures: int) -> bool:
    """Tell whether the destination of an endpoint with so many failures in a row is known to be unhealthy.

    Whether one partner's mailbox takes its mail says nothing of the server that all mail goes by.
    """
    return failures > 0 and not open_channels(settings)[channel].shared


log = structlog.get_logger(__name__)

RECORD_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class DeliveryReport:
    """What one call came to, in messages; `pending_streams` are streams that became owed something by it."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    pending_streams: tuple[DeliveryStream, ...] = ()


def deliver_stream(runtime: Runtime, export_id: str, partner_id: str, channel: str) -> DeliveryReport:
    """Send what the stream is owed and due, in order, until it is empty or a message is not taken.

    Nothing is sent while this process is to end, while another worker holds the stream, while a failed message waits for
    its next try, or while the partner is paused. Where the destination keeps as many threads of this process as it may,
    one of those sends it in its turn; where it is unhealthy, and unhealthy ones keep as many, it stays owed for the next sweep.
    A failure is recorded and put off, never raised. Raises Fenced where the lease was lost, and DatabaseBusy where it ran
    out before the database took what came of sending.
    """
    stream = DeliveryStream(export_id, partner_id, channel)
    if channel == QUEUE:
        return _send_stream(runtime, stream)
    with runtime.db.read() as session:
        found = session.execute(
            select(col(Export.account_id), FAILURES)
            .outerjoin(PartnerChannel, circuit_breaker.matches_endpoint(col(Export.account_id), partner_id, channel))
            .where(col(Export.id) == export_id)
        ).first()
    if found is None:
        return DeliveryReport()
    account_id, failures = found
    reports = SENDERS.run(
        resolve_destination(runtime.settings, account_id, stream),
        stream,
        endpoint_limits(runtime.settings),
        lambda each: _send_stream(runtime, each),
        unhealthy=is_unhealthy(runtime.settings, stream.channel, failures),
    )
    pending_streams = dict.fromkeys(stream for report in reports for stream in report.pending_streams)
    return DeliveryReport(
        delivered=sum(report.delivered for report in reports),
        retried=sum(report.retried for report in reports),
        dead=sum(report.dead for report in reports),
        pending_streams=tuple(pending_streams),
    )


def _send_stream(runtime: Runtime, stream: DeliveryStream) -> DeliveryReport:
    delivered = retried = dead = 0
    pending_streams: list[DeliveryStream] = []
    with structlog.contextvars.bound_contextvars(
        export_id=stream.export_id, partner_id=stream.partner_id, channel=stream.channel
    ):
        while (
            not retried
            and not shutdown.is_requested()
            and (claimed := streams.claim_stream(runtime, stream)) is not None
        ):
            failpoint("delivery.before")
            with streams.keep_lease(runtime, claimed) as lease:
                sent = _send_claimed(runtime, claimed, lease)
            failpoint("delivery.sent")
            recorded = _record_result(runtime, claimed, sent, lease)
            failpoint("delivery.after")
            delivered += len(sent.receipts)
            retried += recorded.retried
            dead += recorded.dead
            pending_streams += recorded.pending_streams
        if delivered or retried or dead:
            log.info("deliveries_attempted", delivered=delivered, retried=retried, dead=dead)
    return DeliveryReport(delivered, retried, dead, tuple(dict.fromkeys(pending_streams)))


def notify_audience(runtime: Runtime, context: StepContext, audience: str) -> list[DeliveryStream]:
    """Make the first attempt at everything that the audience is owed of the export; what fails is on the schedule.

    No step waits for a destination that keeps as many threads as it may, alone or with other unhealthy ones. Returned are the streams to publish: those that were
    left to others, and those that became owed something by it.
    """
    with runtime.db.read() as session:
        found = session.execute(
            select(col(Delivery.partner_id), col(Delivery.channel), FAILURES)
            .outerjoin(
                PartnerChannel,
                circuit_breaker.matches_endpoint(
                    col(Delivery.account_id), col(Delivery.partner_id), col(Delivery.channel)
                ),
            )
            .where(
                col(Delivery.export_id) == context.export_id,
                col(Delivery.audience) == audience,
                col(Delivery.state) == DeliveryState.PENDING.value,
            )
            .distinct()
        ).all()
    left: list[DeliveryStream] = []
    for partner_id, channel, failures in found:
        stream = DeliveryStream(context.export_id, partner_id, channel)
        left += _try_stream(
            runtime, context.account_id, stream, unhealthy=is_unhealthy(runtime.settings, channel, failures)
        )
    return left


def _try_stream(runtime: Runtime, account_id: str, stream: DeliveryStream, *, unhealthy: bool) -> list[DeliveryStream]:
    where = resolve_destination(runtime.settings, account_id, stream)
    free = stream.channel == QUEUE
    slot = None if free else SENDERS.acquire(where, endpoint_limits(runtime.settings), unhealthy=unhealthy)
    if slot is None and not free:
        return [stream]
    left: list[DeliveryStream] = []
    try:
        left += _send_stream(runtime, stream).pending_streams
    except ExportsError as error:
        log.warning(
            "notifying_failed", partner_id=stream.partner_id, channel=stream.channel, reason=type(error).__name__
        )
    finally:
        following = None if slot is None else SENDERS.release(slot)
    return left if following is None else [*left, following]


def _send_claimed(runtime: Runtime, claimed: StreamLease, lease: Lease) -> SendResult:
    """Send in order until a message is not taken, or the lease's time is over; no transaction is open meanwhile.

    Raises Fenced where another worker may hold the stream by now and nothing was sent here: nothing is sent then, either.
    """

    def check_lease() -> None:
        if not lease.is_valid():
            raise Fenced

    receipts: list[DeliveryReceipt] = []
    durations: list[int] = []
    failure: Failure | None = None
    began = before = time.monotonic()
    try:
        sending = messages.send_messages(runtime, claimed, check_lease)
        # Asked before each message: a process that was stopped for long wakes up as the holder of nothing.
        while lease.is_valid() and (receipt := next(sending, None)) is not None:
            now = time.monotonic()
            receipts.append(receipt)
            durations.append(round((now - before) * 1000))
            before = now
            failpoint("delivery.between")
            # What was taken is recorded before long: a crash would send it again.
            if now - began > runtime.settings.lease_seconds or shutdown.is_requested():
                break
    except (ChannelUnavailable, ChannelRefused, WorkerLost) as error:
        failure = error
    except Fenced:
        if not receipts:
            raise
    except Exception as error:
        log.exception("channel_raised")
        failure = ChannelUnavailable(f"{type(error).__name__} in the channel {claimed.stream.channel}")
    if not receipts and failure is None and not lease.is_valid():
        raise Fenced
    if not receipts and failure is None:
        failure = ChannelUnavailable(f"the channel {claimed.stream.channel} took nothing and did not say why")
    if failure is not None:
        durations.append(round((time.monotonic() - before) * 1000))
    return SendResult(receipts, durations, failure)


def _record_result(runtime: Runtime, claimed: StreamLease, sent: SendResult, lease: Lease) -> RecordResult:
    # As long as nobody else can have it: what is not recorded is sent again.
    while True:
        try:
            return attempts.record_attempts(runtime, claimed, sent)
        except DatabaseBusy as busy:
            if not lease.is_valid():
                raise
            log.warning("attempts_not_recorded", reason=str(busy))
            time.sleep(RECORD_RETRY_SECONDS)


def resend_delivery(
    runtime: Runtime, account_id: str, delivery_id: str, actor: str, *, test_only: bool = False
) -> tuple[DeliveryView, DeliveryStream]:
    """Owe a delivered or dead delivery once more, with the same id and a schedule begun anew; return the stream to publish.

    Raises NotFound, and InvalidState where it is still owed or was cancelled, or where a newer revision has replaced what
    it says; InsufficientRole of a live export's where `test_only`.
    """
    with runtime.db.write() as session:
        view = queries.load_delivery(session, account_id, delivery_id)
        stream = DeliveryStream(view.export_id, view.partner_id, view.channel)
        # Locked before anything is judged: an amendment or a purge under way is waited for.
        events.lock_export(session, stream.export_id)
        export = session.get_one(Export, stream.export_id)
        if export.purged_at is not None:
            raise Purged.for_export(export.id, "what it said is gone")
        if test_only and not export.test:
            raise InsufficientRole(f"delivery {delivery_id} is of a live export; resend it with a live key")
        newer = session.scalar(select(col(Export.id)).where(col(Export.supersedes_id) == stream.export_id))
        if newer is not None and view.event_type in HELD_UNTIL_SUPERSEDED:
            raise InvalidState(
                f"export {stream.export_id} was superseded by {newer}: what it said no longer holds; resend what {newer} says"
            )
        if not outbox.requeue(session, col(Delivery.id) == delivery_id, col(Delivery.state).in_(RESENDABLE)):
            raise InvalidState(f"the delivery is {view.state.value}; only a delivered or dead one can be resent")
        submission_id = session.scalar(
            select(col(BrokerSubmission.id)).where(
                col(BrokerSubmission.export_id) == stream.export_id,
                col(BrokerSubmission.partner_id) == stream.partner_id,
                col(BrokerSubmission.channel) == stream.channel,
            )
        )
        if submission_id is not None:
            submissions.advance_status(
                session, runtime.settings, submission_id, SubmissionState.PENDING, error_message=None
            )
        data = {"deliveryId": delivery_id, "notificationId": view.notification_id, "partnerId": view.partner_id}
        events.append(session, stream.export_id, actor, [NewEvent(EventType.DELIVERY_RESENT, data)])
        session.expire_all()
        return queries.load_delivery(session, account_id, delivery_id), stream


#: What is waiting for its export becomes pending too, but by the export's completion alone.
RESENDABLE: Final = [
    state.value
    for state in source_states(DELIVERY_TRANSITIONS, DeliveryState.PENDING)
    if state is not DeliveryState.WAITING
]
