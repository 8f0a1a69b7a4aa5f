"""Streams that the writer of a handoff holds from the start: it sends them without claiming them first."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from config.settings import Settings
from pipeline.accounts.recipients import QUEUE, SealedTarget
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox import BROKER, DeliveryStream, OutboxRows
from pipeline.deliveries.streams import ClaimedDelivery, StreamLease
from pipeline.exports.step_context import StepContext


def hold_streams(
    settings: Settings,
    context: StepContext,
    rows: OutboxRows,
    targets: Mapping[str, SealedTarget | None],
    submission_id: str,
) -> list[StreamLease]:
    """Return the streams of the pending rows, as the caller holds them when it has inserted these with a lease.

    Return none if a partner could delay its messages, is paused, or gets more than one attempt sends. `targets` are the
    partners' queues, by partner.
    """
    notifications = {row["id"]: cast("Notification", SimpleNamespace(**row)) for row in rows.notifications}
    deliveries_by_partner: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows.pending:
        deliveries_by_partner[row["partner_id"]].append(row)
    held: list[StreamLease] = []
    for partner_id, deliveries in deliveries_by_partner.items():
        target = targets[partner_id]
        if target is None or len(deliveries) > settings.delivery_batch or not _all_to_queue(deliveries):
            return []
        audience = deliveries[0]["audience"]
        held.append(
            StreamLease(
                stream=DeliveryStream(context.export_id, partner_id, QUEUE),
                account_id=context.account_id,
                audience=audience,
                target=target,
                trace_parent=context.trace_parent,
                deliveries=[_claim_new(row, notifications[row["notification_id"]]) for row in deliveries],
                submission_id=submission_id if audience == BROKER else None,
                claimed_at=time.monotonic(),
                # Nothing is enqueued for a customs broker or warehouse before its export is executed.
                complete=True,
            )
        )
    return held


def _all_to_queue(deliveries: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["channel"] == QUEUE for row in deliveries)


def _claim_new(row: Mapping[str, Any], notification: Notification) -> ClaimedDelivery:
    return ClaimedDelivery(row["id"], 1, attempts=0, counted_attempts=0, first_delivery=True, notification=notification)
