"""Views of sent messages: the request and the response of each attempt, and the message's body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.queues import EXCHANGE_NAME
from pipeline.accounts.schemas import AttemptView, DeliveryView
from pipeline.deliveries.history import SentMessage
from pipeline.interfaces.event_text import format_size
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.previews import TreeNode, read_tree

#: What the kind of a failure means; another kind is a defect, whose name helps.
_REASONS: Final = {
    "ChannelUnavailable": "not accepted",
    "ChannelRefused": "refused for good",
    "WorkerLost": "the worker process stopped",
}


@dataclass(frozen=True)
class ShownAttempt:
    """One attempt: its request and its response; `note` says what of them is not known."""

    number: int
    outcome: str
    status: str
    took: str
    at: str
    method: str
    address: str
    sent: list[tuple[str, str]]
    received: list[tuple[str, str]]
    answer: str
    reason: str
    note: str
    opened: bool


@dataclass(frozen=True)
class ShownMessage:
    """A message's body as a tree, and its attempts; `body_note` says what the body is, or why it is missing."""

    body: TreeNode | None
    body_note: str
    attempts: list[ShownAttempt]


def show_message(delivery: DeliveryView, message: SentMessage) -> ShownMessage:
    """Return the message of a delivery for its page; the newest attempt comes first and is open."""
    return ShownMessage(
        None if message.body is None else read_tree(message.body),
        f"It was purged with its {'export' if delivery.plan_id is None else 'plan'} when the retention ended."
        if message.body is None
        else f"{format_size(len(message.body))}, the same on every attempt. Partners get links to documents that need no"
        " key; they are not shown here.",
        [
            _show_attempt(delivery.channel, each, message.exchanges.get(each.number, {}), opened=place == 0)
            for place, each in enumerate(delivery.tries)
        ],
    )


def _show_attempt(channel: str, attempt: AttemptView, exchange: Mapping[str, Any], *, opened: bool) -> ShownAttempt:
    note, method, address = "", exchange.get("method", channel), exchange.get("address", "")
    if not address:
        if channel == "queue":
            method, address = "publish", f"exchange {EXCHANGE_NAME}"
        else:
            note = "The request was not recorded."
    elif "sent" not in exchange:
        note = f"A message by {channel} has no headers that are recorded."
    elif "received" not in exchange:
        note = "There was no response."
    elif not exchange["received"]:
        note = "Headers from a private network are not shown."
    return ShownAttempt(
        attempt.number,
        attempt.outcome,
        attempt.status if attempt.status and attempt.status not in _REASONS else "",
        f"{attempt.duration_ms:,} ms",
        format_instant(attempt.at),
        method,
        address,
        sorted(exchange.get("sent", {}).items()),
        sorted(exchange.get("received", {}).items()),
        attempt.answer or "",
        _REASONS.get(attempt.error_class or "", attempt.error_class or ""),
        note,
        opened,
    )
