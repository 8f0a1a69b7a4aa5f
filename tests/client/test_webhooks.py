"""Webhooks as their receivers verify them: what the service sends is believed, and nothing else."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.accounts.secrets import generate_secret
from pipeline.client import InvalidWebhook, read_message, verify_webhook
from pipeline.deliveries.channels.webhook import build_signature_headers
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MESSAGES, PackageRecorded
from pipeline.interfaces.contracts.examples.catalog import read_example

OLD, NEW = generate_secret(), generate_secret()
EVENT = read_example("exports.package.recorded.v1")
BODY = json.dumps(EVENT).encode()


def test_signed_message_is_read_by_its_type() -> None:
    message = verify_webhook(BODY, build_signature_headers(EVENT["id"], BODY, NEW), NEW)
    assert (message.id, message.type, message.event.subject) == (EVENT["id"], EVENT["type"], EVENT["subject"])
    assert isinstance(message.data, PackageRecorded)
    assert message.data.package_ref == EVENT["data"]["packageRef"]


@pytest.mark.parametrize("name", [*(kind.value for kind in MESSAGES), CONNECTION_TEST])
def test_every_message_has_a_type(name: str) -> None:
    message = read_message(json.dumps(read_example(name)))
    assert message.data is not None
    assert message.data.model_dump(mode="json", by_alias=True, exclude_unset=True) == read_example(name)["data"]


@pytest.mark.parametrize(
    ("signing", "known"),
    [
        ((OLD,), (NEW, OLD)),  # the service has yet to be given the new one
        ((NEW, OLD), (OLD,)),  # the receiver has
        ((NEW, OLD), (NEW,)),
        ((NEW,), (NEW, OLD)),
    ],
)
def test_either_secret_counts_while_one_is_being_replaced(signing: tuple[str, ...], known: tuple[str, ...]) -> None:
    assert verify_webhook(BODY, build_signature_headers("m", BODY, *signing), known).id == EVENT["id"]


def test_names_of_headers_may_have_any_case() -> None:
    headers = {name.title(): value for name, value in build_signature_headers("m", BODY, NEW).items()}
    assert verify_webhook(BODY, headers, NEW).id == EVENT["id"]


def change_headers(**headers: str | None) -> dict[str, str]:
    made: dict[str, str | None] = {**build_signature_headers("m", BODY, NEW)}
    made |= {name.replace("_", "-"): value for name, value in headers.items()}
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda: change_headers(webhook_signature=None), "webhook-signature is missing"),
        (lambda: change_headers(webhook_id=""), "webhook-id is missing"),
        (dict, "webhook-id, webhook-timestamp, webhook-signature is missing"),
        (lambda: build_signature_headers("m", BODY, OLD), "no signature of the webhook fits"),
        (lambda: build_signature_headers("m", BODY + b" ", NEW), "no signature of the webhook fits"),
        (lambda: change_headers(webhook_id="other"), "no signature of the webhook fits"),
        (lambda: change_headers(webhook_signature="v1a,abc"), "no signature of the webhook fits"),
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
def test_what_is_not_signed_as_it_should_be_is_refused(headers: Callable[[], dict[str, str]], reason: str) -> None:
    with pytest.raises(InvalidWebhook, match=reason) as refused:
        verify_webhook(BODY, headers(), NEW)
    assert refused.value.status == 401


def test_nothing_is_read_before_it_is_believed() -> None:
    with pytest.raises(InvalidWebhook) as refused:
        verify_webhook(b"\xff{", build_signature_headers("m", b"{", OLD), NEW)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"id": "x"}', json.dumps({**EVENT, "data": {}}).encode(), b'{"specversion": "2.0"}']
)
def test_signed_body_that_is_no_message_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(InvalidWebhook, match="is no message of the service") as refused:
        verify_webhook(body, build_signature_headers("m", body, NEW), NEW)
    assert refused.value.status == 400


def test_message_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    later = {**EVENT, "unheardof": "1", "data": {**EVENT["data"], "unheardOf": {"a": 1}}}
    known = read_message(json.dumps(later))
    assert isinstance(known.data, PackageRecorded)
    unknown = read_message(json.dumps({**later, "type": "exports.package.weighed.v1"}))
    assert (unknown.data, unknown.event.data["unheardOf"]) == (None, {"a": 1})


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "not base64!"])
def test_wrong_secret_is_the_receivers_own_mistake(secret: str) -> None:
    with pytest.raises(ValueError, match="a secret is not what was shown"):
        verify_webhook(BODY, build_signature_headers("m", BODY, NEW), [NEW, secret])
    with pytest.raises(ValueError, match="no secret to verify with"):
        verify_webhook(BODY, build_signature_headers("m", BODY, NEW), [])


def test_secret_may_lack_the_prefix_and_the_padding() -> None:
    bare = b64encode(b"0123456789012345678901234").decode()
    assert verify_webhook(BODY, build_signature_headers("m", BODY, bare), bare.rstrip("=")).id == EVENT["id"]
