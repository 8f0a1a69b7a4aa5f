"""The borderbuddy channel: handoffs over HTTPS in our published contract (docs/borderbuddy.md)."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.json_input import has_zero_character
from pipeline.deliveries.channels.http_client import HttpSession, open_http_session
from pipeline.deliveries.channels.http_probe import Probe, ProbeResponse, expect_accepted, expect_refused, send_event
from pipeline.deliveries.channels.protocol import (
    ChannelFactory,
    DeliveryReceipt,
    OutgoingMessage,
    Stage,
    excerpt,
    run_stages,
)
from pipeline.deliveries.schemas.answers import AcknowledgementBody, HandoffAnswer, HandoffStatus
from pipeline.deliveries.schemas.cloudevent import CONTENT_TYPE

M = TypeVar("M", bound=BaseModel)

#: The purpose from which the bearer token of the built-in sandbox broker is derived.
SANDBOX_TOKEN = "sandbox-broker"  # noqa: S105 - a purpose, not a token

_JSON: Final = {"content-type": CONTENT_TYPE}

_TOKEN: Final = "set EXPORTS_BORDERBUDDY_TOKEN to the token that the endpoint gave you"  # noqa: S105 - a remedy
_CHECK: Final = "make the endpoint check the bearer token first, and answer 401 if it is wrong"


class BorderBuddyChannel:
    """Posts each handoff to the configured endpoint. Handoffs of test exports and test partners go to the sandbox."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order. See Channel."""
        url, headers = self._endpoint(test=target.test)
        headers |= _JSON
        with self._open_session() as session:
            for message in messages:
                own = headers | message.trace_headers | {"idempotency-key": message.id}
                answer = session.post(url, message.body, own, before_send=target.check_lease)
                yield DeliveryReceipt(
                    str(answer.status), answer.excerpt, _parse_handoff(answer.body), exchange=answer.exchange
                )

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Run the stages of a connection test. See Channel. The endpoint must refuse an event with a wrong token."""
        url, headers = self._endpoint(test=target.test)
        headers |= _JSON
        foreign = {"authorization": f"Bearer {secrets.token_hex(32)}"}

        def send(event_id: str, more: dict[str, str]) -> ProbeResponse:
            return send_event(session, url, message.body, headers | {"idempotency-key": event_id} | more)

        seconds = self._settings.delivery_timeout_seconds
        with self._open_session() as session, Probe(url, private=True, seconds=seconds) as probe:
            yield from run_stages(
                [
                    *probe.stages(),
                    ("test event", lambda: expect_accepted(send(message.id, {}), _TOKEN)),
                    ("wrong token", lambda: expect_refused(send(f"{message.id}-forged", foreign), _CHECK)),
                ]
            )

    def fetch_answers(self, handoff_id: str, target: Target) -> Sequence[AcknowledgementBody]:
        """Return all answers of the endpoint to the handoff so far.

        Raises ChannelUnavailable or ChannelRefused if the endpoint does not give them.
        """
        url, headers = self._endpoint(test=target.test)
        with self._open_session() as session:
            answer = session.get(f"{url.rstrip('/')}/{quote(handoff_id, safe='')}", headers)
        status = _parse_contract(HandoffStatus, answer.body)
        if status.handoff_id != handoff_id:
            raise ChannelUnavailable("the endpoint answered about another handoff than the requested one")
        return status.answers

    def _endpoint(self, *, test: bool) -> tuple[str, dict[str, str]]:
        url = self._settings.borderbuddy_sandbox if test else self._settings.borderbuddy_url
        if url is None:
            raise ChannelUnavailable("no endpoint is configured for live handoffs; set EXPORTS_BORDERBUDDY_URL")
        token = self._token(test=test)
        return url, {"accept": "application/json"} | ({} if token is None else {"authorization": f"Bearer {token}"})

    def _open_session(self) -> AbstractContextManager[HttpSession]:
        # The installation's operator sets this address, not a tenant. So it may be in a private network.
        return open_http_session(private=True, seconds=self._settings.delivery_timeout_seconds, own=True)

    def _token(self, *, test: bool) -> str | None:
        if test and self._settings.borderbuddy_sandbox_url is None:
            return SecretBox(self._settings.secret_key).token(SANDBOX_TOKEN)
        token = self._settings.borderbuddy_token
        return None if token is None else token.get_secret_value()


CHANNEL: Final[ChannelFactory] = BorderBuddyChannel


def _parse_handoff(body: bytes) -> HandoffAnswer | None:
    return _parse_contract(HandoffAnswer, body) if body.strip() else None


def _parse_contract(model: type[M], body: bytes) -> M:
    if has_zero_character(body):
        raise ChannelUnavailable(
            "the endpoint's answer contains a zero character, which is not allowed", answer=excerpt(body)
        )
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ChannelUnavailable(
            f"the endpoint's answer does not follow the contract: {error.error_count()} invalid fields",
            answer=excerpt(body),
        ) from error
