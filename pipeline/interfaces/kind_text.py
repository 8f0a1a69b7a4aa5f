"""Types of messages in words, for pages."""

from __future__ import annotations

from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType


def describe_message_type(event_type: str) -> str:
    """Return the type of a message in words. A type that this version does not know is returned as it is."""
    if event_type == CONNECTION_TEST:
        return "Connection test"
    return next((each.label for each in MessageType if each == event_type), event_type)
