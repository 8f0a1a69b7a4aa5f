"""The borderbuddy path: handoffs over HTTPS in our own published contract (docs/borderbuddy.md)."""

from __future__ import annotations

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
from pipeline.deliveries.channels.http_client import Poster, open_poster
from pipeline.deliveries.channels.http_probe import Probe, Said, ask, refused, taken
from pipeline.deliveries.channels.protocol import Opens, OutgoingMessage, Receipt, Stage, excerpt, run
from pipeline.deliveries.schemas.messages import AcknowledgementBody, HandoffAnswer, HandoffStatus

M = TypeVar("M", bound=BaseModel)

#: What the bearer token of the built-in sandbox broker is derived for.
SANDBOX_TOKEN = "sandbox-broker"  # noqa: S105 - a purpose, not a token

_JSON: Final = {"content-type": "application/cloudevents+json; charset=utf-8"}

_TOKEN: Final = "set EXPORTS_BORDERBUDDY_TOKEN to the token that the endpoint gave you"  # noqa: S105 - no token either
_CHECK: Final = "have the endpoint check the bearer token before anything else, and answer 401 where it is another"


class BorderBuddyChannel:
    """Posts each handoff to the configured endpoint, that of test exports and test partners to the sandbox."""

    carries_documents = False
    read_by_people = False
    shared = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[Receipt]:
        """Send the messages in order; see Channel."""
        url, headers = self._endpoint(test=target.test)
        headers |= _JSON
        with self._poster() as poster:
            for message in messages:
                own = headers | {"idempotency-key": message.id}
                answer = poster.post(url, message.body, own, before=target.check_lease)
                yield Receipt(str(answer.status), answer.said, _handoff(answer.body))

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Make the stages of a connection test; see Channel. An event with another token must be refused."""
        url, headers = self._endpoint(test=target.test)
        headers |= _JSON
        foreign = {"authorization": f"Bearer {secrets.token_hex(32)}"}

        def said(event_id: str, more: dict[str, str]) -> Said:
            return ask(poster, url, message.body, headers | {"idempotency-key": event_id} | more)

        seconds = self._settings.delivery_timeout_seconds
        with self._poster() as poster, Probe(url, private=True, seconds=seconds) as probe:
            yield from run(
                [
                    *probe.stages(),
                    ("test event", lambda: taken(said(message.id, {}), _TOKEN)),
                    ("wrong token", lambda: refused(said(f"{message.id}-forged", foreign), _CHECK)),
                ]
            )

    def answers(self, handoff_id: str, target: Target) -> Sequence[AcknowledgementBody]:
        """Return all that the endpoint has answered to the handoff so far.

        Raises ChannelUnavailable or ChannelRefused where it does not say.
        """
        url, headers = self._endpoint(test=target.test)
        with self._poster() as poster:
            answer = poster.get(f"{url.rstrip('/')}/{quote(handoff_id, safe='')}", headers)
        status = _of_contract(HandoffStatus, answer.body)
        if status.handoff_id != handoff_id:
            raise ChannelUnavailable("the endpoint told of another handoff than it was asked about")
        return status.answers

    def _endpoint(self, *, test: bool) -> tuple[str, dict[str, str]]:
        url = self._settings.borderbuddy_sandbox if test else self._settings.borderbuddy_url
        if url is None:
            raise ChannelUnavailable("no endpoint is configured for live handoffs; set EXPORTS_BORDERBUDDY_URL")
        token = self._token(test=test)
        return url, {"accept": "application/json"} | ({} if token is None else {"authorization": f"Bearer {token}"})

    def _poster(self) -> AbstractContextManager[Poster]:
        # The address comes from whoever runs the installation, not from a tenant: it may lie in a private network.
        return open_poster(private=True, seconds=self._settings.delivery_timeout_seconds, own=True)

    def _token(self, *, test: bool) -> str | None:
        if test and self._settings.borderbuddy_sandbox_url is None:
            return SecretBox(self._settings.secret_key).token(SANDBOX_TOKEN)
        token = self._settings.borderbuddy_token
        return None if token is None else token.get_secret_value()


CHANNEL: Final[Opens] = BorderBuddyChannel


def _handoff(body: bytes) -> HandoffAnswer | None:
    return _of_contract(HandoffAnswer, body) if body.strip() else None


def _of_contract(model: type[M], body: bytes) -> M:
    if has_zero_character(body):
        raise ChannelUnavailable(
            "the endpoint's answer holds a zero character, which no text may", answer=excerpt(body)
        )
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ChannelUnavailable(
            f"the endpoint's answer is not of the contract: {error.error_count()} invalid fields", answer=excerpt(body)
        ) from error
