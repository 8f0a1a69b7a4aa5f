"""Webhooks as their receivers verify them: only messages of the service are accepted."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.accounts.secrets import generate_secret
from pipeline.client import InvalidWebhook, read_message, verify_webhook
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType
from pipeline.deliveries.schemas.to_warehouse import PackageRecorded
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.interfaces.contracts.examples.catalog import read_example

OLD, NEW = generate_secret(), generate_secret()
EVENT = read_example("exports.package.recorded.v1")
BODY = json.dumps(EVENT).encode()


def test_signed_message_is_parsed_by_its_type() -> None:
    message = verify_webhook(BODY, build_signature_headers(EVENT["id"], BODY, NEW), NEW)
    assert (message.id, message.type, message.event.subject) == (EVENT["id"], EVENT["type"], EVENT["subject"])
    assert isinstance(message.data, PackageRecorded)
    assert message.data.package_ref == EVENT["data"]["packageRef"]


@pytest.mark.parametrize("name", [*(kind.value for kind in MessageType), CONNECTION_TEST])
def test_every_message_has_a_type(name: str) -> None:
    message = read_message(json.dumps(read_example(name)))
    assert message.data is not None
    assert message.data.model_dump(mode="json", by_alias=True, exclude_unset=True) == read_example(name)["data"]


@pytest.mark.parametrize(
    ("signing", "known"),
    [
        ((OLD,), (NEW, OLD)),  # the service does not have the new one yet
        ((NEW, OLD), (OLD,)),  # the receiver does not have the new one yet
        ((NEW, OLD), (NEW,)),
        ((NEW,), (NEW, OLD)),
    ],
)
def test_both_secrets_are_valid_during_the_overlap(signing: tuple[str, ...], known: tuple[str, ...]) -> None:
    assert verify_webhook(BODY, build_signature_headers("m", BODY, *signing), known).id == EVENT["id"]


def test_header_names_may_have_any_case() -> None:
    headers = {name.title(): value for name, value in build_signature_headers("m", BODY, NEW).items()}
    assert verify_webhook(BODY, headers, NEW).id == EVENT["id"]


def change_headers(**headers: str | None) -> dict[str, str]:
    changed: dict[str, str | None] = {**build_signature_headers("m", BODY, NEW)}
    changed |= {name.replace("_", "-"): value for name, value in headers.items()}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda: change_headers(webhook_signature=None), "webhook-signature is missing"),
        (lambda: change_headers(webhook_id=""), "webhook-id is missing"),
        (dict, "webhook-id, webhook-timestamp, webhook-signature is missing"),
        (lambda: build_signature_headers("m", BODY, OLD), "the webhook's signature does not fit"),
        (lambda: build_signature_headers("m", BODY + b" ", NEW), "the webhook's signature does not fit"),
        (lambda: change_headers(webhook_id="other"), "the webhook's signature does not fit"),
        (lambda: change_headers(webhook_signature="v1a,abc"), "the webhook's signature does not fit"),
        (lambda: change_headers(webhook_signature="rubbish"), "cannot be read"),
        (lambda: change_headers(webhook_signature="v1,é"), "cannot be read"),
        (lambda: change_headers(webhook_timestamp="yesterday"), "cannot be read"),
        (lambda: change_headers(webhook_timestamp="nan"), "cannot be read"),
        (
            lambda: build_signature_headers("m", BODY, NEW, at=datetime.now(UTC) - timedelta(hours=1)),
            "more than five minutes ago or ahead",
        ),
        (
            lambda: build_signature_headers("m", BODY, NEW, at=datetime.now(UTC) + timedelta(hours=1)),
            "more than five minutes ago or ahead",
        ),
    ],
)
def test_invalid_signature_is_rejected(headers: Callable[[], dict[str, str]], reason: str) -> None:
    with pytest.raises(InvalidWebhook, match=reason) as refused:
        verify_webhook(BODY, headers(), NEW)
    assert refused.value.status == 401


def test_body_is_not_parsed_before_its_signature_is_verified() -> None:
    with pytest.raises(InvalidWebhook) as refused:
        verify_webhook(b"\xff{", build_signature_headers("m", b"{", OLD), NEW)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"id": "x"}', json.dumps({**EVENT, "data": {}}).encode(), b'{"specversion": "2.0"}']
)
def test_signed_body_without_a_message_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidWebhook, match="is not a message of the service") as refused:
        verify_webhook(body, build_signature_headers("m", body, NEW), NEW)
    assert refused.value.status == 400


def test_message_of_a_later_version_is_parsed_in_its_known_part() -> None:
    later = {**EVENT, "unheardof": "1", "data": {**EVENT["data"], "unheardOf": {"a": 1}}}
    known = read_message(json.dumps(later))
    assert isinstance(known.data, PackageRecorded)
    unknown = read_message(json.dumps({**later, "type": "exports.package.weighed.v1"}))
    assert (unknown.data, unknown.event.data["unheardOf"]) == (None, {"a": 1})


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "not base64!"])
def test_malformed_secret_raises_value_error(secret: str) -> None:
    with pytest.raises(ValueError, match="a secret must be whsec_"):
        verify_webhook(BODY, build_signature_headers("m", BODY, NEW), [NEW, secret])
    with pytest.raises(ValueError, match="secrets must not be empty"):
        verify_webhook(BODY, build_signature_headers("m", BODY, NEW), [])


def test_secret_may_lack_the_prefix_and_the_padding() -> None:
    bare = b64encode(b"0123456789012345678901234").decode()
    assert verify_webhook(BODY, build_signature_headers("m", BODY, bare), bare.rstrip("=")).id == EVENT["id"]
