"""The spans of delivery attempts, side by side in the trace of their export, however late an attempt is."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.core import tracing
from pipeline.core.errors import ChannelRefused
from pipeline.core.spans import Attributes
from pipeline.deliveries.channels.protocol import DeliveryReceipt
from pipeline.deliveries.streams import StreamLease


def trace_attempts(claimed: StreamLease, sending: Iterator[DeliveryReceipt]) -> Iterator[DeliveryReceipt]:
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
