"""Sends deliveries: claims a stream in order, sends outside a transaction, records each attempt."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Select, and_, bindparam, func, select

from config.settings import Settings
from pipeline.accounts.channels import CHANNEL_KINDS
from pipeline.accounts.models import PartnerChannel
from pipeline.accounts.recipients import QUEUE
from pipeline.core import installation, shutdown, tracing
from pipeline.core.bulkhead import Bulkhead, BulkheadLimits
from pipeline.core.db import table
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, DatabaseBusy, ExportsError, Fenced, WorkerLost
from pipeline.core.failpoints import failpoint
from pipeline.core.leases import Lease
from pipeline.core.metrics import count, observe
from pipeline.core.runtime import Runtime
from pipeline.core.spans import Attributes
from pipeline.deliveries.channels.protocol import DeliveryReceipt
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import attempts, messages, streams
from pipeline.deliveries.streams.attempts import SendResult
from pipeline.deliveries.streams.circuit_breaker import EndpointKey
from pipeline.deliveries.streams.retry_policy import Failure
from pipeline.deliveries.streams.streams import StreamLease
from pipeline.exports.metrics import DELIVERED, DELIVERY, DELIVERY_SECONDS, FAILED, LEASES_LOST, REFUSED
from pipeline.exports.states import DeliveryState
from pipeline.exports.step_context import StepContext

#: Limits the sending threads at one destination, and at all unhealthy destinations together.
SENDERS: Final[Bulkhead[EndpointKey, DeliveryStream]] = Bulkhead()

_deliveries, _channels = table(Delivery).c, table(PartnerChannel).c
_FIND_STREAMS: Final = (
    select(_deliveries.account_id, _deliveries.partner_id, _deliveries.channel, func.coalesce(_channels.failures, 0))
    .outerjoin_from(
        table(Delivery),
        table(PartnerChannel),
        and_(
            _channels.account_id == _deliveries.account_id,
            _channels.partner_id == _deliveries.partner_id,
            _channels.channel == _deliveries.channel,
        ),
    )
    .where(_deliveries.subject_id == bindparam("of_subject"), _deliveries.state == DeliveryState.PENDING.value)
    .distinct()
)
_FIND_STREAM: Final = _FIND_STREAMS.where(
    _deliveries.partner_id == bindparam("of_partner"), _deliveries.channel == bindparam("of_channel")
)
_FIND_STREAMS_OF_AUDIENCE: Final = _FIND_STREAMS.where(_deliveries.audience == bindparam("of_audience"))

#: The part of an attempt's time after which its destination counts as unhealthy.
_SLOW_SHARE: Final = 0.25


def endpoint_limits(settings: Settings) -> BulkheadLimits:
    """Return the limits on the threads of this process at partners' endpoints."""
    return BulkheadLimits(
        settings.delivery_senders, settings.delivery_unhealthy_max, settings.delivery_timeout_seconds * _SLOW_SHARE
    )


def resolve_destination(account_id: str, stream: DeliveryStream) -> EndpointKey:
    """Return the bulkhead's destination of the stream: the endpoint, or the shared server of its channel."""
    if CHANNEL_KINDS[stream.channel].shared:
        return EndpointKey("", "", stream.channel)
    return EndpointKey(account_id, stream.partner_id, stream.channel)


def is_unhealthy(channel: str, failures: int) -> bool:
    """Return whether an endpoint with so many consecutive failures is an unhealthy destination.

    A channel with a shared server is not: one partner's failures say nothing about that server.
    """
    return failures > 0 and not CHANNEL_KINDS[channel].shared


log = structlog.get_logger(__name__)

RECORD_RETRY_SECONDS = 0.5

Recorded = TypeVar("Recorded")


