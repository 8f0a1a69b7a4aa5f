"""Builds messages from the deliveries of a stream, and passes them to its channel."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import structlog
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from config.settings import Settings
from pipeline.accounts import recipients
from pipeline.accounts.channels import CHANNEL_KINDS
from pipeline.core.clock import utc_now
from pipeline.core.errors import ChannelUnavailable, SecretUnreadable, WorkerLost
from pipeline.core.runtime import Runtime
from pipeline.core.trace_context import TraceContext
from pipeline.deliveries.channels.protocol import Attachment, DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.channels.registry import open_channels
from pipeline.deliveries.email import content
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox.outbox import BROKER, derive_notification_id
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import ArtifactLink, HandoffReady, HandoffReplied
from pipeline.deliveries.streams.streams import WORKER_LOST, ClaimedDelivery, StreamLease
from pipeline.deliveries.submissions import links

log = structlog.get_logger(__name__)

#: The messages that link to documents or files.
_WITH_FILES: Final = (MessageType.HANDOFF_READY, MessageType.HANDOFF_REPLIED)

#: The status of an attempt that failed before the message was sent, like SecretUnreadable.
NOT_BUILT: Final = "MessageNotBuilt"


def send_messages(runtime: Runtime, claimed: StreamLease, check_lease: Callable[[], None]) -> Iterator[DeliveryReceipt]:
    """Build the claimed messages and send them in order. Yields and raises as Channel.send does.

    Also raises ChannelUnavailable if the target's secrets cannot be decrypted. If a message cannot be built, the
    earlier ones are sent first and then it raises ChannelUnavailable. Raises WorkerLost if the first message has killed
    its sender as often as allowed.
    """
    _check_worker_losses(runtime.settings, claimed.deliveries[0])
    channel = open_channels(runtime.settings)[claimed.stream.channel]
    try:
        target = replace(claimed.target.unseal(runtime.settings), check_lease=check_lease)
    except SecretUnreadable as error:
        raise ChannelUnavailable(str(error), status=SecretUnreadable.__name__) from error
    messages: list[OutgoingMessage] = []
    not_built: ChannelUnavailable | None = None
    for delivery in claimed.deliveries:
        try:
            messages.append(_build_message(runtime, claimed, delivery.notification))
        except Exception as error:
            log.exception("message_not_built", notification_id=delivery.notification_id)
            not_built = ChannelUnavailable(f"building the message failed: {type(error).__name__}", status=NOT_BUILT)
            break
    if messages:
        yield from channel.send(messages, target)
    if not_built is not None:
        raise not_built


def _check_worker_losses(settings: Settings, delivery: ClaimedDelivery) -> None:
    # One more than others have: at the first loss, another message may have been the one being sent.
    if delivery.counted_attempts > settings.delivery_retries + 1:
        raise WorkerLost(
            f"{WORKER_LOST}, at the last of {delivery.counted_attempts} attempts: it was killed, crashed, ran out of memory, or could"
            " not write the result; see the logs of that time",
            delivery.counted_attempts,
        )


def _build_message(runtime: Runtime, claimed: StreamLease, notification: Notification) -> OutgoingMessage:
    channel, target, now = CHANNEL_KINDS[claimed.stream.channel], claimed.target, utc_now()
    attachments = (
        _list_attachments(runtime, notification, claimed.stream.partner_id, now) if channel.carries_documents else []
    )
    return OutgoingMessage(
        id=notification.id,
        type=notification.event_type,
        routing_key=recipients.build_routing_key(
            claimed.account_id,
            claimed.audience,
            target.routing_name or target.partner_id,
            notification.event_type.removeprefix("exports."),
        ),
        body=build_cloud_event(runtime.settings, notification, claimed.trace, holder=target.partner_id),
        export_id=notification.export_id or "",
        plan_id=notification.plan_id,
        thread=_find_thread(notification) if channel.read_by_people else None,
        attachments=attachments,
        email_body=content.build_email_body(
            runtime.settings, notification, attachments, sent_at=now, revoked=target.reply_links_revoked
        )
        if channel.read_by_people
        else None,
        trace=claimed.trace,
    )


def _find_thread(notification: Notification) -> str:
    """Return the id that begins the e-mail thread of a message: that of its handoff, or of its export or plan."""
    data = json.loads(notification.data)
    if notification.audience != BROKER or "submissionId" not in data:
        return notification.export_id or notification.plan_id or ""
    return derive_notification_id(
        data["exportId"], data["revision"], BROKER, MessageType.HANDOFF_READY, data["submissionId"]
    )


def _list_attachments(runtime: Runtime, notification: Notification, partner_id: str, now: datetime) -> list[Attachment]:
    """Return the documents of a handoff, those that its recipient wants, or the files of a message about it."""
    settings, holder = runtime.settings, links.partner_holder(partner_id)
    until = links.mail_link_expiry(settings, notification, now)
    named: list[tuple[str, ArtifactLink]] = []
    if notification.event_type == MessageType.HANDOFF_READY:
        ready = HandoffReady.model_validate_json(notification.data)
        named = [(f"{unit.package_number}/{link.filename}", link) for unit in ready.units for link in unit.artifacts]
    elif notification.event_type == MessageType.HANDOFF_REPLIED:
        files = HandoffReplied.model_validate_json(notification.data).attachments
        # Two files may have one name.
        named = [(f"{number}/{link.filename}", link) for number, link in enumerate(files, start=1)]
    return [
        Attachment(
            name=name,
            media_type=link.media_type,
            size=link.size,
            sha256=link.sha256,
            download_url=links.build_link_url(settings, notification.account_id, link.id, holder, until),
            read=partial(runtime.store.get, link.sha256),
        )
        for name, link in named
    ]


def build_cloud_event(
    settings: Settings, row: Notification, trace: TraceContext | None, *, holder: str | None = None
) -> bytes:
    """Return the notification as a CloudEvent 1.0 in structured JSON, the same bytes at each call.

    If `holder`, the receiving partner, is given, the event has links to its documents that work without a key.
    """
    data: dict[str, Any] = json.loads(row.data)
    if holder is not None and row.event_type in _WITH_FILES:
        data = links.add_signed_links(settings, row, holder, data)
    attributes: dict[str, Any] = {
        "id": row.id,
        "source": f"/accounts/{row.account_id}",
        "type": row.event_type,
        "specversion": "1.0",
        "subject": row.export_id or row.plan_id,
        "time": row.created_at,
        "datacontenttype": "application/json",
        "dataschema": f"{settings.public_url}/api/schemas/{row.event_type}.json",
    }
    if trace is not None:
        attributes |= trace.attributes
    return JSONFormat().write(CloudEvent(attributes, data))
