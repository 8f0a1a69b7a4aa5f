"""Tests of redaction: secrets are hidden under every name, in every spelling and at every depth; the rest is unchanged."""

import time
from collections import UserDict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest
from pydantic import BaseModel

from config.redaction import HIDDEN, NAMES, hide_secrets, redact

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = "exp_live_7Yq3kPz9Wd_5sWn8RkT2vXcY4bGhJ6mLpQ9dFzA3eUtB7yNwK1xVoC5rSiHgM"
LINK: Final = "d" * 44
PORTAL: Final = "lnk_01kb2v5c9d8e7f6g5h4j3k2m1n"
PEM: Final = "-----BEGIN {0}-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nAAAA==\n-----END {0}-----"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        # Secrets of the service.
        (f"the key {KEY} was given", f"the key {HIDDEN} was given"),
        (f"?next=%20{KEY.replace('live', 'test')}&a=1", f"?next=%20{HIDDEN}&a=1"),
        ("signed by whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw= today", f"signed by {HIDDEN} today"),
        (f"https://maple.example/documents/{LINK}?x", f"https://maple.example/documents/{HIDDEN}?x"),
        (f"https://maple.example/answers/{LINK}", f"https://maple.example/answers/{HIDDEN}"),
        (f"https://maple.example/calendar/{LINK}.ics", f"https://maple.example/calendar/{HIDDEN}.ics"),
        (f"GET /console/links/{LINK} HTTP/1.1", f"GET /console/links/{HIDDEN} HTTP/1.1"),
        (f"https://maple.example/portal/open#{PORTAL}.{LINK}", f"https://maple.example/portal/open#{PORTAL}.{HIDDEN}"),
        # Keys in files.
        (f"read {PEM.format('RSA PRIVATE KEY')} of sftp", f"read {HIDDEN} of sftp"),
        (f"{PEM.format('OPENSSH PRIVATE KEY')!r}", f"'{HIDDEN}'"),
        (PEM.format("PRIVATE KEY")[:60], HIDDEN),
        # HTTP headers and signatures.
        ("sent Bearer abc.def-1", f"sent {HIDDEN}"),
        ("sent bearer\tabc.def-1", f"sent {HIDDEN}"),
        ("Authorization: Basic dTpw more\r\nAccept: */*", f"Authorization: {HIDDEN}\r\nAccept: */*"),
        ("Set-Cookie: a=b; Path=/\nX: y", f"Set-Cookie: {HIDDEN}\nX: y"),
        ("https://s3.example/a?X-Amz-Signature=ab12", f"https://s3.example/a?X-Amz-Signature={HIDDEN}"),
        ("https://az.example/a?sv=1&sig=ab%2F12&se=2", f"https://az.example/a?sv=1&sig={HIDDEN}&se=2"),
        # Credentials in addresses.
        ("postgresql://u:plain@h/db", f"postgresql://{HIDDEN}@h/db"),
        ("postgresql://u:pa/ss@h/db", f"postgresql://{HIDDEN}@h/db"),
        ("amqp://u:p@s:s?w#o/rd@h:5672// is down", f"amqp://{HIDDEN}@h:5672// is down"),
        ("redis://:pw@h/0", f"redis://{HIDDEN}@h/0"),
        ("postgresql://u@server:pw@h/db", f"postgresql://{HIDDEN}@h/db"),
        ("https://ghp_abc@git.example/x", f"https://{HIDDEN}@git.example/x"),
        # Values after their names.
        ("password=hunter2 for u", f"password={HIDDEN} for u"),
        ("PGPASSWORD=hunter2", f"PGPASSWORD={HIDDEN}"),
        ("postgresql://h/db?sslpassword=hunter2", f"postgresql://h/db?sslpassword={HIDDEN}"),
        ("AWS_SECRET_ACCESS_KEY=a/b+c", f"AWS_SECRET_ACCESS_KEY={HIDDEN}"),
        ("EXPORTS_SECRET_KEY = a1", f"EXPORTS_SECRET_KEY = {HIDDEN}"),
        ("passphrase: hunter2", f"passphrase: {HIDDEN}"),
        ("the client_secret: hunter2", f"the client_secret: {HIDDEN}"),
        ('{"apiKey":"hun ter2","a":1}', f'{{"apiKey":{HIDDEN},"a":1}}'),
        ("{'x-api-key': 'hun\\'ter2', 'a': 1}", f"{{'x-api-key': {HIDDEN}, 'a': 1}}"),
        (r'body "{\"token\":\"hun ter2\",\"a\":1}"', rf'body "{{\"token\":{HIDDEN},\"a\":1}}"'),
        ("Credentials(private_key=b'hun ter2', n=1)", f"Credentials(private_key={HIDDEN}, n=1)"),
        ('secret="never closed', f"secret={HIDDEN}"),
    ],
)
def test_secret_in_a_text_is_hidden_and_the_rest_kept(text: str, hidden: str) -> None:
    assert hide_secrets(text) == hidden
    assert hide_secrets(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "exp_01kb2v5c9d8e7f6g5h4j3k2m1n",
        "key_id=abcdefghij idempotency_key=order-run-481",
        "token_id=7 secret-hash=ab12 password_changed_at=2026-11-24",
        "jwt.InvalidToken: not of this service",
        "set EXPORTS_SECRET_KEY to 32 or more random characters",
        "sftp://user@host:22/in and postgresql://exports@db.example/exports",
        "https://maple.example/api/exports?mail=desk@maple.example and https://maple.example:8000/api",
        "the mail to desk@maple.example: 10:30",
        "/documents/invoice.pdf",
        f"the portal link {PORTAL} was revoked",
        PEM.format("PUBLIC KEY"),
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_value_is_hidden_by_every_spelling_of_its_name(name: str) -> None:
    first, *more = name.split("_")
    camel = first + "".join(word.title() for word in more)
    spellings = (name, name.upper(), f"db_{name}", f"X-{name.replace('_', '-')}", camel, f"{name}s", f"{name}_value")
    for spelling in spellings:
        assert redact(None, "", {spelling: "hunter2"}) == {spelling: HIDDEN}
        assert redact(None, "", {spelling: 1234}) == {spelling: HIDDEN}
        assert redact(None, "", {spelling: ["hunter2"]}) == {spelling: HIDDEN}
        assert hide_secrets(f"{spelling}=hunter2") == f"{spelling}={HIDDEN}"
    # Whether there is a secret may be logged, and facts about it that are not secret.
    for kept in ({name: None}, {name: True}, {f"{name}_id": "7"}, {f"{camel}Hash": "7"}, {f"{name}_at": "7"}):
        assert redact(None, "", dict(kept)) == kept


def test_hidden_names_are_documented() -> None:
    page = (ROOT / "docs/security.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


class SecretHolder(BaseModel):
    """A model that prints its fields."""

    password: str
    note: str


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ({"password": "hunter2", "user": "u"}, {"password": HIDDEN, "user": "u"}),
        ({"a": {"b": [{"token": "hunter2"}]}}, {"a": {"b": [{"token": HIDDEN}]}}),
        ({KEY: 1}, {HIDDEN: 1}),
        ({b"authorization": b"hunter2"}, {"authorization": HIDDEN}),
        ({7: "password=hunter2"}, {"7": f"password={HIDDEN}"}),
        (MappingProxyType({"password": "hunter2"}), {"password": HIDDEN}),
        (UserDict(password="hunter2"), {"password": HIDDEN}),
        (["redis://:hunter2@h", 7, None, True, 1.5], [f"redis://{HIDDEN}@h", 7, None, True, 1.5]),
        (("a", ("password=hunter2",)), ["a", [f"password={HIDDEN}"]]),
        ([(b"cookie", b"hunter2"), ("accept", "text")], [["cookie", HIDDEN], ["accept", "text"]]),
        ({"Bearer hunter2"}, [HIDDEN]),
        (frozenset({"Bearer hunter2"}), [HIDDEN]),
        (b"password=hunter2", "b'password=[hidden]"),
        (ValueError("redis://:hunter2@h"), f"ValueError('redis://{HIDDEN}@h')"),
        (SecretHolder(password="hunter2", note="n"), f"SecretHolder(password={HIDDEN}, note='n')"),
    ],
)
def test_secret_in_every_container_is_hidden(value: object, hidden: object) -> None:
    assert redact(None, "", {"about": value}) == {"about": hidden}


