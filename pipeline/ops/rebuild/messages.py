"""What was told to whom: messages held to their digests in the log, deliveries and statuses to the tries that were made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.deliveries.models import Attempt, BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox import messages_digest
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.documents.repository import PURGED
from pipeline.exports.states import DeliveryState, SubmissionState
from pipeline.ops.raw_rows import MALFORMED, UNREADABLE, row_values
from pipeline.ops.rebuild.history import History, Told
from pipeline.ops.rebuild.projections import Row


@dataclass(frozen=True)
class Sayings:
    """What the tables hold of an export's messages: notifications in order, deliveries, and the tries of each."""

    notifications: Sequence[Notification]
    deliveries: Sequence[Delivery]
    attempts: Mapping[str, Sequence[Attempt]]


@dataclass(frozen=True)
class Stretch:
    """The messages that one event of the log speaks of, and whether they are what it says."""

    told: Told
    first: int  # position of its first message
    notifications: Sequence[Notification]
    deliveries: Sequence[Delivery]
    purged: bool = False

    @property
    def intact(self) -> bool:
        """Whether each message is as it was owed, and owed to whom it was; of purged ones, whether all are there."""
        if self.purged:
            return len(self.notifications) == self.told.notifications
        try:
            return (
                messages_digest(list(map(row_values, self.notifications)), list(map(row_values, self.deliveries)))
                == self.told.digest
            )
        except MALFORMED:  # what cannot be read has no digest
            return False


def stretches(told: History, sayings: Sayings) -> list[Stretch]:
    """Return the stretches of the log in order; what is beyond them is in the last, which then does not hold.

    A message is in none where a stretch has one too many and fits its digest without that one.
    """
    by_notification: dict[str, list[Delivery]] = defaultdict(list)
    for row in sayings.deliveries:
        by_notification[row.notification_id].append(row)
    found, first = [], 1
    for each in told.told:
        following = first + each.notifications
        last = each is told.told[-1]
        rows = [row for row in sayings.notifications if _between(row.position, first, None if last else following)]
        deliveries = [delivery for row in rows for delivery in by_notification[row.id]]
        found.append(_proven(Stretch(each, first, rows, deliveries, purged=told.purged_at is not None)))
        first = following
    return found


def _proven(found: Stretch) -> Stretch:
    if found.purged or len(found.notifications) != found.told.notifications + 1:
        return found
    for added in found.notifications:
        rest = replace(
            found,
            notifications=[row for row in found.notifications if row is not added],
            deliveries=[row for row in found.deliveries if row.notification_id != added.id],
        )
        if rest.intact:
            return rest
    return found


def _between(position: Any, first: int, following: int | None) -> bool:
    if not isinstance(position, int):  # it cannot be read: nor is it known of which stretch it is
        return following is None
    return bool(first <= position and (following is None or position < following))


def rows(told: History, sayings: Sayings, account_id: str) -> Iterator[Row]:
    """Yield whose each message is, and what state each delivery, and the submission to the customs broker, may be in."""
    for stretch in stretches(told, sayings):
        said = {row.id: row for row in stretch.notifications}
        purged = {"data": PURGED} if stretch.purged else {}
        yield from (Row(Notification, {"id": name}, {"account_id": account_id, **purged}) for name in said)
        for delivery in stretch.deliveries:
            yield _delivery(told, delivery, said[delivery.notification_id], sayings, stretch.told, account_id)
    if told.handed_off is not None:
        yield _submission(told, sayings, told.handed_off)


def _delivery(
    told: History, row: Delivery, said: Notification, sayings: Sayings, owed_by: Told, account_id: str
) -> Row:
    tries = sayings.attempts.get(row.id, ())
    taken = [each for each in tries if each.outcome == "delivered"]
    states = _states(told, row, said.event_type, tries, owed_by)
    holds = {"attempts": len(tries), "account_id": account_id, "audience": said.audience, "position": said.position}
    return Row(
        Delivery,
        {"id": row.id},
        {name: value for name, value in holds.items() if value is not UNREADABLE},
        {"state": tuple(state.value for state in states)},
        {"delivered_at": taken[-1].at if taken else None},
    )


def _states(
    told: History, row: Delivery, event_type: str, tries: Sequence[Attempt], owed_by: Told
) -> tuple[DeliveryState, ...]:
    last = tries[-1] if tries else None
    dead = max((seq for seq, data in told.dead if data["deliveryId"] == row.id), default=0)
    open_state = DeliveryState.PENDING
    if event_type == MessageType.EXPORT_EXECUTED and not told.executed:
        open_state = DeliveryState.WAITING
    if told.given_up_seq is not None and owed_by.seq < told.given_up_seq:
        open_state = DeliveryState.CANCELLED
    given_up = told.given_up_seq or 0
    again = [
        (seq, at)
        for seq, at, data in told.resent
        if data.get("deliveryId", row.id) == row.id and data["partnerId"] == row.partner_id
    ]
    if last is not None and last.outcome == "delivered":
        settled = DeliveryState.DELIVERED
    elif dead:
        settled = DeliveryState.DEAD
    elif open_state is DeliveryState.CANCELLED and any(seq > given_up for seq, _ in again):
        # Taken once, sent again after its export was given up, and not taken since.
        return (open_state, DeliveryState.PENDING)
    else:
        return (open_state,)
    # That it was dead is in the log, and what came after it; that it was taken is told by time alone.
    if settled is DeliveryState.DEAD:
        since = [seq for seq, _ in again if seq > dead]
    else:
        since = [seq for seq, at in again if last is None or at >= last.at]
    if not since:
        return (settled,)
    # A replay does not name each message: it may be as it was. What is sent again after its export was given up is owed
    # all the same.
    owed = (DeliveryState.PENDING,) if max(since) > given_up else ()
    return (settled, *owed, *((open_state,) if min(since) < given_up or not given_up else ()))


def _submission(told: History, sayings: Sayings, data: Mapping[str, Any]) -> Row:
    answers = [each for _, each in told.answers if each["submissionId"] == data["submissionId"] and each["moved"]]
    handoffs = {row.id for row in sayings.notifications if row.event_type == MessageType.HANDOFF_READY}
    stream = [
        row.id
        for row in sayings.deliveries
        if row.notification_id in handoffs and (row.partner_id, row.channel) == (data["partnerId"], data["channel"])
    ]
    taken = any(each.outcome == "delivered" for name in stream for each in sayings.attempts.get(name, ()))
    dead = max((seq for seq, each in told.dead if each["deliveryId"] in stream), default=0)
    again = any(seq > dead and each["partnerId"] == data["partnerId"] for seq, _, each in told.resent)
    states: tuple[SubmissionState, ...]
    # Once the customs broker has answered, the transport moves nothing any more.
    if answers:
        states = (SubmissionState(answers[-1]["status"]),)
    elif taken:
        states = (SubmissionState.DELIVERED,)
    elif dead:
        resent = (SubmissionState.PENDING, SubmissionState.SENT) if again else ()
        states = (SubmissionState.FAILED, *resent)
    else:
        states = (SubmissionState.PENDING, SubmissionState.SENT)
    return Row(BrokerSubmission, {"id": data["submissionId"]}, may={"state": tuple(state.value for state in states)})
