"""The headers of a Standard Webhooks signature, for a request or message of a customs broker."""

from __future__ import annotations

from datetime import UTC, datetime

from standardwebhooks import Webhook


def sign(body: str, secret: str, message_id: str) -> dict[str, str]:
    """Return the headers that sign the exact body now."""
    now = datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
