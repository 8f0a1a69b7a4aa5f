"""Webhooks as Standard Webhooks 1.0 describes them: the exact bytes are signed, anew at every attempt."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from standardwebhooks import Webhook

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.accounts.schemas import WebhookEndpoint
from pipeline.core.errors import ChannelRefused, InvalidApiKey
from pipeline.deliveries.channels.http_client import HttpSession, open_http_session
from pipeline.deliveries.channels.http_probe import Probe, ProbeResponse, expect_accepted, expect_refused, send_event
from pipeline.deliveries.channels.protocol import ChannelFactory, DeliveryReceipt, OutgoingMessage, Stage, run_stages

_JSON: Final = {"content-type": "application/cloudevents+json; charset=utf-8"}
_LONG_AGO: Final = timedelta(hours=1)

_SIGNATURE_REMEDY: Final = (
    "have it verify the exact bytes of the body with the secret that was shown for this partner, and check its clock"
)
_ROTATION_REMEDY: Final = "give the endpoint the newest secret too, before the older one ends"
_VERIFY_REMEDY: Final = "have it verify webhook-signature before anything else, and answer 401 where that does not fit"


class WebhookChannel:
    """Posts each message, signed with the partner's secret, to the partner's URL."""

    carries_documents = False
    read_by_people = False
    shared = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order; see Channel."""
        if not isinstance(target.endpoint, WebhookEndpoint) or not target.secrets:
            raise ChannelRefused("the webhook has no address or no secret; set the partner's channel again")
        with self._open_session() as session:
            for message in messages:
                headers = _JSON | build_signature_headers(message.id, message.body, *target.secrets)
                answer = session.post(target.endpoint.address, message.body, headers, before_send=target.check_lease)
                yield DeliveryReceipt(str(answer.status), answer.excerpt)

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Make the stages of a connection test; see Channel. An event that is not signed as it should be must be refused."""
        if not isinstance(target.endpoint, WebhookEndpoint) or not target.secrets:
            raise ChannelRefused("the webhook has no address or no secret; set the partner's channel again")
        address, body, newest = target.endpoint.address, message.body, target.secrets[0]

        def send(event_id: str, *secrets: str, at: datetime | None = None) -> ProbeResponse:
            return send_event(session, address, body, _JSON | build_signature_headers(event_id, body, *secrets, at=at))

        def send_old() -> str:
            answer = send(f"{message.id}-old", newest, at=datetime.now(UTC) - _LONG_AGO)
            if answer.accepted:
                return "it took an event that was signed an hour ago; refuse what is older than five minutes"
            return expect_refused(answer, "answer 401 to what is older than five minutes, and nothing else")

        # While an older secret still counts, the event above passes with either.
        replaced = [("newest secret alone", lambda: expect_accepted(send(message.id, newest), _ROTATION_REMEDY))]
        with self._open_session() as session, self._open_probe(address) as probe:
            yield from run_stages(
                [
                    *probe.stages(),
                    ("signed event", lambda: expect_accepted(send(message.id, *target.secrets), _SIGNATURE_REMEDY)),
                    *(replaced if len(target.secrets) > 1 else ()),
                    (
                        "wrongly signed event",
                        lambda: expect_refused(
                            send(f"{message.id}-forged", _generate_foreign_secret()), _VERIFY_REMEDY
                        ),
                    ),
                    ("old event", send_old),
                ]
            )

    def _open_session(self) -> AbstractContextManager[HttpSession]:
        settings = self._settings
        return open_http_session(
            private=settings.allow_private_destinations,
            seconds=settings.delivery_timeout_seconds,
            ports=settings.destination_ports,
        )

    def _open_probe(self, address: str) -> Probe:
        settings = self._settings
        return Probe(
            address,
            private=settings.allow_private_destinations,
            seconds=settings.delivery_timeout_seconds,
            ports=settings.destination_ports,
        )


CHANNEL: Final[ChannelFactory] = WebhookChannel

_SECONDS: Final = re.compile(r"[1-9][0-9]{0,11}")


def _generate_foreign_secret() -> str:
    return b64encode(secrets.token_bytes(32)).decode()


def build_signature_headers(message_id: str, body: bytes, *secrets: str, at: datetime | None = None) -> dict[str, str]:
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
    """Raise InvalidApiKey unless the three headers sign `body` with one of the secrets, at most five minutes from now.

    What waited in a queue or a folder may be older: it is checked without `timely`. Whoever has the secret and another clock
    is told that it is the clock.
    """
    # The library takes 1764000000.5 for 1764000000: one signature would have as many spellings, and a digest for each.
    if not _SECONDS.fullmatch(headers.get("webhook-timestamp", "")):
        raise invalid_signature()
    for secret in secrets:
        # A malformed header makes the library raise whatever it trips over, not only its own error.
        with suppress(Exception):
            if timely:
                Webhook(secret).verify(body, dict(headers), json_parse=False)
                return
            moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            expected = build_signature_headers(headers["webhook-id"], body, secret, at=moment)["webhook-signature"]
            if any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split()):
                return
    if timely:
        check_signature(body, headers, secrets, timely=False)
        raise InvalidApiKey(
            f"webhook-timestamp {headers['webhook-timestamp']} is more than five minutes from now, "
            f"{int(datetime.now(UTC).timestamp())}; set your clock, and sign each request as it is sent"
        )
    raise invalid_signature()


def digest_signed(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of what the three headers sign: equal for a request that is repeated as it was."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
    return hashlib.sha256(signed + body).hexdigest()


def invalid_signature() -> InvalidApiKey:
    """Return the refusal of a body that no secret of the partner's signs."""
    return InvalidApiKey(
        "the Standard Webhooks signature does not fit the body; sign the exact bytes with the partner's secret"
    )
