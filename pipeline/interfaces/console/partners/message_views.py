"""Views of sent messages: the request and the response of each attempt, and what the body is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.queues import EXCHANGE_NAME
from pipeline.accounts.schemas import AttemptView, DeliveryView
from pipeline.interfaces.event_text import format_size

#: What the kind of a failure means; another kind is a defect, whose name helps.
_REASONS: Final = {
    "ChannelUnavailable": "not accepted",
    "ChannelRefused": "refused for good",
    "WorkerLost": "the worker process stopped",
}


@dataclass(frozen=True)
class ShownAttempt:
    """One attempt with its request and its response; `note` says what of them is not known."""

    attempt: AttemptView
    status: str
    method: str
    address: str
    sent: list[tuple[str, str]]
    received: list[tuple[str, str]]
    reason: str
    note: str


def describe_body(delivery: DeliveryView, body: bytes | None) -> str:
    """Return what the body of a message is, or why it is missing."""
    if body is None:
        return f"It was purged with its {'export' if delivery.plan_id is None else 'plan'} when the retention ended."
    return (
        f"{format_size(len(body))}, the same on every attempt. Partners get links to documents that need no key;"
        " they are not shown here."
    )


def show_attempts(delivery: DeliveryView, exchanges: Mapping[int, Mapping[str, Any]]) -> list[ShownAttempt]:
    """Return the attempts of a delivery for its page, the newest first."""
    return [_show_attempt(delivery.channel, each, exchanges.get(each.number, {})) for each in delivery.tries]


def _show_attempt(channel: str, attempt: AttemptView, exchange: Mapping[str, Any]) -> ShownAttempt:
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
        attempt,
        attempt.status if attempt.status and attempt.status not in _REASONS else "",
        method,
        address,
        sorted(exchange.get("sent", {}).items()),
        sorted(exchange.get("received", {}).items()),
        _REASONS.get(attempt.error_class or "", attempt.error_class or ""),
        note,
    )
