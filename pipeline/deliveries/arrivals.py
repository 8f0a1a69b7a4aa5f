"""When the goods of a handoff arrive, in words."""

from datetime import UTC, datetime


def describe_arrival(arrives_at: datetime, *, arrived: bool) -> str:
    """Return when the goods of an overdue submission arrive, or that they arrived without a release."""
    at = f"{arrives_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"the goods arrived at {at}, no release" if arrived else f"the goods arrive at {at}"
