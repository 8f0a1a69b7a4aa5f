"""Standard Webhooks signatures: the three headers of a signed body, and whether they sign it."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from pipeline.core.errors import InvalidApiKey

#: The seconds of a timestamp that the service reads.
SECONDS: Final = re.compile(r"[1-9][0-9]{0,11}")


def build_signature_headers(message_id: str, body: bytes, *secrets: str, at: datetime | None = None) -> dict[str, str]:
    """Return the three Standard Webhooks headers for `body`, with one signature per secret.

    `at` is the time of the attempt, by default now.
    """
    moment = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets),
    }


def check_signature(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], *, timely: bool = True) -> None:
    """Raise InvalidApiKey unless the three headers sign `body` with one of the secrets, at most five minutes from now.

    Answers from queues and folders may be older: check them with `timely=False`. If only the time is wrong, the error
    says so, because the signer has the secret.
    """
    # The library reads 1764000000.5 as 1764000000. Then one signature would have many spellings and digests.
    if not SECONDS.fullmatch(headers.get("webhook-timestamp", "")):
        raise invalid_signature()
    for secret in secrets:
        # A malformed header makes the library raise other errors than its own.
        with suppress(Exception):
            if timely:
                Webhook(secret).verify(body, dict(headers), json_parse=False)
                return
            if is_signed_by(body, headers, secret):
                return
    if timely:
        check_signature(body, headers, secrets, timely=False)
        raise InvalidApiKey(
            f"webhook-timestamp {headers['webhook-timestamp']} is more than five minutes from now, "
            f"{int(datetime.now(UTC).timestamp())}; set your clock, and sign each request when you send it"
        )
    raise invalid_signature()


def is_signed_by(body: bytes, headers: Mapping[str, str], secret: str) -> bool:
    """Return whether the three headers sign `body` with the secret, at any time. A malformed header raises any error."""
    moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    expected = build_signature_headers(headers["webhook-id"], body, secret, at=moment)["webhook-signature"]
    return any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split())


def digest_signed(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of what the three headers sign. A repeated request has the same digest."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
    return hashlib.sha256(signed + body).hexdigest()


def invalid_signature() -> InvalidApiKey:
    """Return the error for a body that no secret of the partner signs."""
    return InvalidApiKey(
        "the Standard Webhooks signature does not match the body; sign the exact bytes with the partner's secret"
    )
