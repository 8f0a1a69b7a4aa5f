"""The filters of the pages' templates: each returns how a page says a value of the trade."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from pipeline.accounts import channels
from pipeline.accounts.channels import Endpoint, QueueEndpoint
from pipeline.accounts.schemas import PartnerView
from pipeline.core.text_safety import make_legible
from pipeline.deliveries.email.text import format_moment
from pipeline.deliveries.entries.facets import NEEDS_LOOK
from pipeline.deliveries.remedies import omit_command
from pipeline.deliveries.schemas.messages import describe_message_type
from pipeline.documents.registry import describe_kind
from pipeline.exports.field_text import name_field
from pipeline.exports.states import NEEDS_PERSON, Outcome, SubmissionState
from pipeline.interfaces.durations import format_countdown, format_duration
from pipeline.interfaces.event_text import count_noun, format_size
from pipeline.interfaces.pages.instants import format_instant

_GOOD_OUTCOMES: Final = frozenset({Outcome.ACCEPTED, Outcome.FILED, Outcome.RELEASED})
_BUSY_OUTCOMES: Final = frozenset({Outcome.IN_PROGRESS, Outcome.WITH_BROKER, Outcome.WITHDRAWING})
_BAD_STATUSES: Final = frozenset({*NEEDS_LOOK, SubmissionState.FAILED, SubmissionState.NOT_WITHDRAWN})


def mark_outcome(outcome: Outcome) -> str:
    """Return the class of an outcome's colour."""
    if outcome in _GOOD_OUTCOMES:
        return "good"
    if outcome in NEEDS_PERSON:
        return "bad"
    return "busy" if outcome in _BUSY_OUTCOMES else "over"


def mark_status(status: str) -> str:
    """Return the class of the colour of a submission's status."""
    if status in _BAD_STATUSES:
        return "bad"
    return "good" if status in _GOOD_OUTCOMES else "busy"


def format_address(endpoint: Endpoint, partner: PartnerView) -> str:
    """Return the endpoint's address or addresses, or the binding key of a queue."""
    if isinstance(endpoint, QueueEndpoint):
        return f"bind its own queue with {partner.queue_binding}"
    return channels.format_address(endpoint)


def count_down(at: datetime, now: datetime) -> str:
    """Return the time left or passed, such as `due in 3 h 12 min`. A script of the browser then counts on, in minutes."""
    seconds = (at - now).total_seconds()
    return f"due in {format_countdown(seconds)}" if seconds > 0 else f"overdue for {format_countdown(-seconds)}"


def subtract_lead(at: datetime | None, ahead: timedelta) -> datetime | None:
    """Return the real instant of one by a clock that is `ahead`; None if there is none."""
    return None if at is None else at - ahead


def describe_lead(ahead: timedelta) -> str:
    """Return by how much a clock is ahead, such as `3 d 2 h`."""
    return format_countdown(ahead.total_seconds())


def format_words(name: str) -> str:
    """Return a name of the code as words."""
    return name.replace("_", " ")


def _format_number(number: int) -> str:
    return f"{number:,}"


FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    "address": format_address,
    "count_down": count_down,
    "countdown": format_countdown,
    "lead": describe_lead,
    "real_time": subtract_lead,
    "counted": count_noun,
    "document_kind": describe_kind,
    "duration": format_duration,
    "field": name_field,
    "legible": make_legible,
    "instant": format_instant,
    "moment": format_moment,
    "outcome_mark": mark_outcome,
    "status_mark": mark_status,
    "message_type": describe_message_type,
    "number": _format_number,
    "size": format_size,
    "without_command": omit_command,
    "words": format_words,
}
