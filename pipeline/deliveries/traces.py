"""Traces: what became of one message, over every channel and back."""

from __future__ import annotations

import json

from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries import messages, queries, sandbox_broker, submissions_folded
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.cloudevent import CloudEventEnvelope
from pipeline.deliveries.schemas.messages import HandoffReady, MessageType
from pipeline.deliveries.schemas.tracing import NotificationTrace
from pipeline.exports.models import Export


def read(runtime: Runtime, account_id: str, notification_id: str) -> NotificationTrace:
    """Return what became of the account's message with this CloudEvent id.

    Raises NotFound, also for what belongs to another account, and where its text was purged.
    """
    with runtime.db.read() as session:
        said = session.get(Notification, notification_id)
        if said is None or said.account_id != account_id:
            raise NotFound(f"there is no message {notification_id} in this account")
        export = session.get_one(Export, said.export_id)
        if export.purged_at is not None:
            raise NotFound(
                f"message {notification_id} was purged with export {export.id} when its retention ended; its deliveries"
                f" are kept, see /api/deliveries?exportId={export.id}"
            )
        submission = None
        # Only a handoff is answered; other messages about it are beside the ladder.
        if said.event_type == MessageType.HANDOFF_READY:
            submission_id = HandoffReady.model_validate_json(said.data).submission_id
            submission = submissions_folded.read_submission(session, account_id, submission_id)
        return NotificationTrace(
            id=said.id,
            event_type=said.event_type,
            audience=said.audience,
            export_id=export.id,
            batch_id=export.batch_id,
            revision=export.revision,
            test=export.test,
            created_at=said.created_at,
            event=CloudEventEnvelope.model_validate(
                json.loads(messages.cloud_event(runtime.settings, said, export.trace_parent))
            ),
            deliveries=queries.of_notification(session, said),
            sandbox=sandbox_broker.received_as(session, account_id, said.id),
            broker_submission=submission,
        )
