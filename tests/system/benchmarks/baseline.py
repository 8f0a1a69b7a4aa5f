"""The side without a queue: one loop makes the same documents, rows, commits and publications, without protection.

It claims nothing and holds no lease. Where the chain commits a claim, it commits one small update, so that both commit
equally often.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sqlalchemy import insert, select, update
from sqlmodel import Session, col

from config.logs import configure_logs
from pipeline.accounts import recipients
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.deliveries import messages as delivery_messages
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.registry import open_channels
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.exports.events import NewEvent
from pipeline.exports.models import Event, Export
from pipeline.exports.states import DeliveryState, ExportState
from pipeline.exports.step_context import build_context
from pipeline.workflow.step_leases import EXPORT_LEVEL
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS
from tests.system.benchmarks.exports import accept_exports, are_all_delivered
from tests.system.benchmarks.interleave import run_rounds


class Loop:
    """Executes exports of one unit one after another, in `commits` transactions each."""

    def __init__(self, runtime: Runtime, commits: int) -> None:
        self._runtime = runtime
        self._commits = commits
        self._made = 0
        self._seq = 1

    def execute(self, export_id: str) -> None:
        """Execute one export, in the order of the steps."""
        self._made, self._seq = 0, 1
        with self._runtime.db.read() as session:
            export = session.get_one(Export, export_id)
        for spec in STEPS:
            context = build_context(
                export, unit_no=1 if spec.per_unit else EXPORT_LEVEL, step=spec.name, fence=1, attempt=1
            )
            notifies = spec.name in NOTIFY_STEPS
            prepared = spec.prepare(self._runtime, context) if spec.prepare is not None and not notifies else None
            with self._runtime.db.write() as session:
                self._log(session, export_id, spec.name, spec.write(session, context, prepared))
            self._made += 1
        self._notify(export)
        while self._made < self._commits:
            self._end(export_id)

    def _notify(self, export: Export) -> None:
        runtime = self._runtime
        with runtime.db.read() as session:
            rows = session.execute(
                select(Delivery, Notification)
                .join(Notification, col(Notification.id) == col(Delivery.notification_id))
                .where(col(Delivery.export_id) == export.id)
                .order_by(col(Delivery.audience), col(Delivery.position))
            ).all()
        for audience in dict.fromkeys(delivery.audience for delivery, _ in rows):
            pending = [(delivery, notification) for delivery, notification in rows if delivery.audience == audience]
            self._send(export, pending)

    def _send(self, export: Export, pending: Sequence[tuple[Delivery, Notification]]) -> None:
        runtime, first = self._runtime, pending[0][0]
        with runtime.db.read() as session:
            target = recipients.find_sealed_target(
                session, export.account_id, first.partner_id, first.channel, test_export=export.test
            )
        assert target is not None
        segment = {"customs_broker": "broker"}.get(first.audience, first.audience)
        messages = [
            OutgoingMessage(
                id=notification.id,
                type=notification.event_type,
                routing_key=f"{segment}.{delivery.partner_id}.{notification.event_type.removeprefix('exports.')}",
                body=delivery_messages.build_cloud_event(runtime.settings, notification, None),
            )
            for delivery, notification in pending
        ]
        receipts = list(open_channels(runtime.settings)[first.channel].send(messages, target.unseal(runtime.settings)))
        with runtime.db.write() as session:
            session.execute(
                update(Delivery)
                .where(col(Delivery.id).in_([delivery.id for delivery, _ in pending]))
                .values(state=DeliveryState.DELIVERED.value, attempts=1, delivered_at=database_now())
                .execution_options(synchronize_session=False)
            )
            tries = [
                {
                    "delivery_id": delivery.id,
                    "number": 1,
                    "outcome": "delivered",
                    "status": receipt.status,
                    "duration_ms": 0,
                }
                for (delivery, _), receipt in zip(pending, receipts, strict=True)
            ]
            session.execute(insert(Attempt), tries)
        self._made += 1

    def _end(self, export_id: str) -> None:
        with self._runtime.db.write() as session:
            session.execute(
                update(Export)
                .where(col(Export.id) == export_id)
                .values(state=ExportState.EXECUTED.value, updated_at=database_now())
                .execution_options(synchronize_session=False)
            )
        self._made += 1

    def _log(self, session: Session, export_id: str, actor: str, events: Sequence[NewEvent]) -> None:
        rows = [
            {
                "export_id": export_id,
                "seq": self._seq + n,
                "type": event.type.value,
                "actor": actor,
                "data": dict(event.data),
                "hash": "",  # a bare log has no hash chain
            }
            for n, event in enumerate(events, start=1)
        ]
        self._seq += len(rows)
        if rows:
            session.execute(insert(Event), rows)


def main(count: int, commits: int) -> None:
    """Execute `count` exports a round, each in `commits` transactions."""
    runtime = process_runtime()
    configure_logs(runtime.settings)
    loop = Loop(runtime, commits)
    exports: list[str] = []

    def prepare() -> None:
        exports[:] = accept_exports(runtime, count)

    def run() -> None:
        for export_id in exports:
            loop.execute(export_id)
        assert are_all_delivered(runtime, exports)

    run_rounds(prepare, run)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