@dataclass(frozen=True)
class DeliveryReport:
    """The numbers of messages of one call, and the streams that got new pending deliveries."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    pending_streams: tuple[DeliveryStream, ...] = ()


def deliver_stream(runtime: Runtime, subject_id: str, partner_id: str, channel: str) -> DeliveryReport:
    """Send the stream's due deliveries in order, until it is empty or a message is not taken.

    Nothing is sent while this process is stopping, another worker holds the stream, a failed message waits for its
    retry, or the partner is paused. If the destination holds all its threads in this process, one of them sends the
    stream next. If unhealthy destinations hold all their threads, the stream stays pending for the next sweep. A
    failure is recorded and retried, never raised. If the lease was lost, or the messages were cancelled meanwhile, nothing
    is recorded. Raises DatabaseBusy if the lease ended before the result was recorded.
    """
    which = {"of_subject": subject_id, "of_partner": partner_id, "of_channel": channel}
    try:
        return _send_within_limits(runtime, _FIND_STREAM, which, _send_stream)
    except Fenced:
        log.warning("delivery_fenced", **which)
        return DeliveryReport()


def notify_audience(runtime: Runtime, context: StepContext, audience: str) -> list[DeliveryStream]:
    """Make the first attempt of all pending deliveries of the export to the audience. Failures are retried later.

    No step waits for a destination that holds all its threads, or for an unhealthy one if unhealthy ones hold all
    theirs. Return the streams to publish: skipped streams, and streams that got new pending deliveries.
    """
    report = _send_within_limits(
        runtime,
        _FIND_STREAMS_OF_AUDIENCE,
        {"of_subject": context.export_id, "of_audience": audience},
        _try_stream,
        pass_on=lambda stream: DeliveryReport(pending_streams=(stream,)),
    )
    return list(report.pending_streams)


def _send_within_limits(
    runtime: Runtime,
    query: Select[Any],
    which: Mapping[str, str],
    send: Callable[[Runtime, DeliveryStream], DeliveryReport],
    pass_on: Callable[[DeliveryStream], DeliveryReport] | None = None,
) -> DeliveryReport:
    """Send the pending streams that `query` finds, each within the limits of its destination.

    The service's own queues have no limits. Without `pass_on`, this thread also sends the streams that wait for it.
    """
    if not installation.may_send(runtime):
        return DeliveryReport()
    with runtime.db.read() as session:
        found = session.execute(query, which).all()
    reports: list[DeliveryReport] = []
    for account_id, partner_id, channel, failures in found:
        stream = DeliveryStream(which["of_subject"], partner_id, channel)
        if channel == QUEUE:
            reports.append(send(runtime, stream))
            continue
        reports += SENDERS.run(
            resolve_destination(account_id, stream),
            stream,
            endpoint_limits(runtime.settings),
            partial(send, runtime),
            unhealthy=is_unhealthy(channel, failures),
            pass_on=pass_on,
        )
    return DeliveryReport(
        delivered=sum(report.delivered for report in reports),
        retried=sum(report.retried for report in reports),
        dead=sum(report.dead for report in reports),
        pending_streams=tuple(dict.fromkeys(stream for report in reports for stream in report.pending_streams)),
    )


def _try_stream(runtime: Runtime, stream: DeliveryStream, claimed: StreamLease | None = None) -> DeliveryReport:
    try:
        return _send_stream(runtime, stream, claimed)
    except ExportsError as error:
        log.warning(
            "notifying_failed", partner_id=stream.partner_id, channel=stream.channel, reason=type(error).__name__
        )
        return DeliveryReport()


def deliver_claimed(runtime: Runtime, claims: Iterable[StreamLease]) -> list[DeliveryStream]:
    """Send the claimed streams until they are empty. Failures are retried later. Return the streams to publish."""
    reports = [_try_stream(runtime, claimed.stream, claimed) for claimed in claims]
    return [stream for report in reports for stream in report.pending_streams]


@dataclass(frozen=True)
class Sending:
    """A sent stream, its result that is not recorded yet, and the lease that protects it until then."""

    claimed: StreamLease
    sent: SendResult
    lease: Lease


def send_held(runtime: Runtime, held: Iterable[StreamLease]) -> list[Sending]:
    """Send the streams once, in order. If one fails the others are not tried, because all go to the same server.

    Raises Fenced if a lease ended before anything of its stream was sent.
    """
    sendings: list[Sending] = []
    for claimed in held:
        if sendings and sendings[-1].sent.failure is not None:
            sendings.append(Sending(claimed, SendResult([], [], None), sendings[-1].lease))
        else:
            sendings.append(_send_once(runtime, claimed))
    return sendings


def _send_once(runtime: Runtime, claimed: StreamLease) -> Sending:
    failpoint("delivery.before")
    with _count_lost_lease(), streams.keep_lease(runtime, claimed) as lease:
        sent = _send_claimed(runtime, claimed, lease)
    _measure(claimed, sent)
    failpoint("delivery.sent")
    return Sending(claimed, sent, lease)


@contextmanager
def _count_lost_lease() -> Iterator[None]:
    try:
        yield
    except Fenced:
        count(LEASES_LOST, DELIVERY)
        raise


def _measure(claimed: StreamLease, sent: SendResult) -> None:
    results = [DELIVERED] * len(sent.receipts)
    if sent.failure is not None:
        results.append(REFUSED if isinstance(sent.failure, ChannelRefused) else FAILED)
    for milliseconds, result in zip(sent.durations_ms, results, strict=True):
        observe(DELIVERY_SECONDS, milliseconds / 1000, claimed.stream.channel, claimed.audience, result)


def _send_stream(runtime: Runtime, stream: DeliveryStream, claimed: StreamLease | None = None) -> DeliveryReport:
    delivered = retried = dead = 0
    pending_streams: list[DeliveryStream] = []
    with structlog.contextvars.bound_contextvars(
        subject_id=stream.subject_id, partner_id=stream.partner_id, channel=stream.channel
    ):
        claimed = claimed or _claim_next(runtime, stream)
        while claimed is not None:
            sending = _send_once(runtime, claimed)
            recorded = record_while_leased(
                sending.lease, partial(attempts.record_attempts, runtime, claimed, sending.sent)
            )
            delivered += len(sending.sent.receipts)
            retried += recorded.retried
            dead += recorded.dead
            pending_streams += recorded.pending_streams
            claimed = _claim_next(runtime, stream) if recorded.left and not recorded.retried else None
        if delivered or retried or dead:
            log.info("deliveries_attempted", delivered=delivered, retried=retried, dead=dead)
    return DeliveryReport(delivered, retried, dead, tuple(pending_streams))


def _claim_next(runtime: Runtime, stream: DeliveryStream) -> StreamLease | None:
    return None if shutdown.is_requested() else streams.claim_stream(runtime, stream)


def _send_claimed(runtime: Runtime, claimed: StreamLease, lease: Lease) -> SendResult:
    """Send in order until a message is not taken or the lease ends. No transaction is open meanwhile.

    Raises Fenced if the lease ended before anything was sent: another worker may hold the stream.
    """

    def check_lease() -> None:
        if not lease.is_valid():
            raise Fenced

    receipts: list[DeliveryReceipt] = []
    durations: list[int] = []
    failure: Failure | None = None
    began = before = time.monotonic()
    try:
        sending = _trace_attempts(claimed, messages.send_messages(runtime, claimed, check_lease))
        # Check before each message: a process that was suspended for long may have lost its lease.
        while lease.is_valid() and (receipt := next(sending, None)) is not None:
            now = time.monotonic()
            receipts.append(receipt)
            durations.append(round((now - before) * 1000))
            before = now
            failpoint("delivery.between")
            # Record taken messages soon: after a crash they would be sent again.
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
        failure = ChannelUnavailable(f"the channel {claimed.stream.channel} took no message and gave no reason")
    if failure is not None:
        durations.append(round((time.monotonic() - before) * 1000))
    return SendResult(receipts, durations, failure)


def _trace_attempts(claimed: StreamLease, sending: Iterator[DeliveryReceipt]) -> Iterator[DeliveryReceipt]:
    """Yield what `sending` yields and raise what it raises. Each attempt is the current span while its message is sent."""
    for delivery in claimed.deliveries if tracing.is_tracing() else ():
        described: Attributes = {
            "plan_id" if claimed.about_plan else "export_id": claimed.stream.subject_id,
            "account_id": claimed.account_id,
            "partner_kind": claimed.audience,
            "partner_id": claimed.stream.partner_id,
            "channel": claimed.stream.channel,
            "message_type": delivery.event_type,
            "delivery_id": delivery.id,
            "attempt": delivery.attempts + 1,
        }
        with tracing.open_span("deliver", claimed.trace, kind="producer", attributes=described) as span:
            try:
                receipt = next(sending, None)
            except Exception as error:
                span.fail(error, "refused" if isinstance(error, ChannelRefused) else "failed")
                raise
            span.set(outcome="untaken" if receipt is None else "delivered")
        if receipt is None:
            return
        yield receipt
    yield from sending


def record_while_leased(lease: Lease, record: Callable[[], Recorded]) -> Recorded:
    """Return what `record` returns. Retry while the lease is valid, because unrecorded messages are sent again."""
    while True:
        try:
            with _count_lost_lease():
                recorded = record()
        except DatabaseBusy as busy:
            if not lease.is_valid():
                raise
            log.warning("attempts_not_recorded", reason=str(busy))
            time.sleep(RECORD_RETRY_SECONDS)
        else:
            failpoint("delivery.after")
            return recorded
