"""Signed texts: what a signature holds for, and that it outlives its key's replacement."""

import pytest
from pydantic import SecretStr

from pipeline.core.encryption import SecretBox
from pipeline.core.signed_text import sign_text

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
