"""Streams that the writer of a handoff holds from the start: it sends them without claiming them first."""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from config.settings import Settings
from pipeline.accounts.recipients import QUEUE, SealedTarget
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox.outbox import BROKER, DeliveryStream, OutboxRows
from pipeline.deliveries.streams.streams import ClaimedDelivery, StreamLease
from pipeline.exports.step_context import StepContext


@dataclass(frozen=True)
class HeldStreams:
    """The streams that the writer of a handoff sends at once, and those that it sends when the export is executed."""

    now: Sequence[StreamLease] = ()
    at_end: Sequence[StreamLease] = ()


def hold_streams(
    settings: Settings,
    context: StepContext,
    rows: OutboxRows,
    targets: Mapping[str, SealedTarget | None],
    submission_id: str,
) -> HeldStreams:
    """Return the streams of the rows, as the caller holds them when it has inserted the pending ones with a lease.

    Return none if a partner could delay its messages, is paused, or gets more than one attempt sends. An operator or
    upstream service of that kind is only left out. `targets` are the partners' queues, by partner.
    """
    notifications = {row["id"]: cast("Notification", SimpleNamespace(**row)) for row in rows.notifications}

    def hold(deliveries: Sequence[Mapping[str, Any]]) -> StreamLease | None:
        first = deliveries[0]
        target = targets[first["partner_id"]]
        if target is None or len(deliveries) > settings.delivery_batch or not _all_to_queue(deliveries):
            return None
        return StreamLease(
            stream=DeliveryStream(context.export_id, first["partner_id"], QUEUE),
            account_id=context.account_id,
            audience=first["audience"],
            target=target,
            trace=context.trace,
            deliveries=[_claim_new(row, notifications[row["notification_id"]]) for row in deliveries],
            submission_id=submission_id if first["audience"] == BROKER else None,
            claimed_at=time.monotonic(),
            must_record=target.failures > 0,
            # Nothing is enqueued for a customs broker or warehouse before its export is executed. For the
            # others, release_and_claim() counts again.
            complete=True,
        )

    now = [hold(deliveries) for deliveries in _group_by_partner(rows.pending)]
    if None in now:
        return HeldStreams()
    at_end = [hold(deliveries) for deliveries in _group_by_partner(rows.waiting)]
    return HeldStreams([each for each in now if each], [each for each in at_end if each])


def _group_by_partner(rows: Sequence[Mapping[str, Any]]) -> Collection[Sequence[Mapping[str, Any]]]:
    deliveries: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        deliveries[row["partner_id"]].append(row)
    return deliveries.values()


def _all_to_queue(deliveries: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["channel"] == QUEUE for row in deliveries)


def _claim_new(row: Mapping[str, Any], notification: Notification) -> ClaimedDelivery:
    return ClaimedDelivery(row["id"], 1, attempts=0, counted_attempts=0, first_delivery=True, notification=notification)
