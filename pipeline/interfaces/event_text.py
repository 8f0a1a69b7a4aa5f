"""The events of an export as sentences, for pages and terminals."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from pipeline.deliveries.arrivals import describe_arrival
from pipeline.deliveries.entries.facets import NEEDS_LOOK
from pipeline.exports.schemas.export import EventView

GOOD, BAD, NEUTRAL, ATTENTION = "✓", "✗", "·", "!"

_Facts = Mapping[str, Any]


def describe_event(event: EventView) -> tuple[str, str]:
    """Return the mark of the event and its sentence, without an end."""
    mark, words = _DESCRIPTIONS.get(event.type, (NEUTRAL, event.type.replace("_", " ").lower()))
    if event.type == "BROKER_ACKNOWLEDGED" and event.data.get("status") in NEEDS_LOOK:
        mark = ATTENTION
    text = words if isinstance(words, str) else words(event.data)
    return mark, text if callable(words) else text + _describe_reason(event.data)


def _describe_packages(data: _Facts) -> str:
    number = f" in {data['packageNumber']}" if data.get("packageNumber") else ""
    return f"{count_noun(int(data.get('packages', 0)), 'package')} recorded{number}"


def _describe_notified(audience: str) -> Callable[[_Facts], str]:
    def describe(data: _Facts) -> str:
        sent = f": {count_noun(int(data['messages']), 'message')}" if data.get("messages") else ""
        return f"{audience} {data.get('partnerId', '')} notified{sent}"

    return describe


def _describe_answer(data: _Facts) -> str:
    reason = f" ({data['message']})" if data.get("message") else ""
    packages = "".join(f" {number}" for number in data.get("customsPackageNumbers", ()))
    return f"customs broker answered{packages}: {str(data.get('status')).replace('_', ' ')}{reason}"


def _describe_overdue(data: _Facts) -> str:
    text = "customs broker has not answered in time"
    if "arrivesAt" not in data:
        return text
    arrival = describe_arrival(datetime.fromisoformat(data["arrivesAt"]), arrived="arrived" in data)
    return f"{text}; {arrival}"


def _describe_amendment(data: _Facts) -> str:
    if data.get("supersedes"):
        return f"revision {data.get('revision')}, supersedes {data['supersedes']}"
    return f"superseded by {data.get('supersededBy')}, revision {data.get('revision')}"


def _say_outcome(data: _Facts) -> str:
    return str(data.get("outcome", "")).replace("_", " ")


def _describe_note(data: _Facts) -> str:
    return f" ({data['note']})" if data.get("note") else ""


def _describe_reason(data: _Facts) -> str:
    return next((f": {data[key]}" for key in ("message", "reason") if data.get(key)), "")


_DESCRIPTIONS: Final[Mapping[str, tuple[str, str | Callable[[_Facts], str]]]] = {
    "EXPORT_ACCEPTED": (NEUTRAL, "accepted"),
    "EXPORT_BATCH_CREATED": (NEUTRAL, "batch created"),
    "EXPORT_PLANNED": (NEUTRAL, lambda data: f"planned from {count_noun(int(data.get('orders', 0)), 'order')}"),
    "PACKAGES_RECORDED": (GOOD, _describe_packages),
    "TREATMENT_ATTACHED": (
        GOOD,
        lambda data: f"customs treatment attached to {count_noun(int(data.get('lines', 0)), 'line')}",
    ),
    "CUSTOMS_ARTIFACT_GENERATED": (GOOD, lambda data: f"document {data.get('filename', '')} rendered"),
    "CUSTOMS_PACKAGE_CLOSED": (GOOD, "customs package closed"),
    "HANDED_OFF": (GOOD, lambda data: f"handed off to {data.get('partnerId', 'the customs broker')}"),
    "BROKER_NOTIFIED": (GOOD, _describe_notified("customs broker")),
    "WAREHOUSE_NOTIFIED": (GOOD, _describe_notified("warehouse")),
    "OPERATOR_NOTIFIED": (GOOD, _describe_notified("operator")),
    "UPSTREAM_NOTIFIED": (GOOD, _describe_notified("upstream service")),
    "BROKER_ACKNOWLEDGED": (GOOD, _describe_answer),
    "BROKER_RELEASED": (GOOD, _describe_answer),
    "BROKER_REJECTED": (ATTENTION, _describe_answer),
    "BROKER_QUERIED": (ATTENTION, _describe_answer),
    "BROKER_ANSWER_CARRIED": (
        NEUTRAL,
        lambda data: f"revision {str(data.get('id')).partition('~')[0]}: {_describe_answer(data)}",
    ),
    "MESSAGE_WRITTEN": (NEUTRAL, lambda data: f"message to the customs broker: {data.get('text', '')}"),
    "FILE_ATTACHED": (
        NEUTRAL,
        lambda data: f"file {data.get('filename', '')} from {data.get('partnerId', 'the exporter')}",
    ),
    "EXPORT_EXECUTED": (GOOD, "executed"),
    "EXPORT_FAILED": (
        BAD,
        lambda data: f"{'quarantined' if data.get('quarantined') else 'failed'}{_describe_reason(data)}",
    ),
    "EXPORT_CANCELLED": (BAD, "cancelled"),
    "HANDOFF_HELD": (ATTENTION, "handoff held"),
    "HANDOFF_HOLD_RELEASED": (NEUTRAL, "hold of the handoff released"),
    "EXPORT_WITHDRAWAL_REQUESTED": (ATTENTION, "withdrawal requested"),
    "EXPORT_AMENDED": (NEUTRAL, _describe_amendment),
    "STEP_RETRIED": (
        ATTENTION,
        lambda data: f"{data.get('step')} will be retried after attempt {data.get('attempt')}{_describe_reason(data)}",
    ),
    "DELIVERY_FAILED": (ATTENTION, "delivery failed"),
    "DELIVERY_DEAD": (BAD, "delivery given up"),
    "DELIVERY_RESENT": (NEUTRAL, lambda data: f"message to {data.get('partnerId', 'a partner')} resent"),
    "EXPORT_RESUMED": (NEUTRAL, "resumed"),
    "EXPORT_PURGED": (NEUTRAL, "purged after the retention period"),
    "ROWS_RESTORED": (NEUTRAL, "rows restored from the log"),
    "OUTCOME_ACKNOWLEDGED": (NEUTRAL, lambda data: f"acknowledged: {_say_outcome(data)}{_describe_note(data)}"),
    "OUTCOME_REOPENED": (NEUTRAL, "no longer acknowledged"),
    "EXPORT_RECHECKED": (
        ATTENTION,
        lambda data: (
            f"new rules or editions: {data.get('appeared', 0)} findings appeared, {data.get('gone', 0)} are gone"
        ),
    ),
    "HANDOFF_OVERDUE": (ATTENTION, _describe_overdue),
    "SUMMARY_OVERDUE": (ATTENTION, lambda data: f"entry summary overdue: due {data.get('deadlineAt')}"),
}


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_size(size: int) -> str:
    """Return a size with its unit."""
    if size < 1000:
        return count_noun(size, "byte")
    kilobytes = (size + 500) // 1000
    return f"{kilobytes} kB" if kilobytes < 1000 else f"{size / 1_000_000:.1f} MB"