def test_redact_does_not_change_its_argument() -> None:
    given = {"headers": {"cookie": "a=b"}, "list": ["Bearer a"]}
    redact(None, "", given)
    assert given == {"headers": {"cookie": "a=b"}, "list": ["Bearer a"]}


def test_deep_wide_or_recursive_value_is_cut_off() -> None:
    itself: list[Any] = []
    itself.append({"itself": itself})
    assert "[too deep]" in str(redact(None, "", {"about": itself}))
    found = redact(None, "", {"about": list(range(10_000)), "more": dict.fromkeys(range(10_000))})
    assert (len(found["about"]), len(found["more"])) == (100, 100)


def test_value_without_repr_is_logged_by_its_type() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("hunter2")

    assert redact(None, "", {"about": [Broken(), Broken(), 1]}) == {"about": ["[Broken]", "[Broken]", 1]}


@pytest.mark.parametrize(
    "text",
    [
        "://a:" * 20_000,
        "password" * 10_000,
        "password" + " " * 100_000,
        'password="' * 10_000,
        'password\\"' * 10_000,
        "secret=\\'x" * 10_000,
        "token=" + "\\" * 40_000 + '"' + "\\" * 40_000,
        "token-" * 15_000,
        "bearer " + " " * 100_000,
        "http://a" * 10_000,
        "exp_live_" * 10_000,
        "-----BEGIN PRIVATE KEY-----" * 4_000,
    ],
    ids=lambda text: text[:10],
)
def test_adversarial_text_is_redacted_quickly(text: str) -> None:
    began = time.process_time()
    hide_secrets(text)
    assert time.process_time() - began < 5
