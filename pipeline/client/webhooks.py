"""Webhooks of the service, for their receivers: verifies the signature and parses the message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from pipeline.client.errors import InvalidWebhook
from pipeline.deliveries.schemas.cloudevent import SIGNATURE_HEADERS, CloudEventEnvelope
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, ConnectionTested, MessageType

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    **{kind.value: kind.model for kind in MessageType},
    CONNECTION_TEST: ConnectionTested,
}


@dataclass(frozen=True)
class Message:
    """A message of the service; dedupe by `id`.

    `data` is the typed message, such as HandoffReady. It is None for a type that this version does not know; then
    `event.data` has the facts as they came.
    """

    event: CloudEventEnvelope
    data: BaseModel | None

    @property
    def id(self) -> str:
        """The CloudEvent id, the same on every attempt and channel."""
        return self.event.id

    @property
    def type(self) -> str:
        """The CloudEvent type; ignore types that you do not know."""
        return self.event.type


def verify_webhook(body: bytes, headers: Mapping[str, str], secrets: str | Sequence[str]) -> Message:
    """Return the message of a webhook that one of the partner's secrets signed, at most five minutes ago.

    `body` must be the exact bytes as received, before parsing; the case of the headers' names does not matter. While a
    secret is being replaced, give both, the newer first. Raises InvalidWebhook, with the `status` to answer, and
    ValueError if a secret is not valid.
    """
    keys = [_parse_secret(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("secrets must not be empty; give the partner's signing secret")
    lower = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in SIGNATURE_HEADERS if not lower.get(name)]
    if missing:
        raise InvalidWebhook(f"the request is not signed: {', '.join(missing)} is missing", status=401)
    reasons = [reason for key in keys if (reason := _find_rejection(key, body, lower)) is not None]
    if len(reasons) == len(keys):
        raise InvalidWebhook(reasons[0], status=401)
    return read_message(body)


def read_message(body: bytes | str) -> Message:
    """Return the message in `body`, from a webhook or a queue; this does not verify the sender.

    Raises InvalidWebhook if it is not a CloudEvent of the service.
    """
    try:
        event = CloudEventEnvelope.model_validate_json(body)
        model = _MODELS.get(event.type)
        return Message(event, None if model is None else model.model_validate(event.data, extra="ignore"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"])) or "the body"
        raise InvalidWebhook(
            f"the body is not a message of the service: {where}: {first['msg']}", status=400
        ) from error


def _parse_secret(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except Exception as error:
        # The library raises various errors for malformed input.
        raise ValueError("a secret must be whsec_ and base64; give the partner's signing secret") from error


def _find_rejection(key: Webhook, body: bytes, headers: Mapping[str, str]) -> str | None:
    try:
        key.verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        text = str(error).lower()
        if "timestamp" not in text and "no matching" not in text:
            return "the webhook's signature cannot be read"
        if "timestamp" in text:
            return "the webhook was signed more than five minutes ago or ahead; check your clock"
        return "the webhook's signature does not fit its body; verify the exact bytes with the partner's newest secret"
    except Exception:  # noqa: BLE001 - the library raises various errors for a malformed header
        return "the webhook's signature cannot be read"
    return None
