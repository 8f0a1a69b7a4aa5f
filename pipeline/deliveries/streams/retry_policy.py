"""When a failed delivery is retried."""

import random

from config.settings import Settings
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, Terminal, WorkerLost
from pipeline.deliveries.streams.streams import ClaimedDelivery

#: Limits on the Retry-After of an endpoint.
MIN_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS = 1.0, 86_400.0


Failure = ChannelUnavailable | ChannelRefused | WorkerLost


def compute_retry_delay(settings: Settings, failing: ClaimedDelivery, failure: Failure) -> float | None:
    """Return the seconds until the next attempt, with full jitter, or None if the delivery is dead."""
    if isinstance(failure, Terminal) or failing.counted_attempts >= settings.delivery_retries:
        return None
    requested = failure.retry_after_seconds
    if requested is not None:
        return min(max(requested, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)
    return random.uniform(0, settings.delivery_schedule_seconds[failing.counted_attempts])  # noqa: S311 - spreads load, not a secret
