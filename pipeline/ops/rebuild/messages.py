"""An export's messages, compared with their digests in the log; attempts decide the states of deliveries."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.deliveries.entries.facets import summarize_entries
from pipeline.deliveries.models import Attempt, BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox.outbox import messages_digest
from pipeline.deliveries.outcomes import derive_outcome
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.documents.repository import PURGED
from pipeline.exports.models import Export
from pipeline.exports.states import DeliveryState, InboxState, SubmissionState
from pipeline.ops.raw_rows import MALFORMED, UNREADABLE, row_values
from pipeline.ops.rebuild.history import EnqueuedMessages, ExportHistory
from pipeline.ops.rebuild.projections import ExpectedRow


@dataclass(frozen=True)
class MessageRows:
    """The stored messages of an export: notifications in order, deliveries, the attempts of each, and the submissions."""

    notifications: Sequence[Notification]
    deliveries: Sequence[Delivery]
    attempts: Mapping[str, Sequence[Attempt]]
    submissions: Sequence[BrokerSubmission] = ()


@dataclass(frozen=True)
class MessageBatch:
    """The messages that one event of the log records."""

    enqueued: EnqueuedMessages
    first_position: int  # position of its first message
    notifications: Sequence[Notification]
    deliveries: Sequence[Delivery]
    purged: bool = False

    @property
    def intact(self) -> bool:
        """Whether each message and its recipients are unchanged; for purged messages, whether their number is right."""
        if self.purged:
            return len(self.notifications) == self.enqueued.notifications
        try:
            return (
                messages_digest(list(map(row_values, self.notifications)), list(map(row_values, self.deliveries)))
                == self.enqueued.digest
            )
        except MALFORMED:  # unreadable data has no digest
            return False


def message_batches(history: ExportHistory, rows: MessageRows) -> list[MessageBatch]:
    """Return the message batches of the log in order; messages after the last one are added to it, so it is not intact.

    If a batch has one message too many and fits its digest without it, that message is in no batch.
    """
    by_notification: dict[str, list[Delivery]] = defaultdict(list)
    for row in rows.deliveries:
        by_notification[row.notification_id].append(row)
    batches, first = [], 1
    for each in history.enqueued:
        following = first + each.notifications
        last = each is history.enqueued[-1]
        notifications = [
            row for row in rows.notifications if _is_in_batch(row.position, first, None if last else following)
        ]
        deliveries = [delivery for row in notifications for delivery in by_notification[row.id]]
        batches.append(
            _without_surplus_message(
                MessageBatch(each, first, notifications, deliveries, purged=history.purged_at is not None)
            )
        )
        first = following
    return batches


def _without_surplus_message(batch: MessageBatch) -> MessageBatch:
    if batch.purged or len(batch.notifications) != batch.enqueued.notifications + 1:
        return batch
    for added in batch.notifications:
        rest = replace(
            batch,
            notifications=[row for row in batch.notifications if row is not added],
            deliveries=[row for row in batch.deliveries if row.notification_id != added.id],
        )
        if rest.intact:
            return rest
    return batch


def _is_in_batch(position: Any, first: int, following: int | None) -> bool:
    if not isinstance(position, int):  # unreadable, so it cannot be assigned to another batch
        return following is None
    return bool(first <= position and (following is None or position < following))


def expected_message_rows(history: ExportHistory, message_rows: MessageRows, account_id: str) -> Iterator[ExpectedRow]:
    """Yield for each message its owner, and for each delivery and the submission its possible states."""
    for batch in message_batches(history, message_rows):
        notifications = {row.id: row for row in batch.notifications}
        purged = {"data": PURGED} if batch.purged else {}
        yield from (
            ExpectedRow(Notification, {"id": name}, {"account_id": account_id, **purged}) for name in notifications
        )
        for delivery in batch.deliveries:
            yield _expected_delivery(
                history, delivery, notifications[delivery.notification_id], message_rows, batch.enqueued, account_id
            )
    if history.handed_off is not None:
        yield _expected_submission(history, message_rows, history.handed_off)


def _expected_delivery(
    history: ExportHistory,
    row: Delivery,
    notification: Notification,
    message_rows: MessageRows,
    enqueued: EnqueuedMessages,
    account_id: str,
) -> ExpectedRow:
    attempts = message_rows.attempts.get(row.id, ())
    delivered = [each for each in attempts if each.outcome == "delivered"]
    states = _possible_states(history, row, notification.event_type, attempts, enqueued)
    values = {
        "attempts": len(attempts),
        "account_id": account_id,
        "audience": notification.audience,
        "position": notification.position,
    }
    return ExpectedRow(
        Delivery,
        {"id": row.id},
        {name: value for name, value in values.items() if value is not UNREADABLE},
        {"state": tuple(state.value for state in states), "inbox": _possible_inboxes(history, states)},
        {"delivered_at": delivered[-1].at if delivered else None},
    )


def _possible_inboxes(history: ExportHistory, states: Sequence[DeliveryState]) -> tuple[InboxState, ...]:
    """Return for each possible state of a delivery if it can be in the inbox. Only dead letters are ever closed there."""
    each = (history.dead_letter_inbox if state is DeliveryState.DEAD else InboxState.OPEN for state in states)
    return tuple(dict.fromkeys(each))


def _possible_states(
    history: ExportHistory, row: Delivery, event_type: str, attempts: Sequence[Attempt], enqueued: EnqueuedMessages
) -> tuple[DeliveryState, ...]:
    last = attempts[-1] if attempts else None
    dead_letter_seq = max((seq for seq, data in history.dead_letters if data["deliveryId"] == row.id), default=0)
    open_state = DeliveryState.PENDING
    if event_type == MessageType.EXPORT_EXECUTED and not history.executed:
        open_state = DeliveryState.WAITING
    if history.unsent_cancelled_seq is not None and enqueued.seq < history.unsent_cancelled_seq:
        open_state = DeliveryState.CANCELLED
    unsent_cancelled_seq = history.unsent_cancelled_seq or 0
    replays = [
        (seq, at)
        for seq, at, data in history.replays
        if data.get("deliveryId", row.id) == row.id and data["partnerId"] == row.partner_id
    ]
    if last is not None and last.outcome == "delivered":
        settled = DeliveryState.DELIVERED
    elif dead_letter_seq:
        settled = DeliveryState.DEAD
    elif open_state is DeliveryState.CANCELLED and any(seq > unsent_cancelled_seq for seq, _ in replays):
        # Delivered once, sent again after its export was given up, and not delivered since.
        return (open_state, DeliveryState.PENDING)
    else:
        return (open_state,)
    # The log records dead letters and what followed. Of a delivered message only the times tell what followed.
    if settled is DeliveryState.DEAD:
        since = [seq for seq, _ in replays if seq > dead_letter_seq]
    else:
        since = [seq for seq, at in replays if last is None or at >= last.at]
    if not since:
        return (settled,)
    # A replay does not name each message, so this one may be unchanged. A message that was sent again after its export
    # was given up is pending all the same.
    pending = (DeliveryState.PENDING,) if max(since) > unsent_cancelled_seq else ()
    return (
        settled,
        *pending,
        *((open_state,) if min(since) < unsent_cancelled_seq or not unsent_cancelled_seq else ()),
    )


def _expected_submission(history: ExportHistory, message_rows: MessageRows, data: Mapping[str, Any]) -> ExpectedRow:
    handoffs = {row.id for row in message_rows.notifications if row.event_type == MessageType.HANDOFF_READY}
    stream = [
        row.id
        for row in message_rows.deliveries
        if row.notification_id in handoffs and (row.partner_id, row.channel) == (data["partnerId"], data["channel"])
    ]
    is_delivered = any(each.outcome == "delivered" for name in stream for each in message_rows.attempts.get(name, ()))
    dead_letter_seq = max((seq for seq, each in history.dead_letters if each["deliveryId"] in stream), default=0)
    is_replayed = any(
        seq > dead_letter_seq and each["partnerId"] == data["partnerId"] for seq, _, each in history.replays
    )
    states: tuple[SubmissionState, ...]
    # Once the customs broker has answered, the transport no longer changes the status.
    folded = summarize_entries(history.fold_entries().values(), withdrawing=history.withdrawal_seq is not None)
    if history.answers_count:
        states = (folded.state or SubmissionState.DELIVERED,)
    elif history.withdrawal:
        states = (SubmissionState(history.withdrawal["submissionStatus"]),)
    elif is_delivered:
        states = (folded.state or SubmissionState.DELIVERED,)
    elif dead_letter_seq:
        resent = (SubmissionState.PENDING, SubmissionState.SENT) if is_replayed else ()
        states = (SubmissionState.FAILED, *resent)
    else:
        states = (SubmissionState.PENDING, SubmissionState.SENT)
    return ExpectedRow(
        BrokerSubmission,
        {"id": data["submissionId"]},
        # Nothing but a missed deadline sets it, and every new status clears it.
        {} if history.may_be_overdue else {"overdue_at": None},
        {"state": tuple(state.value for state in states)},
    )


def expected_outcome(history: ExportHistory, rows: MessageRows, derived: Sequence[ExpectedRow]) -> ExpectedRow:
    """Return the export's outcome, by the log and the states that `derived` rows may have.

    Only whether a missed deadline still counts is read from the submission: a new status by a delivery is in no event.
    """
    deliveries = {row.id: row for row in rows.deliveries}
    submissions = {row.id: row for row in rows.submissions}
    handoff, overdue, undelivered = None, False, False
    for row in derived:
        if row.model is BrokerSubmission and "state" in row.allowed:
            now = submissions.get(row.key["id"])
            handoff = SubmissionState(_settle_state(row, now))
            # A repaired status has a new deadline.
            counts = now is not None and now.state == handoff and None not in (now.overdue_at, now.deadline_at)
            overdue = counts and history.may_be_overdue and history.purged_at is None
        elif row.model is Delivery and row.values.get("audience") == "warehouse":
            undelivered = undelivered or _settle_state(row, deliveries.get(row.key["id"])) == DeliveryState.DEAD
    outcome = derive_outcome(
        history.state, handoff, held=history.hold_seq is not None, undelivered=undelivered, overdue=overdue
    )
    return ExpectedRow(Export, {"id": history.export_id}, {"outcome": outcome.value})


def _settle_state(row: ExpectedRow, stored: Delivery | BrokerSubmission | None) -> str:
    """Return the stored state if the log allows it, else the one that a repair writes."""
    allowed: tuple[str, ...] = row.allowed["state"]
    return stored.state if stored is not None and stored.state in allowed else allowed[0]
