"""Signed texts: what a signature holds for, and that it outlives its key's replacement."""

import pytest
from pydantic import SecretStr

from pipeline.core.encryption import SecretBox
from pipeline.core.signed_text import decode_token, encode_token, sign_text

OLD, NEW = SecretStr("an old secret key of a test"), SecretStr("a new secret key of a test")


def test_signature_holds_until_its_key_is_no_longer_configured() -> None:
    signed = sign_text(SecretBox(OLD), "forms", b"text").newest
    assert sign_text(SecretBox(NEW, OLD), "forms", b"text").find_key(signed) == SecretBox(OLD).key_id
    assert sign_text(SecretBox(NEW, OLD), "forms", b"text").newest != signed
    assert sign_text(SecretBox(NEW), "forms", b"text").find_key(signed) is None


@pytest.mark.parametrize(("purpose", "text", "change"), [
    ("links", b"text", str), ("forms", b"texts", str), ("forms", b"text", str.upper),
    ("forms", b"text", lambda signed: signed[:-1]), ("forms", b"text", lambda signed: f"{signed} "),
    ("forms", b"text", lambda _: ""), ("forms", b"text", lambda _: "\u00e9\udc80"),
])  # fmt: skip
def test_signature_holds_for_its_purpose_and_text_alone(purpose: str, text: bytes, change: type[str]) -> None:
    box = SecretBox(OLD)
    assert sign_text(box, purpose, text).find_key(change(sign_text(box, "forms", b"text").newest)) is None


@pytest.mark.parametrize("payload", [b"", b"p", b"pp", b"ppp", b"\xff" * 100])
def test_token_returns_its_payload_under_each_configured_key(payload: bytes) -> None:
    token = encode_token(SecretBox(OLD), "links", payload)
    assert decode_token(SecretBox(NEW, OLD), "links", token) == payload
    assert decode_token(SecretBox(NEW), "links", token) is None
    assert decode_token(SecretBox(OLD), "forms", token) is None
    # Another last letter may decode to the same bytes.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = {token[:at] + each + token[at + 1 :] for at in range(len(token)) for each in letters} - {token}
    assert all(decode_token(SecretBox(OLD), "links", each) is None for each in spelled)


@pytest.mark.parametrize(
    "token", ["", "A", "A" * 21, "A" * 22, "A" * 25, "A" * 201, "\u00e9" * 24, "A" * 23 + "\n", "A" * 22 + "=="]
)
def test_text_that_is_not_a_token_has_no_payload(token: str) -> None:
    assert decode_token(SecretBox(OLD), "links", token) is None
