"""The borderbuddy path: handoffs over HTTPS in our own published contract (docs/borderbuddy.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from config.settings import Settings
from pipeline.channels.channel import OutgoingMessage, Receipt, Target, excerpt
from pipeline.channels.post import open_poster
from pipeline.errors import ChannelUnavailable
from pipeline.schemas.messages import HandoffAnswer
from pipeline.secretbox import SecretBox

#: What the bearer token of the built-in sandbox broker is derived for.
SANDBOX_TOKEN = "sandbox-broker"  # noqa: S105 - a purpose, not a token


class BorderBuddyChannel:
    """Posts each handoff to the configured endpoint, that of test exports and test partners to the sandbox."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[Receipt]:
        """Send the messages in order; see Channel."""
        settings = self._settings
        url = settings.borderbuddy_sandbox if target.test else settings.borderbuddy_url
        if url is None:
            raise ChannelUnavailable("no endpoint is configured for live handoffs; set EXPORTS_BORDERBUDDY_URL")
        headers = {"content-type": "application/cloudevents+json; charset=utf-8", "accept": "application/json"}
        token = self._token(test=target.test)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        # The address comes from whoever runs the installation, not from a tenant: it may lie in a private network.
        with open_poster(private=True, seconds=settings.delivery_timeout_seconds) as poster:
            for message in messages:
                answer = poster.post(url, message.body, headers | {"idempotency-key": message.id})
                yield Receipt(str(answer.status), excerpt(answer.body), _handoff(answer.body))

    def _token(self, *, test: bool) -> str | None:
        if test and self._settings.borderbuddy_sandbox_url is None:
            return SecretBox(self._settings.secret_key).token(SANDBOX_TOKEN)
        token = self._settings.borderbuddy_token
        return None if token is None else token.get_secret_value()


def _handoff(body: bytes) -> HandoffAnswer | None:
    if not body.strip():
        return None
    try:
        return HandoffAnswer.model_validate_json(body)
    except ValidationError as error:
        raise ChannelUnavailable(
            f"the endpoint's answer is not of the contract: {error.error_count()} invalid fields", answer=excerpt(body)
        ) from error
