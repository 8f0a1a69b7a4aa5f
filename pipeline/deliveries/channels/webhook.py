"""The webhook channel, after Standard Webhooks 1.0: the exact bytes are signed again for each attempt."""

import secrets
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Final

from config.settings import Settings
from pipeline.accounts.channels import WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused
from pipeline.deliveries.channels.http_client import HttpSession, open_http_session
from pipeline.deliveries.channels.http_probe import Probe, ProbeResponse, expect_accepted, expect_refused, send_event
from pipeline.deliveries.channels.protocol import ChannelFactory, DeliveryReceipt, OutgoingMessage, Stage, run_stages
from pipeline.deliveries.schemas.cloudevent import CONTENT_TYPE
from pipeline.deliveries.submissions.signature import build_signature_headers

_JSON: Final = {"content-type": CONTENT_TYPE}
_LONG_AGO: Final = timedelta(hours=1)

_SIGNATURE_REMEDY: Final = "make it verify the exact bytes of the body with this partner's secret, and check its clock"
_ROTATION_REMEDY: Final = "add the newest secret to the endpoint before the older one ends"
_VERIFY_REMEDY: Final = "make it verify webhook-signature first, and answer 401 if it does not match"


class WebhookChannel:
    """Posts each message, signed with the partner's secret, to the partner's URL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order. See Channel."""
        if not isinstance(target.endpoint, WebhookEndpoint) or not target.secrets:
            raise ChannelRefused("the webhook has no address or secret; set the partner's channel again")
        with self._open_session() as session:
            for message in messages:
                signed = build_signature_headers(message.id, message.body, *target.secrets)
                headers = _JSON | message.trace_headers | signed
                answer = session.post(target.endpoint.address, message.body, headers, before_send=target.check_lease)
                yield DeliveryReceipt(str(answer.status), answer.excerpt, exchange=answer.exchange)

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Run the stages of a connection test. See Channel. The endpoint must refuse a wrongly signed event."""
        if not isinstance(target.endpoint, WebhookEndpoint) or not target.secrets:
            raise ChannelRefused("the webhook has no address or secret; set the partner's channel again")
        address, body, newest = target.endpoint.address, message.body, target.secrets[0]

        def send(event_id: str, *secrets: str, at: datetime | None = None) -> ProbeResponse:
            return send_event(session, address, body, _JSON | build_signature_headers(event_id, body, *secrets, at=at))

        def send_old() -> str:
            answer = send(f"{message.id}-old", newest, at=datetime.now(UTC) - _LONG_AGO)
            if answer.accepted:
                return "it took an event that was signed an hour ago; refuse events older than five minutes"
            return expect_refused(answer, "answer 401 to events older than five minutes, and nothing else")

        # While an older secret is valid, the signed event passes with either secret. So test the newest one separately.
        replaced = [("newest secret only", lambda: expect_accepted(send(message.id, newest), _ROTATION_REMEDY))]
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


def _generate_foreign_secret() -> str:
    return b64encode(secrets.token_bytes(32)).decode()
