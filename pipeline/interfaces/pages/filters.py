"""The filters of the pages' templates: each returns how a page says a value of the trade."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pipeline.accounts import channels
from pipeline.accounts.channels import Endpoint, QueueEndpoint
from pipeline.accounts.schemas import PartnerView
from pipeline.deliveries.remedies import omit_command
from pipeline.interfaces.durations import format_duration
from pipeline.interfaces.event_text import count_noun, format_size
from pipeline.interfaces.kind_text import describe_document_kind, describe_message_type
from pipeline.interfaces.pages.instants import format_instant


def format_address(endpoint: Endpoint, partner: PartnerView) -> str:
    """Return the endpoint's address or addresses, or the binding key of a queue."""
    if isinstance(endpoint, QueueEndpoint):
        return f"bind its own queue with {partner.queue_binding}"
    return channels.format_address(endpoint)


def format_words(name: str) -> str:
    """Return a name of the code as words."""
    return name.replace("_", " ")


def _format_number(number: int) -> str:
    return f"{number:,}"


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "address": format_address,
    "counted": count_noun,
    "document_kind": describe_document_kind,
    "duration": format_duration,
    "instant": format_instant,
    "message_type": describe_message_type,
    "number": _format_number,
    "size": format_size,
    "without_command": omit_command,
    "words": format_words,
}
