"""Webhooks as Standard Webhooks 1.0 describes them: the exact bytes are signed, anew at every attempt."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from standardwebhooks import Webhook

from config.settings import Settings
from pipeline.channels.channel import OutgoingMessage, Receipt, Target, excerpt
from pipeline.channels.post import open_poster
from pipeline.errors import ChannelRefused, InvalidApiKey
from pipeline.schemas.channels import WebhookWay


class WebhookChannel:
    """Posts each message, signed with the partner's secret, to the partner's URL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[Receipt]:
        """Send the messages in order; see Channel."""
        if not isinstance(target.way, WebhookWay) or not target.secrets:
            raise ChannelRefused("the webhook has no address or no secret; set the partner's channel again")
        settings = self._settings
        with open_poster(
            private=settings.allow_private_destinations,
            seconds=settings.delivery_timeout_seconds,
            ports=settings.destination_ports,
        ) as poster:
            for message in messages:
                headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
                headers |= signed(message.id, message.body, *target.secrets)
                answer = poster.post(target.way.address, message.body, headers)
                yield Receipt(str(answer.status), excerpt(answer.body))


def signed(message_id: str, body: bytes, *secrets: str, at: datetime | None = None) -> dict[str, str]:
    """Return the three Standard Webhooks headers for `body`, with a signature of each of `secrets`.

    `at` is the moment of the attempt, by default now.
    """
    moment = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets),
    }


def check_signature(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], *, timely: bool = True) -> None:
    """Raise InvalidApiKey unless the three headers sign `body` with one of the secrets, at most five minutes ago.

    What waited in a queue or a folder may be older: it is checked without `timely`.
    """
    for secret in secrets:
        # A malformed header makes the library raise whatever it trips over, not only its own error.
        with suppress(Exception):
            if timely:
                Webhook(secret).verify(body, dict(headers), json_parse=False)
                return
            moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            expected = signed(headers["webhook-id"], body, secret, at=moment)["webhook-signature"]
            if any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split()):
                return
    raise InvalidApiKey(
        "the Standard Webhooks signature does not fit the body; sign the exact bytes with the partner's secret"
    )
